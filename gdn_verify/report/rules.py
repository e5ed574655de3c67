"""Published tests' rules on the mutants, as a terminal shows them: a line a rule, and what each lets through."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gdn_verify.mutants.coarse import COARSE
from gdn_verify.mutants.peers import Fate, Row, counts
from gdn_verify.mutants.rules import RULES

SCHEMA = 1
MISSED = (Fate.LET_THROUGH, Fate.NOT_REACHED)


def show(rows: Iterable[Row], absent: Mapping[tuple[str, str], str], console: Console) -> None:
    """Print the table of fates; by rule, the names let through, and the launches in which coarse defects pass."""
    rows = list(rows)
    console.print(_fates(rows))
    for rule in counts(rows):
        own = [row for row in rows if row.rule == rule]
        lists = {str(fate): ", ".join(row.mutant for row in own if row.fate is fate) for fate in MISSED}
        for what, names in {**lists, "passes by launch": _passing(own)}.items():
            if names:
                console.print(Text(f"{rule}, {what}: {names}"), soft_wrap=True)
    for (path, host), reason in absent.items():
        console.print(Text(f"missing: {path} on {host}: {reason}", style="yellow"), soft_wrap=True)


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left", no_wrap=not number)
    return table


def _fates(rows: list[Row]) -> Table:
    table = _table("rule", *Fate)
    for rule, line in counts(rows).items():
        table.add_row(rule, *(str(line[fate] or "·") for fate in Fate))
    return table


def _passing(rows: Iterable[Row]) -> str:
    """The coarse defects that pass in some of a rule's launches, and in how many."""
    passed = [(row.mutant, row.launches - len(row.caught_in), row.launches) for row in rows if row.mutant in COARSE]
    return ", ".join(f"{name} in {some} of {all_}" for name, some, all_ in passed if some)


def as_json(rows: Iterable[Row], absent: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    """The same as data, with what each rule is."""
    rows = list(rows)
    facts = ("project", "test", "reference", "inputs", "comparison", "reduced", "kernel")
    return {
        "schema": SCHEMA,
        "rules": [
            {
                "name": name,
                **{fact: getattr(RULES[name], fact) for fact in facts},
                "parts": sorted(RULES[name].parts),
                "launches": [setting.label for setting, _ in RULES[name].trials],
                "counts": line,
            }
            for name, line in counts(rows).items()
        ],
        "rows": [asdict(row) for row in rows],
        "absent": [{"path": path, "host": host, "reason": why} for (path, host), why in absent.items()],
    }
