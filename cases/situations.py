"""Situations: what a case shows that some bug once needed, by name, and which bug needed it.

`TRIGGERS` names, for each bug of the catalogue that a case can show, the situation that exposes it;
`OUT_OF_REACH` says of each other bug why no case can.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.contract import DType, Group, Padding, StateOrder
from gdn_verify.cases.narrow import padding
from gdn_verify.cases.presentation import ConvLayout, IndexType, Poison, Presentation
from gdn_verify.cases.values import Gates, States, Vectors

CHUNK = 64  # tokens that chunk kernels take together

_OfCase = Callable[[Case, Presentation], bool]
_OfBatch = Callable[[Case, Presentation, Batch], bool]
_OfRow = Callable[[Case, Row], bool]


def situations(case: Case, presentation: Presentation) -> set[str]:
    """The names of all situations that the case, so fed, shows in one of its launches or between two."""
    found = {name for name, holds in OF_CASE.items() if holds(case, presentation)}
    for batch in case.batches:
        found |= {name for name, holds in OF_BATCH.items() if holds(case, presentation, batch)}
        rows = [row for _, row in batch.live_rows()]
        found |= {name for name, holds in OF_ROW.items() if any(holds(case, row) for row in rows)}
    return found


def _live(batch: Batch) -> list[Row]:
    return [row for _, row in batch.live_rows()]


def _groups(batch: Batch) -> set[Group]:
    return {row.group for row in _live(batch)}


def _used(batch: Batch) -> set[int]:
    return {slot for row in _live(batch) for slot in row.written}


def _history(case: Case, row: Row) -> bool:
    return not row.fresh and case.values.state is not States.ZEROS


def _pads(batch: Batch) -> set[Padding | None]:
    return {padding(batch, number) for number in range(len(batch.rows))}


def _empty_at(batch: Batch, where: str) -> bool:
    """Whether an empty row of its own slot stands before, between or after the rows with tokens."""
    full = [number for number, row in enumerate(batch.rows) if row.tokens]
    empty = [number for number, row in enumerate(batch.rows) if not row.tokens and not row.padded]
    if not full or not empty:
        return False
    at = {"start": min(empty) < full[0], "end": max(empty) > full[-1]}
    at["middle"] = any(full[0] < number < full[-1] for number in empty)
    return at[where]


def _sentinel_between(batch: Batch) -> bool:
    padded = "".join("p" if row.padded else "l" if row.live else "" for row in batch.rows)
    return "lp" in padded and "pl" in padded[padded.index("lp") :]


def _tails(batch: Batch) -> int:
    return sum(row.tokens % CHUNK > 0 for row in _live(batch) if row.group is Group.PREFILL)


def _accepted_after_draft(case: Case) -> bool:
    tables = [{row.slots for row in _live(batch) if row.spec} for batch in case.batches]
    later = [[row for row in _live(batch) if (row.accepted or 1) > 1] for batch in case.batches[1:]]
    return any(row.slots in before for before, rows in zip(tables, later, strict=False) for row in rows)


def _next(case: Case, holds: Callable[[Batch, Batch], bool]) -> bool:
    return any(holds(before, after) for before, after in pairwise(case.batches))


def _padded_next(before: Batch, after: Batch) -> bool:
    """Whether a row that was live is padding in the next launch of as many rows or fewer."""
    return any(old.live and new.padded for old, new in zip(before.rows, after.rows, strict=False))


OF_CASE: dict[str, _OfCase] = {
    "HV > H": lambda c, _: c.geometry.ratio > 1,
    "HV/H = 3": lambda c, _: c.geometry.ratio == 3,
    "K != V": lambda c, _: c.geometry.K != c.geometry.V,
    "K not a power of two": lambda c, _: bool(c.geometry.K & (c.geometry.K - 1)),
    "C > W-1": lambda c, _: c.geometry.num_spec > 0,
    "scale given": lambda c, _: c.options.scale is not None,
    "scale = 1": lambda c, _: c.options.scale == 1.0,
    "scale = 0": lambda c, _: c.options.scale == 0.0,
    "bf16 state": lambda c, _: c.dtypes.state is DType.BF16,
    "f16 activations": lambda c, _: c.dtypes.activation is DType.F16,
    "weights of another dtype than activations": lambda c, _: c.dtypes.weights is not c.dtypes.activation,
    "gate parameters of another dtype than weights": lambda c, _: c.dtypes.params is not c.dtypes.weights,
    "beta up to 2": lambda c, _: c.options.beta_scale == 2.0,
    "tiny-norm keys": lambda c, _: c.values.k is Vectors.TINY,
    "tiny-norm queries": lambda c, _: c.values.q is Vectors.TINY,
    "huge-norm keys": lambda c, _: c.values.k is Vectors.HUGE,
    "asymmetric state": lambda c, _: c.values.state is States.ASYMMETRIC,
    "strided pool": lambda _, p: p.slot_pad > 0,
    "strided inputs": lambda _, p: p.row_pad > 0,
    "strided table": lambda c, p: p.table_pad > 0 and any(len(batch.rows) > 1 for batch in c.batches),
    "misaligned buffers": lambda _, p: p.misalign > 0,
    "int64 indices": lambda _, p: p.index_type is IndexType.I64,
    "KV state": lambda _, p: p.state_order is StateOrder.KV,
    "conv state channel by channel": lambda _, p: p.conv_layout is ConvLayout.D_CONTIGUOUS,
    "NaN poison": lambda _, p: p.poison is Poison.NAN,
    "several launches": lambda c, _: len(c.batches) > 1,
    "smaller launch after a larger one": lambda c, _: _next(c, lambda a, b: len(_live(b)) < len(_live(a))),
    "launches of one size": lambda c, _: _next(c, lambda a, b: len(b.rows) == len(a.rows)),
    "live row padded in the next launch": lambda c, _: _next(c, _padded_next),
    "draft with accepted > 1 after a draft": lambda c, _: _accepted_after_draft(c),
    "plain row after a draft": lambda c, _: _next(
        c, lambda a, b: any(row.spec for row in _live(a)) and any(not row.spec for row in _live(b))
    ),
}

OF_BATCH: dict[str, _OfBatch] = {
    "one row": lambda _, p, b: len(b.rows) == 1,
    "padded row": lambda _, p, b: any(row.padded and row.tokens for row in b.rows),
    "padded row with a negative id": lambda _, p, b: p.sentinel < 0 and any(row.padded for row in b.rows),
    "padded row with id 0": lambda _, p, b: p.sentinel == 0 and any(row.padded for row in b.rows),
    "padded row with slot 0 live": lambda _, p, b: (
        p.first_slot == 0 and 0 in _used(b) and any(row.padded for row in b.rows)
    ),
    "sentinel row between live rows": lambda _, p, b: _sentinel_between(b),
    "sentinel row that carries a token": lambda _, p, b: Padding.SENTINEL_ROW in _pads(b),
    "trailing empty row": lambda _, p, b: Padding.EMPTY_ROW in _pads(b),
    "trailing empty row with a sentinel": lambda _, p, b: Padding.SENTINEL_EMPTY_ROW in _pads(b),
    "padded tokens": lambda _, p, b: b.pad_tokens > 0,
    "padded row beside drafts": lambda _, p, b: (
        Group.SPEC in _groups(b) and any(row.padded and row.tokens for row in b.rows)
    ),
    "launch of padding alone": lambda _, p, b: bool(b.rows) and all(row.padded for row in b.rows),
    "slot 0 used": lambda _, p, b: p.first_slot == 0 and 0 in _used(b),
    "last slot used": lambda c, p, b: c.slots - 1 in _used(b),
    "free slot between used ones": lambda c, p, b: len(_used(b)) > 1 and len(_used(b)) <= max(_used(b)) - min(_used(b)),
    "slots out of order": lambda _, p, b: any(x.slots > y.slots for x, y in pairwise(_plain(b))),
    "row of length 0 at the start": lambda _, p, b: _empty_at(b, "start"),
    "row of length 0 in the middle": lambda _, p, b: _empty_at(b, "middle"),
    "row of length 0 at the end": lambda _, p, b: _empty_at(b, "end"),
    "row of length 0 without initial state": lambda _, p, b: any(row.fresh and not row.tokens for row in b.rows),
    "padded row without initial state": lambda _, p, b: any(row.fresh and row.padded for row in b.rows),
    "draft padded by column 0 alone": lambda _, p, b: any(row.slots[0] is None for row in _half_padded(b)),
    "draft padded by another column": lambda _, p, b: any(row.slots[0] is not None for row in _half_padded(b)),
    "two rows of several tokens": lambda _, p, b: sum(row.tokens > 1 for row in _live(b)) > 1,
    "several rows with chunk tails": lambda _, p, b: _tails(b) > 1,
    "prefill beside decode rows": lambda _, p, b: {Group.PREFILL, Group.DECODE} <= _groups(b),
    "one-token fresh row beside decode rows": lambda _, p, b: (
        Group.DECODE in _groups(b) and any(row.fresh and row.tokens == 1 for row in _live(b))
    ),
    "draft beside plain rows": lambda _, p, b: Group.SPEC in _groups(b) and len(_groups(b)) > 1,
    "drafts among plain rows, more than 16 tokens": lambda _, p, b: (
        Group.SPEC in _groups(b) and len(_groups(b)) > 1 and b.tokens > 16
    ),
    "many one-token rows beside a long one": lambda _, p, b: (
        sum(row.tokens == 1 for row in _live(b)) >= 5 and any(row.tokens > CHUNK for row in _live(b))
    ),
    "HV/H = 3 and 16 tokens": lambda c, p, b: c.geometry.ratio == 3 and b.tokens >= 16,
}


def _half_padded(batch: Batch) -> list[Row]:
    """Padded rows that name slots all the same, of which none may be touched."""
    return [row for row in batch.rows if row.padded and row.tokens and set(row.slots) != {None}]


def _plain(batch: Batch) -> list[Row]:
    return [row for row in _live(batch) if not row.spec]


OF_ROW: dict[str, _OfRow] = {
    "fresh row": lambda _, r: r.fresh,
    "one-token fresh row": lambda _, r: r.fresh and r.tokens == 1,
    "nonzero initial state": _history,
    "nonzero initial state and more than one chunk": lambda c, r: _history(c, r) and r.tokens > CHUNK,
    "full chunk under decay": lambda c, r: r.tokens >= CHUNK and c.values.gates is not Gates.ZERO,
    "chunk tail": lambda _, r: r.tokens > 1 and r.tokens % CHUNK > 0,
    "chunk tail after a full chunk": lambda _, r: r.tokens > CHUNK and r.tokens % CHUNK > 0,
    "one-token tail after a chunk": lambda _, r: r.tokens > CHUNK and r.tokens % CHUNK == 1,
    "several tokens under decay": lambda c, r: r.tokens > 1 and c.values.gates is not Gates.ZERO,
    "strong decay inside a chunk": lambda c, r: r.tokens > 8 and c.values.gates in (Gates.STRONG, Gates.SPIKE),
    "single spike inside a chunk": lambda c, r: r.tokens > 8 and c.values.gates is Gates.SPIKE,
    "gates of exactly 0 for some tokens": lambda c, r: r.tokens > 1 and c.values.gates is Gates.SPARSE,
    "row shorter than the conv width, with history": lambda c, r: not r.fresh and 1 < r.tokens < c.geometry.W,
    "prefill row with C > W-1": lambda c, r: r.group is Group.PREFILL and c.geometry.num_spec > 0,
    "separate read and write slots": lambda _, r: not r.in_place,
    "decode row that names its own slot to read from": lambda _, r: r.group is Group.DECODE and r.read is not None,
    "fresh row with a slot to read from": lambda _, r: r.fresh and not r.in_place,
    "separate slots and fewer tokens than the conv width": lambda c, r: not r.in_place and r.tokens < c.geometry.W,
    "accepted > 1": lambda _, r: (r.accepted or 1) > 1,
    "accepted = S and L < S": lambda c, r: r.spec and r.accepted == c.geometry.S > r.tokens,
    "draft shorter than S": lambda c, r: r.spec and r.tokens < c.geometry.S,
    "draft of several tokens": lambda _, r: r.spec and r.tokens > 1,
    "draft with K != V": lambda c, r: r.spec and c.geometry.K != c.geometry.V,
    "sentinel among a draft's columns": lambda _, r: r.spec and None in r.slots,
    "sentinel for a draft's state, not the last": lambda _, r: r.spec and None in r.slots[: r.tokens - 1],
    "low-precision activations over a chunk": lambda c, r: r.tokens >= CHUNK and c.dtypes.activation is not DType.F32,
    "bf16 state and a single chunk": lambda c, r: 1 < r.tokens <= CHUNK and c.dtypes.state is DType.BF16,
}

NAMES = frozenset({*OF_CASE, *OF_BATCH, *OF_ROW})
