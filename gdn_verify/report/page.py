"""Pages of headings, paragraphs, tables and logs, as Markdown or as HTML that needs no other file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

Grid = tuple[Sequence[str], Sequence[Sequence[str]]]
SUFFIXES = (".md", ".html")


@dataclass(frozen=True)
class Section:
    """A heading, and under it a paragraph, a table and a text to be kept as it is, of which any may be empty."""

    heading: str
    text: str = ""
    grid: Grid | None = None
    log: str = ""
    level: int = 2


def rendered(sections: Iterable[Section], suffix: str, title: str) -> str:
    """The page in the language of its suffix, one of `SUFFIXES`; `title` is HTML's."""
    return _markdown(sections) if suffix == ".md" else _html(sections, title)


def _markdown(sections: Iterable[Section]) -> str:
    parts = []
    for each in sections:
        parts.append(f"{'#' * each.level} {each.heading}")
        parts += [_escaped(each.text)] if each.text else []
        parts += [_md_table(each.grid)] if each.grid and each.grid[1] else []
        parts += [f"```\n{each.log.strip()}\n```"] if each.log else []
    return "\n\n".join(parts) + "\n"


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;")


def _md_table(grid: Grid) -> str:
    head, rows = grid
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_escaped(cell).replace('|', '∣') for cell in line)} |" for line in lines)


def _html(sections: Iterable[Section], title: str) -> str:
    body = []
    for each in sections:
        body.append(f"<h{each.level}>{escape(each.heading)}</h{each.level}>")
        body += [f"<p>{escape(each.text)}</p>"] if each.text else []
        body += [_html_table(each.grid)] if each.grid and each.grid[1] else []
        body += [f"<pre>{escape(each.log.strip())}</pre>"] if each.log else []
    return (
        f"<!doctype html>\n<meta charset=utf-8>\n<title>{escape(title)}</title>\n<style>{STYLE}</style>\n"
        + "\n".join([*body, ""])
    )


STYLE = (
    "body{font:14px system-ui;margin:2em}table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:2px 6px;"
    "text-align:left;vertical-align:top}td.wrong{background:#fcc}"
)


def _html_table(grid: Grid) -> str:
    head, rows = grid
    cells = "".join(f"<th>{escape(name)}" for name in head)
    lines = ("".join(f"<td{' class=wrong' if '✗' in cell else ''}>{escape(cell)}" for cell in row) for row in rows)
    return f"<table>\n<tr>{cells}\n" + "\n".join(f"<tr>{line}" for line in lines) + "\n</table>"
