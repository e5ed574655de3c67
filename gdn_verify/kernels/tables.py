"""Index tensors of a launch from plain descriptions of its rows, and the commit after a speculative launch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from gdn_verify.kernels.rows import DROPPED, Tables, expect_shape, legal_slots


@dataclass(frozen=True)
class Row:
    """One row of a launch: `length` tokens, `slots` one slot (plain) or one per token (speculative).

    `accepted` is the count accepted from the row's previous launch, None for a plain row; `fresh` means no
    initial state; `read_slot` is where a plain row reads its state, if not in `slots[0]`. A row with tokens
    and a sentinel for a slot is padded. Raises ValueError on construction for a record without meaning.
    """

    length: int
    slots: tuple[int, ...]
    accepted: int | None = None
    fresh: bool = False
    read_slot: int | None = None

    def __post_init__(self) -> None:
        if self.length < 0:
            raise ValueError(f"length={self.length} is negative; a row without tokens has length 0")
        if not self.slots:
            raise ValueError("slots is empty; give a padded row the pad id")
        if self.accepted is None and len(self.slots) > 1:
            raise ValueError(f"slots={self.slots} of a plain row; it has one, or give `accepted`")
        if self.accepted is not None and self.read_slot is not None:
            raise ValueError("read_slot of a speculative row; it reads slots[accepted - 1]")


def build_tables(
    rows: Sequence[Row],
    *,
    width: int | None = None,
    pad_to: int | None = None,
    pad_slot_id: int = -1,
    dtype: torch.dtype = torch.int32,
    device: torch.device | str = "cpu",
) -> Tables:
    """The index tensors of a launch, padded to `pad_to` rows for a captured graph.

    `width` is S; None takes the widest speculative row, and a one-dimensional table where there is none.
    Shorter rows are filled with `pad_slot_id`; the rows added by `pad_to` have only that, no tokens
    (query_start_loc repeats), a count of 1 and an initial state, which nothing reads. Accepted counts and
    spec_rows are there exactly if the table is two-dimensional, read_indices if any row has a read slot: for
    a fixed `width` a replayed launch has tensors of the same shapes. Raises ValueError if the rows do not fit.
    """
    rows = _padded(rows, pad_to, pad_slot_id)
    spec = [row.accepted is not None for row in rows]
    if width is None and any(spec):
        width = max(len(row.slots) for row in rows)
    for n, row in enumerate(rows):
        if len(row.slots) > (width or 1):
            raise ValueError(f"width={width}: row {n} has {len(row.slots)} slots; widen the table")

    def tensor(values: Sequence[object], dtype: torch.dtype) -> Tensor:
        return torch.tensor(values, dtype=dtype, device=device)

    filled = [row.slots + (pad_slot_id,) * ((width or 1) - len(row.slots)) for row in rows]
    slots = tensor(filled, dtype).reshape(len(rows), width or 1)
    reads = [row.slots[0] if row.read_slot is None else row.read_slot for row in rows]
    return Tables(
        query_start_loc=tensor([0, *accumulate(row.length for row in rows)], dtype),
        state_indices=slots[:, 0] if width is None else slots,
        has_initial_state=tensor([not row.fresh for row in rows], torch.bool),
        num_accepted_tokens=None if width is None else tensor([row.accepted or 1 for row in rows], dtype),
        spec_rows=None if width is None else tensor(spec, torch.bool),
        read_indices=tensor(reads, dtype) if any(row.read_slot is not None for row in rows) else None,
    )


def _padded(rows: Sequence[Row], pad_to: int | None, pad_slot_id: int) -> list[Row]:
    missing = 0 if pad_to is None else pad_to - len(rows)
    if missing < 0:
        raise ValueError(f"pad_to={pad_to} is less than the {len(rows)} rows; capture a larger launch")
    return [*rows, *[Row(length=0, slots=(pad_slot_id,))] * missing]


def state_slots(blocks: Tensor, tokens: Tensor, block: int) -> Tensor:
    """Slots [N] of the states after the first `tokens` [N] of each row's request, where one is kept every `block`.

    Column c of `blocks` [N, M] has the slot of the state after (c + 1) · `block` tokens, or after the last token where
    that comes before. `block` is the state cache's own, which need not be that of other caches. `DROPPED` where
    there are no tokens. Raises ValueError for tokens that end behind the last column.
    """
    expect_shape("tokens", tokens, (blocks.shape[0],))
    column = (tokens.long() - 1).div(block, rounding_mode="floor")
    if (column >= blocks.shape[1]).any():
        row = int(column.argmax())
        raise ValueError(
            f"tokens[{row}]={int(tokens[row])} end in column {int(column[row])} of blocks of {block} tokens, and "
            f"blocks has {blocks.shape[1]} columns; give the block size of the state cache"
        )
    slots = blocks.long().gather(1, column.clamp_min(0)[:, None])[:, 0]
    return torch.where(column < 0, DROPPED, slots)


def commit(
    pool: Tensor,
    conv_pool: Tensor,
    table: Tensor,
    num_accepted_tokens: Tensor,
    *,
    width: int | None = None,
    pad_slot_id: int | None = None,
) -> None:
    """Makes the accepted prefix of a speculative launch the rows' plain state, in both pools, bit for bit.

    With a = num_accepted_tokens[n] ∈ [1, S]: slot table[n, a-1] of `pool` [P, …] is copied to slot
    table[n, 0], and in slot table[n, 0] of `conv_pool` [P, D, C] columns [a-1, a+W-2) to [0, W-1); the rows'
    next accepted count is 1. `table` [N, S], `width` W, by default the one for which C = W-1 + S-1. A row
    whose column 0 or a-1 is a sentinel (outside [0, P), or `pad_slot_id`) is left alone. Raises ValueError
    for a count outside [1, S].
    """
    expect_shape("table", table, (None, None))
    expect_shape("num_accepted_tokens", num_accepted_tokens, (table.shape[0],))
    slots = legal_slots(table, min(pool.shape[0], conv_pool.shape[0]), pad_slot_id)
    used = (slots >= 0).any(1)
    slots, back = slots[used], num_accepted_tokens.long()[used] - 1
    if ((back < 0) | (back >= table.shape[1])).any():
        raise ValueError(f"num_accepted_tokens={num_accepted_tokens.tolist()} must be in [1, {table.shape[1]}]")
    source = slots.gather(1, back[:, None])[:, 0]
    kept = (source >= 0) & (slots[:, 0] >= 0)
    target, source, back = slots[kept, 0], source[kept], back[kept]
    pool[target] = pool[source]
    past = conv_pool.shape[2] - table.shape[1] + 1 if width is None else width - 1
    column = torch.arange(past, device=table.device)
    history = conv_pool[target[:, None], :, back[:, None] + column]
    conv_pool[target[:, None], :, column] = history
