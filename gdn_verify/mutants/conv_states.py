"""Defects of the conv stage's states, planted in the fallback: which columns of which slot hold a row's history.

Each is the like of a bug of the catalogue, whose file names it. A prompt's slot is wider than its
window of W-1 columns where drafts may follow, and further apart than it is wide in a view of a larger pool.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from gdn_verify.kernels.rows import Rows
from gdn_verify.mutants.inputs import Run
from gdn_verify.mutants.replaced import Function, replaced
from gdn_verify.paths.base import Launch, Path

HISTORY, STORE = "conv._history", "conv._store_window"


def _store(
    pool: Tensor, rows: Rows, history: Tensor, stream: Tensor, first: Tensor, count: Tensor, shift: Tensor
) -> None:
    """Each row's inputs from position `first` of its stream on, `count` of them, stored from column `shift` on.

    What is before the stream's beginning is not stored.
    """
    from gdn_verify.kernels.conv import _locate

    column = torch.arange(pool.shape[2])
    row, column = ((column < count[:, None]) & (first[:, None] + column >= 0)).nonzero(as_tuple=True)
    pool[rows.slots[row, 0], :, shift[row] + column] = stream[_locate(rows, history, row, first[row] + column)]


def head_of_a_wide_state(path: Path) -> Run:
    """A draft's history is taken from the head of its slot, as if the slot had W-1 columns."""

    def wrong(right: Function, launch: Launch) -> Function:
        return lambda pool, rows, width: right(pool, replace(rows, back=torch.zeros_like(rows.back)), width)

    return replaced(path, {HISTORY: wrong})


def whole_slot_as_window(path: Path) -> Run:
    """A prompt's window is all of its slot: what is read ends, and what is stored fills, the columns for drafts too."""

    def wrong(right: Function, launch: Launch) -> Function:
        def store(pool: Tensor, rows: Rows, history: Tensor, stream: Tensor) -> None:
            past, columns = history.shape[1], pool.shape[2]
            first = torch.where(rows.spec, 1, rows.length + past - columns)
            count = torch.where(rows.spec, past + rows.length - 1, columns)
            _store(pool, rows, history, stream, first, count, torch.zeros_like(first))

        return store

    return replaced(path, {STORE: wrong})


def window_read_from_the_end(path: Path) -> Run:
    """A prompt's history is the last W-1 columns of all of its slot, those for drafts included."""

    def wrong(right: Function, launch: Launch) -> Function:
        def history(pool: Tensor, rows: Rows, width: int) -> Tensor:
            back = torch.where(rows.spec, rows.back, pool.shape[2] - (width - 1))
            found: Tensor = right(pool, replace(rows, back=back), width)
            return found

        return history

    return replaced(path, {HISTORY: wrong})


def window_per_token(path: Path) -> Run:
    """A draft stores a window of its own for each token, in the slot of the token's column, and slides none."""

    def wrong(right: Function, launch: Launch) -> Function:
        def store(pool: Tensor, rows: Rows, history: Tensor, stream: Tensor) -> None:
            right(pool, rows, history, stream)
            past = history.shape[1]
            for n in rows.spec.nonzero()[:, 0].tolist():
                start = len(history) * past + int(rows.start[n])
                row = torch.cat([stream[n * past : (n + 1) * past], stream[start : start + int(rows.length[n])]])
                for t, slot in enumerate(rows.slots[n, : int(rows.length[n])].tolist()):
                    if slot >= 0:
                        pool[slot, :, :past] = row[t + 1 : t + 1 + past].T

        return store

    return replaced(path, {STORE: wrong})


def length_from_the_stride(path: Path) -> Run:
    """A slot's columns are counted by how far the next slot is, and a plain row's window is the last of them."""

    def counted(pool: Tensor) -> tuple[Tensor, int]:
        more = max(pool.stride(0) // pool.shape[1] - pool.shape[2], 0)
        return pool.as_strided((*pool.shape[:2], pool.shape[2] + more), pool.stride()), more

    def wrong_history(right: Function, launch: Launch) -> Function:
        def history(pool: Tensor, rows: Rows, width: int) -> object:
            wide, more = counted(pool)
            return right(wide, replace(rows, back=torch.where(rows.spec, rows.back, more)), width)

        return history

    def wrong_store(right: Function, launch: Launch) -> Function:
        def store(pool: Tensor, rows: Rows, history: Tensor, stream: Tensor) -> None:
            wide, more = counted(pool)
            first, past = torch.where(rows.spec, 1, rows.length), history.shape[1]
            _store(wide, rows, history, stream, first, past + rows.length - first, torch.where(rows.spec, 0, more))

        return store

    return replaced(path, {HISTORY: wrong_history, STORE: wrong_store})


def history_replaced_by_zeros(path: Path) -> Run:
    """The window stored of a prompt shorter than it is filled up with zeros: what was there before is lost."""

    def wrong(right: Function, launch: Launch) -> Function:
        def store(pool: Tensor, rows: Rows, history: Tensor, stream: Tensor) -> None:
            kept = history.shape[0] * history.shape[1]
            old = stream[:kept].view(history.shape).masked_fill(~rows.spec[:, None, None], 0)
            right(pool, rows, history, torch.cat([old.flatten(0, 1), stream[kept:]]))

        return store

    return replaced(path, {STORE: wrong})


def squeezed_launch_of_one_token(path: Path) -> Run:
    """A launch of one token loses its first axis on the way to the convolution."""

    def wrong(right: Function, launch: Launch) -> Function:
        def unpack(*args: object) -> tuple[Tensor, ...]:
            x, *rest = right(*args)
            return x.squeeze(), *rest

        return unpack

    return replaced(path, {"stages.unpack": wrong})


def short_prompt_stored_where_it_was_read(path: Path) -> Run:
    """The window of a prompt shorter than it goes to the slot that was read, not to the prompt's own."""

    def wrong(right: Function, launch: Launch) -> Function:
        def store(pool: Tensor, rows: Rows, history: Tensor, stream: Tensor) -> None:
            short = ~rows.spec & ~rows.fresh & (rows.length < history.shape[1])
            slots = rows.slots.clone()
            slots[:, 0] = torch.where(short, rows.read, slots[:, 0])
            right(pool, replace(rows, slots=slots), history, stream)

        return store

    return replaced(path, {STORE: wrong})


def state_sliced_as_one_block(path: Path) -> Run:
    """Of two shards each reads half of a state's channels as they lie, not half of q's, of k's and of v's."""

    def wrong(right: Function, launch: Launch) -> Function:
        g = launch.geometry
        channels = torch.arange(g.D)
        if g.H % 2:  # no two shards of whole key heads
            return right
        parts = channels.split([g.H * g.K, g.H * g.K, g.HV * g.V])
        halves = [torch.cat(half) for half in zip(*(part.chunk(2) for part in parts), strict=True)]
        read = torch.empty_like(channels)
        read[torch.cat(halves)] = channels
        return lambda pool, rows, width: right(pool, rows, width)[..., read]

    return replaced(path, {HISTORY: wrong})
