"""The state at which each segment of a row starts, from the pool's one and what segments do to it: launch 3 of four."""

from __future__ import annotations

import triton
import triton.language as tl

from gdn_verify.kernels.triton.chunk_state import in_slot
from gdn_verify.kernels.triton.varlen import find_slots


@triton.jit
def apply(
    at, h, total, KP: tl.constexpr, KB: tl.constexpr, BV: tl.constexpr, WIDTH: tl.constexpr, PRECISION: tl.constexpr,
    UNROLL: tl.constexpr,
):  # fmt: skip
    """M h + total in float32, M [KP, KP] at `at` in rows of WIDTH; taken KB columns at a time, as it is large."""
    PARTS: tl.constexpr = KP // KB
    d = tl.arange(0, KP)[:, None]
    parts = tl.reshape(h, [PARTS, KB, BV])
    for part in tl.range(0, PARTS, loop_unroll_factor=UNROLL):
        columns = tl.load(at + d * WIDTH + part * KB + tl.arange(0, KB)[None, :])
        # Selected and not multiplied by zeros: registers can be indexed in no other way.
        chosen = tl.sum(tl.where(tl.arange(0, PARTS)[:, None, None] == part, parts, 0.0), 0)
        total = tl.dot(columns, chosen, total, input_precision=PRECISION)
    return total


@triton.jit(do_not_specialize=["num_slots", "segment_tokens"])
def gdn_join_kernel(
    spans, pool, state_indices, read_indices, query_start_loc, has_initial_state, starts,
    num_slots, segment_tokens, stride_pool, stride_index, stride_read,
    HV: tl.constexpr, K: tl.constexpr, V: tl.constexpr, KP: tl.constexpr, VX: tl.constexpr, VP: tl.constexpr,
    BV: tl.constexpr, KB: tl.constexpr, STATE_KV: tl.constexpr, PAD: tl.constexpr, PRECISION: tl.constexpr,
    UNROLL: tl.constexpr,
):  # fmt: skip
    """See the module; `segments.join_segments` gives shapes and meanings. Padded rows have no starts."""
    TILES: tl.constexpr = VP // BV
    WIDTH: tl.constexpr = VX + KP
    pid = tl.program_id(0)
    head = pid // TILES % HV
    row = pid // (TILES * HV)
    d = tl.arange(0, KP)
    column = pid % TILES * BV + tl.arange(0, BV)
    first = tl.load(query_start_loc + row).to(tl.int64)
    length = tl.load(query_start_loc + row + 1).to(tl.int64) - first
    if length <= 0:
        return
    _, read, known, live = find_slots(
        state_indices, read_indices, has_initial_state, row, num_slots, stride_index, stride_read, PAD
    )
    if not live:
        return

    tile, tile_mask = in_slot(head, d, column, K, V, STATE_KV)
    h = tl.load(pool + read * stride_pool + tile, mask=tile_mask & known, other=0).to(tl.float32)
    at = (first // segment_tokens + row) * HV + head
    inner = d[:, None] * VP + column[None, :]
    tl.store(starts + at * (KP * VP) + inner, h)
    for _ in range(segment_tokens, length, segment_tokens):
        span = spans + at * (KP * WIDTH)
        total = tl.load(span + d[:, None] * WIDTH + column[None, :])
        h = apply(span + VX, h, total, KP, KB, BV, WIDTH, PRECISION, UNROLL)
        at += HV
        tl.store(starts + at * (KP * VP) + inner, h)
