"""Which rows of a launch are live, and where their state is read and written.

Every stage that touches a state pool asks this module the same question, so the stages cannot disagree about
who is padding. Rows are *selected* here and gathered by index afterwards: what padded rows, free slots and
slots of rows without initial state hold is never multiplied by zero, it is never read.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

INDEX_DTYPES = (torch.int32, torch.int64)
POOL_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
DROPPED = -1
"""The slot that marks, in `Rows.slots`, a state that is not to be stored."""


def expect_shape(name: str, tensor: Tensor, shape: tuple[int | None, ...]) -> None:
    """Raises ValueError unless `tensor` has this shape; None stands for any size."""
    actual = tensor.shape
    fits = len(actual) == len(shape)
    for size, expected in zip(actual, shape, strict=False):
        fits = fits and (expected is None or size == expected)
    if not fits:
        wanted = ", ".join("any" if e is None else str(e) for e in shape)
        raise ValueError(f"{name} has shape {list(actual)}; it must be [{wanted}]")


def expect_dtype(name: str, tensor: Tensor, dtypes: tuple[torch.dtype, ...]) -> None:
    """Raises ValueError unless `tensor` has one of `dtypes`."""
    if tensor.dtype not in dtypes:
        raise ValueError(f"{name} has dtype {tensor.dtype}; convert it to one of {[str(d) for d in dtypes]}")


@dataclass(frozen=True)
class Tables:
    """The index tensors of one launch of N rows; all on the device of the tokens, int32 or int64, any strides.

    - `query_start_loc` [N+1]: row n has the tokens [query_start_loc[n], query_start_loc[n+1]).
    - `state_indices` [N] or [N, S]: slots of the row's states; a plain row has one slot, in column 0.
    - `has_initial_state` [N] bool; None means that every row has one.
    - `num_accepted_tokens` [N]: accepted count a of a speculative row, in [1, S]; None means no such row.
    - `spec_rows` [N] bool: the speculative rows of a mixed launch; None means all rows where
      `num_accepted_tokens` is given. The accepted count of the other rows is not looked at.
    - `read_indices` [N]: slots that plain rows read from, where those differ from the slots they write.
      Speculative rows read through `state_indices` alone. A row without initial state does not read.

    A wrong shape or dtype raises ValueError on construction.
    """

    query_start_loc: Tensor
    state_indices: Tensor
    has_initial_state: Tensor | None = None
    num_accepted_tokens: Tensor | None = None
    spec_rows: Tensor | None = None
    read_indices: Tensor | None = None

    def __post_init__(self) -> None:
        shape = (self.rows,) if self.state_indices.ndim == 1 else (self.rows, None)
        expect_shape("state_indices", self.state_indices, shape)
        if self.width < 1:
            raise ValueError("state_indices has no columns; a row needs at least one slot")
        expect_shape("query_start_loc", self.query_start_loc, (self.rows + 1,))
        for name in ("query_start_loc", "state_indices", "num_accepted_tokens", "read_indices"):
            if (indices := getattr(self, name)) is not None:
                expect_dtype(name, indices, INDEX_DTYPES)
        for name in ("has_initial_state", "num_accepted_tokens", "spec_rows", "read_indices"):
            if (per_row := getattr(self, name)) is not None:
                expect_shape(name, per_row, (self.rows,))

    @property
    def rows(self) -> int:
        """N."""
        return self.state_indices.shape[0]

    @property
    def width(self) -> int:
        """S, the number of slots that a row of the table has."""
        return 1 if self.state_indices.ndim == 1 else self.state_indices.shape[1]


@dataclass(frozen=True)
class Rows:
    """The R live rows of a launch, longest first; every field is int64 or bool [R], `slots` is [R, S].

    `index` is the row's place in the launch, `read` the slot its recurrent state is read from, `slots` where
    states are written (`DROPPED`: nowhere), `back` the accepted count minus one (0 for plain rows). The conv
    state of a speculative row is in `slots[:, 0]`.
    """

    index: Tensor
    start: Tensor
    length: Tensor
    fresh: Tensor
    spec: Tensor
    back: Tensor
    read: Tensor
    slots: Tensor

    @cached_property
    def tokens(self) -> tuple[Tensor, Tensor, Tensor]:
        """Position in its row, row and packed position of every live token, ordered by position, then row.

        Rows are sorted by length, so the tokens at position t belong to the first rows, in order.
        """
        longest = int(self.length[0]) if len(self.length) else 0
        position = torch.arange(longest, device=self.length.device)
        step, row = (position[:, None] < self.length).nonzero(as_tuple=True)
        return step, row, self.start[row] + step


def legal_slots(indices: Tensor, num_slots: int, pad_slot_id: int | None) -> Tensor:
    """`indices` as int64, with `DROPPED` in place of every id outside [0, num_slots) or equal to the pad id."""
    indices = indices.long()
    legal = (indices >= 0) & (indices < num_slots)
    if pad_slot_id is not None:
        legal &= indices != pad_slot_id
    return torch.where(legal, indices, DROPPED)


def live_rows(
    tables: Tables,
    num_tokens: int,
    num_slots: int,
    *,
    conv: bool,
    pad_slot_id: int | None = None,
    validate: bool = True,
) -> Rows:
    """Selects the live rows of a launch over `num_tokens` packed tokens and pools of `num_slots` slots.

    A row is live if it has tokens and its slots are legal ids: a plain row's own slot, and its read slot
    unless it has no initial state; a speculative row's column a-1, and with `conv` column 0 too, where its
    conv state lives. `validate` raises ValueError for a query_start_loc that is not a partition of the
    tokens, an accepted count outside [1, S], a speculative row longer than S, or two live rows that write
    one slot; it reads the tables back from the device. Without it an illegal count makes the row padded.
    """
    starts = tables.query_start_loc.long()
    length = starts.diff()
    table = tables.state_indices.reshape(tables.rows, tables.width)
    slots = legal_slots(table, num_slots, pad_slot_id)
    spec, back = _accepted(tables, length)
    fresh = torch.zeros_like(spec) if tables.has_initial_state is None else ~tables.has_initial_state.bool()
    read = slots.gather(1, back.clamp(0, tables.width - 1)[:, None])[:, 0]
    if tables.read_indices is not None:
        read = torch.where(spec, read, legal_slots(tables.read_indices, num_slots, pad_slot_id))
    own = (slots[:, 0] >= 0) | (spec & (not conv))
    readable = (read >= 0) | (fresh & ~spec)
    live = (length > 0) & (back >= 0) & (back < tables.width) & own & readable
    if validate:
        _check_partition(starts, num_tokens)
        if tables.num_accepted_tokens is not None:
            _check_spec_rows(slots, spec, back, length)
    index = live.nonzero()[:, 0]
    index = index[length[index].argsort(descending=True, stable=True)]
    rows = Rows(index, *(x[index] for x in (starts[:-1], length, fresh, spec, back, read, slots)))
    if validate:
        _check_distinct(rows)
    return rows


def _accepted(tables: Tables, length: Tensor) -> tuple[Tensor, Tensor]:
    """Which rows are speculative, and their accepted counts minus one; 0 for plain rows."""
    if tables.num_accepted_tokens is None:
        if tables.spec_rows is not None:
            raise ValueError("spec_rows is given without num_accepted_tokens; give both or neither")
        return torch.zeros_like(length, dtype=torch.bool), torch.zeros_like(length)
    back = tables.num_accepted_tokens.long() - 1
    if tables.spec_rows is None:
        return torch.ones_like(length, dtype=torch.bool), back
    return tables.spec_rows.bool(), torch.where(tables.spec_rows.bool(), back, 0)


def _check_partition(starts: Tensor, num_tokens: int) -> None:
    bounds = starts.tolist()
    if bounds[0] != 0 or bounds[-1] > num_tokens or any(b < a for a, b in pairwise(bounds)):
        raise ValueError(
            f"query_start_loc={bounds} must rise from 0 to at most the {num_tokens} tokens given; "
            "repeat its last value for rows without tokens"
        )


def _check_spec_rows(slots: Tensor, spec: Tensor, back: Tensor, length: Tensor) -> None:
    width = slots.shape[1]
    used = spec & (length > 0) & (slots >= 0).any(1)
    wrong = used & ((back < 0) | (back >= width))
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise ValueError(
            f"num_accepted_tokens[{row}]={int(back[row]) + 1} is outside [1, {width}], the columns of "
            "state_indices; use 1 after a prefill, decode or commit"
        )
    wrong = used & (length > width)
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise ValueError(
            f"speculative row {row} has {int(length[row])} tokens but state_indices has {width} columns; "
            "widen the table, or launch the row as a plain one (spec_rows)"
        )


def _check_distinct(rows: Rows) -> None:
    column = torch.arange(rows.slots.shape[1], device=rows.slots.device)
    stored = column < torch.where(rows.spec, rows.length, 1)[:, None]
    row, at = (stored & (rows.slots >= 0)).nonzero(as_tuple=True)
    written, order = rows.slots[row, at].sort()
    twice = (written.diff() == 0).nonzero()[:, 0]
    if len(twice):
        first, second = (int(rows.index[row[order[int(twice[0]) + i]]]) for i in (0, 1))
        raise ValueError(
            f"state_indices: rows {first} and {second} both write slot {int(written[twice[0]])}; "
            "the write slots of a launch must be distinct"
        )
