"""The matrix as a page, Markdown or HTML by suffix: the terminal's tables, each feature by kind, and the logs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gdn_verify.cases.topics import TOPICS
from gdn_verify.matrix.cells import Aspect, Cell, Key, Matrix, Row, State
from gdn_verify.matrix.table import groups_of, producers_of, summary, words
from gdn_verify.report.page import SUFFIXES, Grid, Section, rendered
from gdn_verify.verdict import ratio_words

__all__ = ["SUFFIXES", "page", "sections"]


def sections(matrix: Matrix) -> Iterator[Section]:
    """The page from top to bottom."""
    yield Section("What each implementation takes, and where it agrees", LEGEND, level=1)
    yield Section("Runs", grid=_runs(matrix))
    if matrix.conflicts:
        yield Section("Where runs differ", "\n\n".join(matrix.conflicts))
    yield Section("Paths", grid=_paths(matrix.ran))
    yield Section("Hand-over", HANDOVER, _handover(matrix.ran))
    yield Section("Padded rows", grid=_padding(matrix.ran))
    for row in matrix.ran:
        yield Section(
            f"{row.path} {row.version} on {row.host}, {row.device}", f"{row.span}; {row.date}", _features(row)
        )
    if away := [row for row in matrix.rows if row.missing]:
        yield Section("Missing", grid=(("path", "host", "why"), [(r.path, r.host, r.missing) for r in away]))
    for row, key, cell in matrix.disagreements():
        yield Section(f"{row.path} on {row.host}: {key}", cell.why, log=cell.case, level=3)


LEGEND = (
    "A number counts cases that agree; ✗ disagree, of so many; in brackets those that disagree by another feature; – "
    "is refused, ? not reached by any case that proves something, blank does not concern the path."
)
HANDOVER = "A column's prefill left the state, a row's decode step went on from it: the worst noise ratio of both."


def _runs(matrix: Matrix) -> Grid:
    rows = [(r.date, r.command, "; ".join(r.devices), f"{r.seconds:.0f}", str(r.cases)) for r in matrix.runs]
    return ("date", "command", "devices", "seconds", "cases"), rows


def _paths(rows: Sequence[Row]) -> Grid:
    kinds = [topic.value for topic in TOPICS]
    head = (
        "path",
        "span",
        "host",
        "device",
        "version",
        *kinds,
        "worst ratio",
        "reach",
        "same bits again",
        "rows' own bits",
    )
    return head, [
        (
            row.path, row.span, row.host, row.device, row.version,
            *(words(row.cells.get(Key(Aspect.KIND, kind))) for kind in kinds),
            ratio_words(row.ratio), f"{row.reach:.0%}",
            str(summary(row, Aspect.DETERMINISM)), str(summary(row, Aspect.INVARIANCE)),
        )
        for row in rows
    ]  # fmt: skip


def _handover(rows: Sequence[Row]) -> Grid:
    producers = producers_of(rows)
    found = []
    for row in rows:
        if cells := {key.name: cell for key, cell in row.of(Aspect.HANDOVER)}:
            found.append((row.path, row.host, row.device, *(_handed(cells.get(name)) for name in producers)))
    return ("consumer", "host", "device", *producers), found


def _handed(cell: Cell | None) -> str:
    if cell is None or cell.state is State.AGREES:
        return "" if cell is None else ratio_words(cell.ratio)
    return f"{words(cell)} {cell.why.splitlines()[0]}" if cell.why else words(cell)


def _padding(rows: Sequence[Row]) -> Grid:
    head = ("path", "host", "kind", "row of", "declared", "observed")
    return head, [
        (
            row.path, row.host, key.kind, key.name, "no pad" if cell.state is State.REFUSED else "a pad",
            f"{'✗ ' if cell.state is State.DISAGREES else ''}{cell.why.removeprefix('not declared; ')}",
        )
        for row in rows
        for key, cell in row.of(Aspect.PADDING)
    ]  # fmt: skip


def _features(row: Row) -> Grid:
    """A line a feature, a column a kind; the reason of what is refused or not reached at the end."""
    kinds = [topic.value for topic in TOPICS if any(True for _ in row.of(Aspect.FEATURE, topic.value))]
    names = dict.fromkeys(key.name for key, _ in row.of(Aspect.FEATURE))
    order = groups_of([row])
    found = []
    for name in sorted(names, key=lambda name: order.index(name.partition(": ")[0])):
        cells = [row.cells.get(Key(Aspect.FEATURE, kind, name)) for kind in kinds]
        found.append((name, *map(words, cells), _reasons(cells)))
    return ("feature", *kinds, "why"), found


def _reasons(cells: Sequence[Cell | None]) -> str:
    return "; ".join(dict.fromkeys(cell.why.splitlines()[0] for cell in cells if cell and cell.why))


def page(matrix: Matrix, suffix: str) -> str:
    """The page in the language of its suffix."""
    return rendered(sections(matrix), suffix, "gdn-verify matrix")
