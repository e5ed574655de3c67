"""One launch's index tensors against the oracle's, table by table and row by row: what a kernel may read of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gdn_verify.cases.case import Batch, Row
from gdn_verify.cases.presentation import IndexType
from gdn_verify.oracles.tables import Tables
from gdn_verify.paths.builder import Setup
from gdn_verify.verdict import Check, Finding

INDEX = {IndexType.I32: torch.int32, IndexType.I64: torch.int64}
NEUTRAL = (0, 1)
"""Counts of a row that is no draft: none at all, or that of a state nothing was accepted onto."""


@dataclass(frozen=True)
class _Launch:
    """What one launch is compared with, and the words that say which it is."""

    tensors: Mapping[str, Tensor]
    want: Tables
    batch: Batch
    setup: Setup
    where: str

    def finding(self, table: str, words: str) -> Finding:
        return Finding(Check.TABLES, table, f"{self.where}: {table}{words}")


def table_findings(
    tensors: Mapping[str, Tensor], want: Tables, batch: Batch, setup: Setup, where: str
) -> Iterator[Finding]:
    """One finding a table that is missing, of another shape or type, or wrong in some row; the first such row."""
    launch = _Launch(tensors, want, batch, setup, where)
    for name, compare in _TABLES.items():
        if name not in tensors:
            if _needed(name, want, batch):
                yield launch.finding(name, f" is missing, of a launch of {_census(batch)}")
        elif wrong := _form(name, tensors[name], launch) or compare(tensors[name], launch):
            yield launch.finding(name, wrong)


def _needed(name: str, want: Tables, batch: Batch) -> bool:
    live = [row for _, row in batch.live_rows()]
    return {
        "has_initial_state": any(row.fresh for row in live),  # without it every row has one
        "num_accepted_tokens": want.num_accepted_tokens is not None,
        "spec_rows": any(row.spec for row in live) and any(not row.spec for row in live),
        "read_indices": any(not row.in_place and not row.fresh for row in live),
    }.get(name, True)


def _census(batch: Batch) -> str:
    words = sorted({_who(row) for row in batch.rows})
    return f"{len(batch.rows)} rows: {', '.join(words)}"


def _form(name: str, table: Tensor, launch: _Launch) -> str:
    """What is wrong with a table's type or shape; "" if nothing is."""
    types = _types(name, launch.setup)
    if table.dtype not in types:
        return f" has dtype {_word(table.dtype)}, it must be {' or '.join(map(_word, types))}"
    rows, columns = len(launch.batch.rows), max(map(len, launch.want.state_indices), default=1)
    length = rows + 1 if name == "query_start_loc" else rows
    flat = name != "state_indices" or (columns == 1 and table.ndim == 1)
    if flat and table.shape != (length,):
        return f" has shape {list(table.shape)}, it must be [{length}]"
    if not flat and (table.ndim != 2 or len(table) != rows or table.shape[1] < columns):
        more = "" if columns > 1 else " or more"
        return f" has shape {list(table.shape)}, it must be [{rows}, {columns}{more}]"
    return ""


def _types(name: str, setup: Setup) -> tuple[torch.dtype, ...]:
    if name in ("has_initial_state", "spec_rows"):
        return (torch.bool,)
    if name == "num_accepted_tokens":
        return torch.int32, torch.int64
    return (INDEX[setup.presentation.index_type],)


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _offsets(table: Tensor, launch: _Launch) -> str:
    """Row n has the tokens from offset n to offset n + 1; rows without tokens repeat an offset."""
    right = launch.want.query_start_loc
    for at, (got, wanted) in enumerate(zip(table.tolist(), right, strict=True)):
        if got != wanted:
            return f"[{at}] is {got}, it must be {wanted} ({_ends(launch, at - 1) if at else 'row 0 begins there'})"
    return ""


def _ends(launch: _Launch, n: int) -> str:
    return f"{_row(launch, n)} of {launch.batch.rows[n].tokens} tokens, and ends there"


def _ids(table: Tensor, launch: _Launch) -> str:
    """A row's slots; the sentinel in every other column, and in all of a row that nobody owns."""
    wide = table.reshape(len(table), -1).tolist()
    sentinel = launch.setup.presentation.sentinel
    for n, (got, ids) in enumerate(zip(wide, launch.want.state_indices, strict=True)):
        wanted = [*ids, *[sentinel] * (len(got) - len(ids))]
        for column, (slot, right) in enumerate(zip(got, wanted, strict=True)):
            if slot != right:
                return f"[{n}, {column}] is {slot}, it must be {right} ({_row(launch, n)})"
    return ""


def _each(table: Tensor, launch: _Launch, allowed: Callable[[int, Row], tuple[object, ...]]) -> str:
    """The first row whose value is none of those `allowed`; no value at all allowed: nothing reads it."""
    for n, (got, row) in enumerate(zip(table.tolist(), launch.batch.rows, strict=True)):
        right = allowed(n, row)
        if right and got not in right:
            return f"[{n}] is {got}, it must be {' or '.join(map(str, right))} ({_row(launch, n)})"
    return ""


def _initial(table: Tensor, launch: _Launch) -> str:
    return _each(table, launch, lambda n, row: (launch.want.has_initial_state[n],) if row.live else ())


def _counts(table: Tensor, launch: _Launch) -> str:
    return _each(table, launch, lambda n, row: (row.accepted,) if row.spec else NEUTRAL)


def _drafts(table: Tensor, launch: _Launch) -> str:
    return _each(table, launch, lambda n, row: (row.spec,) if row.live else ())


def _reads(table: Tensor, launch: _Launch) -> str:
    def allowed(n: int, row: Row) -> tuple[object, ...]:
        return () if row.spec or row.fresh or not row.live else (launch.setup.presentation.physical(row.read_slot),)

    return _each(table, launch, allowed)


_TABLES: dict[str, Callable[[Tensor, _Launch], str]] = {
    "query_start_loc": _offsets,
    "state_indices": _ids,
    "has_initial_state": _initial,
    "num_accepted_tokens": _counts,
    "spec_rows": _drafts,
    "read_indices": _reads,
}


def _row(launch: _Launch, n: int) -> str:
    return f"row {n} is {_who(launch.batch.rows[n])}"


def _who(row: Row) -> str:
    """What a row is, in words."""
    if row.padded:
        return "padding"
    if not row.tokens:
        return "a row without tokens"
    return f"a {'fresh ' * row.fresh}{row.group} row"
