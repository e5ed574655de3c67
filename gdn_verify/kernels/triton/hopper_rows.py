"""Rows and their slots in Gluon, as `varlen` finds them in Triton, and zeros where no state is."""

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl


@gluon.jit
def find_segment(query_start_loc, part, num_rows, segment_tokens, NP: gl.constexpr, WHOLE: gl.constexpr):
    """(row, its first token, its length, where in it the segment begins); segments that are WHOLE are rows.

    As `varlen.find_block` counts: behind the row's end if there is none.
    """
    row = part
    if not WHOLE:
        n = gl.arange(0, NP, gl.BlockedLayout([1], [32], [4], [0]))
        begins = gl.load(query_start_loc + n, mask=n < num_rows, other=0).to(gl.int32) // segment_tokens + n
        row = gl.sum(((n < num_rows) & (begins <= part)).to(gl.int32), 0) - 1
    first = gl.load(query_start_loc + row).to(gl.int32)
    length = gl.load(query_start_loc + row + 1).to(gl.int32) - first
    if WHOLE:
        return row, first, length, first * 0
    else:
        return row, first, length, (part - (first // segment_tokens + row)) * segment_tokens


@gluon.jit
def legal_slot(indices, at, num_slots, PAD: gl.constexpr):
    """(slot, whether the id is one)."""
    slot = gl.load(indices + at).to(gl.int64)
    legal = (slot >= 0) & (slot < num_slots)
    if PAD is not None:
        legal = legal & (slot != PAD)
    return slot, legal


@gluon.jit
def find_slots(
    state_indices, read_indices, has_initial_state, row, num_slots, stride_index, stride_read, PAD: gl.constexpr
):
    """(slot that is written, slot that is read, whether it holds a state, whether the row is live)."""
    own, live = legal_slot(state_indices, row * stride_index, num_slots, PAD)
    known = live
    if has_initial_state is not None:
        known = gl.load(has_initial_state + row) != 0
    read = own
    if read_indices is not None:
        read, readable = legal_slot(read_indices, row * stride_read, num_slots, PAD)
        live = live & (readable | (known == 0))
    return own, read, known, live


@gluon.jit
def zero_rows(out, start, stop, step, stride_out, COLUMNS: gl.constexpr):
    """Zeros in these columns of tokens start, start + step, …"""
    LAYOUT: gl.constexpr = gl.BlockedLayout([1], [32], [4], [0])
    lanes = gl.arange(0, COLUMNS, LAYOUT)
    nothing = gl.full([COLUMNS], 0, out.dtype.element_ty, LAYOUT)
    for token in range(start, stop, step):
        gl.store(out + token.to(gl.int64) * stride_out + lanes, nothing)


@gluon.jit
def zero_pads(
    out, query_start_loc, row, first, start, length, live, num_rows, num_tokens, stride_out, COLUMNS: gl.constexpr
):
    """Zeros in these columns of a padded row's segment, and in a row's share of the tokens beyond the last row."""
    if start == 0:
        end = gl.load(query_start_loc + num_rows).to(gl.int32)
        zero_rows(out, end + row, num_tokens, num_rows, stride_out, COLUMNS)
    if not live:
        zero_rows(out, first + start, first + start + length, 1, stride_out, COLUMNS)
