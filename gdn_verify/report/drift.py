"""Drift as a terminal shows it: a line for each path, host and type of state, two columns for each number of steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gdn_verify.drift import Drift


def show(found: Iterable[Drift], absent: Mapping[tuple[str, str], str], console: Console) -> None:
    """Print the table, and what could not be measured."""
    rows = list(found)
    steps = sorted({row.steps for row in rows})
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    for name in ("path", "host", "state"):
        table.add_column(name, no_wrap=True)
    for count in steps:
        table.add_column(f"o @{count}", justify="right")
        table.add_column(f"state @{count}", justify="right")
    for key, group in groupby(rows, key=lambda row: (row.path, row.host, row.state.value)):
        errors = [f"{error:.1e}" for row in group for error in (row.output_error, row.state_error)]
        table.add_row(*key, *errors)
    console.print(table)
    for (path, host), reason in absent.items():
        console.print(Text(f"missing: {path} on {host}: {reason}", style="yellow"), soft_wrap=True)


def as_json(found: Iterable[Drift], absent: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    """The same as data."""
    return {
        "schema": 1,
        "rows": [{**asdict(row), "state": row.state.value} for row in found],
        "absent": [{"path": path, "host": host, "reason": why} for (path, host), why in absent.items()],
    }
