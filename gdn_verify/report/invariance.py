"""Batch invariance as a terminal shows it: a line for each path, host and kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gdn_verify.cases.codec import CaseFile, dumps
from gdn_verify.invariance import Fact


def show(facts: Iterable[Fact], absent: Mapping[tuple[str, str], str], console: Console, *, law: bool) -> None:
    """Print the table, and a case of each fact that breaks the law."""
    facts = list(facts)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    for name in ("path", "host", "kind", "a row's bits", "claimed"):
        table.add_column(name, no_wrap=True)
    for name in ("rows", "differ alone", "differ elsewhere"):
        table.add_column(name, justify="right")
    for fact in facts:
        word = ("its own" if fact.bitwise else "depend on the others") if fact.rows else "not seen"
        counts = (str(fact.rows), str(fact.alone or "·"), str(fact.elsewhere or "·"))
        claimed = "yes" if fact.claimed else ""
        style = "red" if fact.breaks(law) else ""
        table.add_row(fact.path, fact.host, fact.kind, word, claimed, *counts, style=style)
    console.print(table)
    for (path, host), reason in absent.items():
        console.print(Text(f"missing: {path} on {host}: {reason}", style="yellow"), soft_wrap=True)
    for fact in facts:
        if fact.breaks(law) and fact.shows:
            console.print(Text(f"{fact.path} on {fact.host}, {fact.kind}: a row depends on the others:\n{_file(fact)}"))


def _file(fact: Fact) -> str:
    return dumps(CaseFile(*fact.shows[0])) if fact.shows else ""


def as_json(facts: Iterable[Fact], absent: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    """The same as data."""
    names = ("path", "host", "kind", "claimed", "rows", "alone", "elsewhere", "bitwise")
    return {
        "schema": 1,
        "rows": [{**{name: getattr(fact, name) for name in names}, "case": _file(fact)} for fact in facts],
        "absent": [{"path": path, "host": host, "reason": why} for (path, host), why in absent.items()],
    }
