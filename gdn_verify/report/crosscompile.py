"""A cross compilation as a terminal shows it: a line for each kernel and chip, then what is at fault."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gdn_verify.crosscompile import NotCaptured, Report, Row
from gdn_verify.emulator.crosscompile.targets import CHIPS

_COLUMNS = ("configurations", "at fault", "registers", "spilled", "scratch", "scalar spills", "shared", "of", "seconds")
"""Configurations counted; the most that any of them needs; the seconds of all. Registers and bytes a thread, shared
memory a block."""


def show(report: Report, console: Console) -> None:
    """Print the table, one fault of each kernel and chip, and what was not captured."""
    groups = [list(rows) for _, rows in groupby(sorted(report.rows, key=_group), key=_group)]
    console.print(_table(groups))
    for rows in groups:
        _show_fault([row for row in rows if not row.verdict.ok], console)
    for line, required in _absences(report.absent):
        console.print(Text(line, style="bold red" if required else "yellow"), soft_wrap=True)
    words = "every configuration compiles and fits" if report.ok else "not every configuration is right"
    console.print(Text(words, style="bold green" if report.ok else "bold red"))


def _group(row: Row) -> tuple[str, str, int]:
    return row.subject, row.kernel, list(CHIPS).index(row.chip)


def _table(groups: Iterable[Sequence[Row]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    for name in ("path", "kernel", "chip"):
        table.add_column(name, overflow="fold")
    for name in _COLUMNS:
        table.add_column(name, justify="right")
    for rows in groups:
        bad = sum(not row.verdict.ok for row in rows)
        table.add_row(*_cells(rows, bad), style="red" if bad else "")
    return table


def _cells(rows: Sequence[Row], bad: int) -> list[str]:
    first, chip = rows[0], CHIPS[rows[0].chip]
    needs = [row.compiled.resources for row in rows if row.compiled.resources]
    names = ("registers", "spill_bytes", "scratch_bytes", "scalar_spills", "shared_bytes")
    most = [str(max(getattr(need, name) for need in needs)) if needs else "" for name in names]
    seconds = f"{sum(row.compiled.seconds for row in rows):.1f}"
    words = [first.subject, first.kernel, chip.name, str(len(rows)), str(bad or "·")]
    return [*words, *(word if word != "0" else "·" for word in most), str(chip.shared_memory), seconds]


def _show_fault(rows: Sequence[Row], console: Console) -> None:
    if not rows:
        return
    row = rows[0]
    more = f" (and {len(rows) - 1} more configurations; --json shows all)" if len(rows) > 1 else ""
    where = f"{row.chip}: {row.kernel} [{row.configuration}], launched by {row.subject}, {row.launch}"
    console.print(Text(f"{where}: {'; '.join(row.verdict.faults)}{more}", style="red"), soft_wrap=True)


def _absences(absent: Iterable[NotCaptured]) -> list[tuple[str, bool]]:
    """One line for each subject and reason, with all chips it holds for."""
    chips: dict[tuple[str, str, bool], list[str]] = {}
    for a in absent:
        chips.setdefault((a.subject, a.reason, a.required), []).append(a.chip)
    return [
        (f"not captured: {subject} on {', '.join(names)}: {reason}", required)
        for (subject, reason, required), names in chips.items()
    ]
