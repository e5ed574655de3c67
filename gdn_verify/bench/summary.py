"""Runs arranged for a reader: a panel a run and problem, a line a contender, a cell a number or lengths of rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gdn_verify.bench.record import NULL, TOUCH, Column, Record, Run, Verdict

Problem = tuple[int, int, int, int, int, str]
"""H, HV, K, V, S (0 for a prefill) and what the states are."""


@dataclass(frozen=True)
class Line:
    """One contender's records by number or lengths of rows."""

    name: str
    version: str
    span: str
    cells: dict[Column, Record]


@dataclass(frozen=True)
class Panel:
    """All lines of one problem in one run: yardsticks first, then by stages. `touch` is each column's fastest pass."""

    run: Run
    problem: Problem
    lines: tuple[Line, ...]
    touch: dict[Column, Record]

    @property
    def columns(self) -> list[Column]:
        """The numbers or lengths of rows that were looked at."""
        return sorted({column for line in self.lines for column in line.cells})

    def share(self, record: Record) -> float | None:
        """The time of `touch` over that of the record; None for an empty launch, and where nothing was touched."""
        touch = self.touch.get(record.column)
        return None if touch is None or record.contender == NULL else touch.device.median / record.device.median

    @property
    def floor_bytes(self) -> dict[Column, int]:
        """The most bytes that any span here must move, by column: those of a whole decode, if one took part."""
        records = [record for line in self.lines for record in line.cells.values()]
        return {column: max(r.floor_bytes for r in records if r.column == column) for column in self.columns}


def panels(runs: Iterable[Run]) -> Iterator[Panel]:
    """Panels ordered by problem, then by run."""
    found = [(problem, run) for run in runs for problem in dict.fromkeys(record.problem for record in run.records)]
    for problem, run in sorted(found, key=lambda pair: pair[0]):
        yield _panel(run, problem)


def _panel(run: Run, problem: Problem) -> Panel:
    records = [record for record in run.records if record.problem == problem]
    touch = _fastest([record for record in records if _touches(record)])
    lines: dict[tuple[str, str, str], dict[Column, Record]] = {}
    for record in (*touch.values(), *(record for record in records if not _touches(record))):
        name = TOUCH if _touches(record) else record.contender
        lines.setdefault((name, record.version, record.span), {})[record.column] = record
    ordered = sorted(lines.items(), key=lambda item: (item[0][2], item[0][0] != NULL))
    return Panel(run, problem, tuple(Line(*key, cells) for key, cells in ordered), touch)


def _touches(record: Record) -> bool:
    return record.verdict is Verdict.YARDSTICK and record.contender.startswith(TOUCH)


def _fastest(records: Iterable[Record]) -> dict[Column, Record]:
    best: dict[Column, Record] = {}
    for record in sorted(records, key=lambda record: record.device.median, reverse=True):
        best[record.column] = record
    return best
