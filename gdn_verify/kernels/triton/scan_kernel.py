"""Launch 2 of a chunked prefill: the state over the chunks of a row, a program for some rows of V of a value head.

The state stays in registers. A chunk costs four products, of which two wait for the state: see `intra_kernel`.
"""

from __future__ import annotations

import triton
import triton.language as tl

from gdn_verify.kernels.triton.varlen import find_slots


@triton.jit
def multiply_add(a, b, c, EXACT: tl.constexpr):
    """a · b + c in float32, of operands in a's dtype; with EXACT of float32 ones that are not cut to tf32."""
    if EXACT:
        return tl.dot(a.to(tl.float32), b.to(tl.float32), c, input_precision="ieee")
    else:
        return tl.dot(a, b.to(a.dtype), c)


@triton.jit
def advance(
    h, keys, queries, values, W, B, of_keys, of_queries, whole, C: tl.constexpr, BV: tl.constexpr, EXACT: tl.constexpr
):
    """(o [C, BV], the state after the chunk) from the state h [K, BV] before it."""
    nothing = tl.zeros([C, BV], tl.float32)
    fresh = values.to(tl.float32) - multiply_add(keys, h, nothing, EXACT) * of_keys[:, None]
    o = multiply_add(B, fresh, multiply_add(queries, h, nothing, EXACT) * of_queries[:, None], EXACT)
    return o, multiply_add(tl.trans(W), fresh, h * whole, EXACT)


@triton.jit(do_not_specialize=["num_rows", "num_tokens", "num_slots"])
def gdn_scan_kernel(
    q, k, v, w, b, factors, pool, state_indices, read_indices, query_start_loc, has_initial_state, out,
    checkpoints,
    num_rows, num_tokens, num_slots,
    stride_q, stride_k, stride_v, stride_pool, stride_index, stride_read, stride_out, stride_checkpoint,
    H: tl.constexpr, HV: tl.constexpr, K: tl.constexpr, V: tl.constexpr, C: tl.constexpr, KP: tl.constexpr,
    BV: tl.constexpr, STATE_KV: tl.constexpr, PAD: tl.constexpr, ZERO_PADS: tl.constexpr, EXACT: tl.constexpr,
    EVERY: tl.constexpr,
):  # fmt: skip
    """See the module; `chunk.chunk_delta` gives shapes and meanings. KP is a power of two that holds K.

    EVERY is a multiple of C: after so many tokens of a row each, its state goes to `checkpoints`; 0 for never.
    """
    TILES: tl.constexpr = (V + BV - 1) // BV
    pid = tl.program_id(0)
    head = pid // TILES % HV
    row = pid // (TILES * HV)
    c = tl.arange(0, C)
    d = tl.arange(0, KP)
    column = pid % TILES * BV + tl.arange(0, BV)
    within = column < V
    first = tl.load(query_start_loc + row).to(tl.int64)
    length = tl.load(query_start_loc + row + 1).to(tl.int64) - first
    value = head * V + column
    if ZERO_PADS:  # tokens beyond the last row are dealt out to the rows
        end = tl.load(query_start_loc + num_rows).to(tl.int64)
        for t in range(end + row, num_tokens, num_rows):
            tl.store(out + t * stride_out + value, tl.zeros([BV], out.dtype.element_ty), mask=within)
    if length <= 0:
        return
    own, read, known, live = find_slots(
        state_indices, read_indices, has_initial_state, row, num_slots, stride_index, stride_read, PAD
    )
    if not live:
        if ZERO_PADS:
            for t in range(first, first + length):
                tl.store(out + t * stride_out + value, tl.zeros([BV], out.dtype.element_ty), mask=within)
        return

    v_step: tl.constexpr = 1 if STATE_KV else K
    k_step: tl.constexpr = V if STATE_KV else 1
    tile = head.to(tl.int64) * (V * K) + d[:, None] * k_step + column[None, :] * v_step
    tile_mask = (d < K)[:, None] & within[None, :]
    h = tl.load(pool + read * stride_pool + tile, mask=tile_mask & known, other=0).to(tl.float32)
    key_column = head // (HV // H) * K + d[None, :]
    block = first // C + row
    for begin in range(0, length, C):
        token = first + begin + c
        here = (begin + c < length)[:, None]
        mask = here & (d < K)[None, :]
        keys = tl.load(k + token[:, None] * stride_k + key_column, mask=mask, other=0)
        queries = tl.load(q + token[:, None] * stride_q + key_column, mask=mask, other=0)
        values = tl.load(v + token[:, None] * stride_v + value[None, :], mask=here & within[None, :], other=0)
        at = (block + begin // C) * HV + head
        W = tl.load(w + at * (C * KP) + c[:, None] * KP + d[None, :])
        B = tl.load(b + at * (C * C) + c[:, None] * C + c[None, :])
        of_keys = tl.load(factors + at * 3 * C + c)
        of_queries = tl.load(factors + at * 3 * C + C + c)
        whole = tl.load(factors + at * 3 * C + 3 * C - 1)

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
    tl.store(pool + own * stride_pool + tile, h.to(pool.dtype.element_ty), mask=tile_mask)
