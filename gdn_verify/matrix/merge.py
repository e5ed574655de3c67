"""Runs on several machines as one matrix: a row is a path in a version on a host and a device; the newer cell wins.

What two runs say differently of the same cell is said, not hidden. A row that is missing in one environment gives way
to the same path on the same host that ran in another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import reduce

from gdn_verify.matrix.cells import Cell, Key, Matrix, Row, State

Id = tuple[str, str, str, str]
FIRM = (State.AGREES, State.DISAGREES, State.KNOWN)
"""Words that contradict each other; what one run has not reached another may have."""


def merged(matrices: Sequence[Matrix]) -> Matrix:
    """One matrix of all; older runs first, whatever the order they are given in."""
    rows = sorted((row for matrix in matrices for row in matrix.rows), key=lambda row: row.date)
    said = [line for matrix in matrices for line in matrix.conflicts]
    kept: dict[Id, Row] = {}
    for row in rows:
        before = kept.get(row.id)
        said += [] if before is None else _contradictions(before, row)
        kept[row.id] = row if before is None else _newer(before, row)
    ran = {(row.path, row.host) for row in kept.values() if not row.missing}
    left = [row for row in kept.values() if not row.missing or (row.path, row.host) not in ran]
    runs = dict.fromkeys(run for matrix in matrices for run in matrix.runs)
    order = _order(matrices)
    left.sort(key=lambda row: (order[row.path], row.host, row.device, row.version))
    return Matrix(tuple(left), tuple(sorted(runs, key=lambda run: run.date)), tuple(dict.fromkeys(said)))


def _order(matrices: Sequence[Matrix]) -> dict[str, int]:
    """Paths in the order in which they first stand."""
    names = reduce(lambda seen, row: seen | {row.path: None}, (r for m in matrices for r in m.rows), dict[str, None]())
    return {name: number for number, name in enumerate(names)}


def _newer(before: Row, row: Row) -> Row:
    """The newer row, with what it says nothing of as it was."""
    return replace(row, reach=row.reach or before.reach, cells={**before.cells, **row.cells})


def _contradictions(before: Row, row: Row) -> Iterator[str]:
    for key, now in row.cells.items():
        then = before.cells.get(key)
        if then is not None and {then.state, now.state} <= {*FIRM} and then.state is not now.state:
            yield _said(row, key, before.date, then, now)


def _said(row: Row, key: Key, date: str, then: Cell, now: Cell) -> str:
    where = f"{row.path} {row.version} on {row.host}, {row.device}"
    return f"{where}: {key}: {now.state} on {row.date}, {then.state} on {date}"
