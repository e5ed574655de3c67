"""Rows of any length cut into blocks, a program each, with nothing but query_start_loc to go by."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def find_block(query_start_loc, block, num_rows, BT, NP: tl.constexpr):
    """(row, first token of the row, its length, where in the row the block begins); behind its end if there is none.

    Row n has its blocks from query_start_loc[n] // BT + n on, so that T // BT + N blocks hold all rows of all lengths.
    NP is a power of two that holds the rows.
    """
    n = tl.arange(0, NP)
    begins = tl.load(query_start_loc + n, mask=n < num_rows, other=0).to(tl.int64) // BT + n
    row = tl.sum(((n < num_rows) & (begins <= block)).to(tl.int32), 0) - 1
    first = tl.load(query_start_loc + row).to(tl.int64)
    length = tl.load(query_start_loc + row + 1).to(tl.int64) - first
    return row, first, length, (block - (first // BT + row)) * BT


@triton.jit
def legal_slot(indices, at, num_slots, PAD: tl.constexpr):
    """(slot, whether the id is one)."""
    slot = tl.load(indices + at).to(tl.int64)
    legal = (slot >= 0) & (slot < num_slots)
    if PAD is not None:
        legal = legal & (slot != PAD)
    return slot, legal


@triton.jit
def find_slots(
    state_indices, read_indices, has_initial_state, row, num_slots, stride_index, stride_read, PAD: tl.constexpr
):
    """(slot that is written, slot that is read, whether it holds a state, whether the row is live)."""
    own, live = legal_slot(state_indices, row * stride_index, num_slots, PAD)
    known = live
    if has_initial_state is not None:
        known = tl.load(has_initial_state + row) != 0
    read = own
    if read_indices is not None:
        read, readable = legal_slot(read_indices, row * stride_read, num_slots, PAD)
        live = live & (readable | (known == 0))
    return own, read, known, live
