"""Runs arranged for a reader: a panel a run and problem, a line a contender, a cell a number of rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gdn_verify.bench.record import NULL, TOUCH, Record, Run, Verdict

Problem = tuple[int, int, int, int, int, str]
"""H, HV, K, V, S and the state's dtype."""


@dataclass(frozen=True)
class Line:
    """One contender's records by number of rows."""

    name: str
    version: str
    span: str
    cells: dict[int, Record]


@dataclass(frozen=True)
class Panel:
    """All lines of one problem in one run: yardsticks first, then by stages. `touch` is the fastest pass for each N."""

    run: Run
    problem: Problem
    lines: tuple[Line, ...]
    touch: dict[int, Record]

    @property
    def rows(self) -> list[int]:
        """The numbers of rows that were looked at."""
        return sorted({rows for line in self.lines for rows in line.cells})

    def share(self, record: Record) -> float | None:
        """The time of `touch` over that of the record; None for an empty launch, and where nothing was touched."""
        touch = self.touch.get(record.rows)
        return None if touch is None or record.contender == NULL else touch.device.median / record.device.median

    @property
    def floor_bytes(self) -> dict[int, int]:
        """The most bytes that any span here must move, for each N: those of a whole decode, if one took part."""
        records = [record for line in self.lines for record in line.cells.values()]
        return {rows: max(r.floor_bytes for r in records if r.rows == rows) for rows in self.rows}


def panels(runs: Iterable[Run]) -> Iterator[Panel]:
    """Panels ordered by problem, then by run."""
    found = [(problem, run) for run in runs for problem in dict.fromkeys(record.problem for record in run.records)]
    for problem, run in sorted(found, key=lambda pair: pair[0]):
        yield _panel(run, problem)


def _panel(run: Run, problem: Problem) -> Panel:
    records = [record for record in run.records if record.problem == problem]
    touch = _fastest([record for record in records if _touches(record)])
    lines: dict[tuple[str, str, str], dict[int, Record]] = {}
    for record in (*touch.values(), *(record for record in records if not _touches(record))):
        name = TOUCH if _touches(record) else record.contender
        lines.setdefault((name, record.version, record.span), {})[record.rows] = record
    ordered = sorted(lines.items(), key=lambda item: (item[0][2], item[0][0] != NULL))
    return Panel(run, problem, tuple(Line(*key, cells) for key, cells in ordered), touch)


def _touches(record: Record) -> bool:
    return record.verdict is Verdict.YARDSTICK and record.contender.startswith(TOUCH)


def _fastest(records: Iterable[Record]) -> dict[int, Record]:
    best: dict[int, Record] = {}
    for record in sorted(records, key=lambda record: record.device.median, reverse=True):
        best[record.rows] = record
    return best
