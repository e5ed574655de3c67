"""The last launch of a chunked prefill: the state over chunks, a program for some rows of V of a value head.

The state stays in registers. A chunk costs four products, of which two wait for the state: see `intra_kernel`. A
program has all chunks of a row, or those of one segment where it is known which state each starts with (`segments`).
"""

from __future__ import annotations

import triton
import triton.language as tl

from gdn_verify.kernels.triton.chunk_state import in_slot, multiply_add
from gdn_verify.kernels.triton.varlen import find_block, find_slots


@triton.jit
def advance(
    h, keys, queries, values, W, B, of_keys, of_queries, whole, C: tl.constexpr, BV: tl.constexpr, EXACT: tl.constexpr
):
    """(o [C, BV], the state after the chunk) from the state h [K, BV] before it."""
    nothing = tl.zeros([C, BV], tl.float32)
    fresh = values.to(tl.float32) - multiply_add(keys, h, nothing, EXACT) * of_keys[:, None]
    o = multiply_add(B, fresh, multiply_add(queries, h, nothing, EXACT) * of_queries[:, None], EXACT)
    return o, multiply_add(tl.trans(W), fresh, h * whole, EXACT)


@triton.jit
def find_part(query_start_loc, part, num_rows, segment_tokens, WHOLE: tl.constexpr, NP: tl.constexpr):
    """(row, its first token, its length, where in it the part begins and ends); parts that are WHOLE are rows."""
    if WHOLE:
        first = tl.load(query_start_loc + part).to(tl.int64)
        length = tl.load(query_start_loc + part + 1).to(tl.int64) - first
        return part, first, length, length * 0, length
    else:
        row, first, length, start = find_block(query_start_loc, part, num_rows, segment_tokens, NP)
        return row, first, length, start, tl.minimum(start + segment_tokens, length)


@triton.jit
def store_zeros(out, begin, end, step, stride_out, value, within, BV: tl.constexpr):
    """Zeros in these columns of tokens begin, begin + step, …"""
    for t in range(begin, end, step):
        tl.store(out + t * stride_out + value, tl.zeros([BV], out.dtype.element_ty), mask=within)


@triton.jit
def load_folded(w, b, factors, at, c, d, C: tl.constexpr, KP: tl.constexpr):
    """What launch 1 hands on for a chunk of a head: W, B, e^G ρ_k, e^G ρ_q · scale, e^(G_C)."""
    W = tl.load(w + at * (C * KP) + c[:, None] * KP + d[None, :])
    B = tl.load(b + at * (C * C) + c[:, None] * C + c[None, :])
    of_keys = tl.load(factors + at * 3 * C + c)
    of_queries = tl.load(factors + at * 3 * C + C + c)
    return W, B, of_keys, of_queries, tl.load(factors + at * 3 * C + 3 * C - 1)


@triton.jit(do_not_specialize=["num_rows", "num_tokens", "num_slots", "segment_tokens"])
def gdn_scan_kernel(
    q, k, v, w, b, factors, pool, state_indices, read_indices, query_start_loc, has_initial_state, out,
    starts, checkpoints,
    num_rows, num_tokens, num_slots, segment_tokens,
    stride_q, stride_k, stride_v, stride_pool, stride_index, stride_read, stride_out, stride_checkpoint,
    H: tl.constexpr, HV: tl.constexpr, K: tl.constexpr, V: tl.constexpr, C: tl.constexpr, KP: tl.constexpr,
    BV: tl.constexpr, STATE_KV: tl.constexpr, PAD: tl.constexpr, ZERO_PADS: tl.constexpr, EXACT: tl.constexpr,
    EVERY: tl.constexpr, NP: tl.constexpr,
):  # fmt: skip
    """See the module; `chunk.chunk_delta` gives shapes and meanings. KP is a power of two that holds K.

    EVERY is a multiple of C: after so many tokens of a row each, its state goes to `checkpoints`; 0 for never. Without
    `starts` the slowest program index is the row, with them the segment as `find_block` counts; NP as there.
    """
    TILES: tl.constexpr = (V + BV - 1) // BV
    pid = tl.program_id(0)
    head = pid // TILES % HV
    part = pid // (TILES * HV)
    c = tl.arange(0, C)
    d = tl.arange(0, KP)
    column = pid % TILES * BV + tl.arange(0, BV)
    within = column < V
    row, first, length, start, stop = find_part(query_start_loc, part, num_rows, segment_tokens, starts is None, NP)
    value = head * V + column
    if ZERO_PADS and start == 0:  # tokens beyond the last row are dealt out to the rows
        end = tl.load(query_start_loc + num_rows).to(tl.int64)
        store_zeros(out, end + row, num_tokens, num_rows, stride_out, value, within, BV)
    if stop <= start:
        return
    own, read, known, live = find_slots(
        state_indices, read_indices, has_initial_state, row, num_slots, stride_index, stride_read, PAD
    )
    if not live:
        if ZERO_PADS:
            store_zeros(out, first + start, first + stop, 1, stride_out, value, within, BV)
        return

    tile, tile_mask = in_slot(head, d, column, K, V, STATE_KV)
    if starts is None:
        h = tl.load(pool + read * stride_pool + tile, mask=tile_mask & known, other=0).to(tl.float32)
    else:
        at_start = (part.to(tl.int64) * HV + head) * (KP * TILES * BV)
        h = tl.load(starts + at_start + d[:, None] * (TILES * BV) + column[None, :])
    key_column = head // (HV // H) * K + d[None, :]
    block = first // C + row
    for begin in range(start, stop, C):
        token = first + begin + c
        here = (begin + c < length)[:, None]
        mask = here & (d < K)[None, :]
        keys = tl.load(k + token[:, None] * stride_k + key_column, mask=mask, other=0)
        queries = tl.load(q + token[:, None] * stride_q + key_column, mask=mask, other=0)
        values = tl.load(v + token[:, None] * stride_v + value[None, :], mask=here & within[None, :], other=0)
        at = (block + begin // C) * HV + head
        W, B, of_keys, of_queries, whole = load_folded(w, b, factors, at, c, d, C, KP)
        o, h = advance(h, keys, queries, values, W, B, of_keys, of_queries, whole, C, BV, EXACT)
        tl.store(
            out + token[:, None] * stride_out + value[None, :], o.to(out.dtype.element_ty), mask=here & within[None, :]
        )
        if EVERY:
            done = begin + C
            if (done % EVERY == 0) & (done <= length):
                entry = first // EVERY + done // EVERY - 1
                kept = checkpoints + entry * stride_checkpoint + tile
                tl.store(kept, h.to(checkpoints.dtype.element_ty), mask=tile_mask)
    if stop == length:
        tl.store(pool + own * stride_pool + tile, h.to(pool.dtype.element_ty), mask=tile_mask)
