"""Speculative rows in one launch: up to S tokens a row, a state written after each.

A program owns one of `SPLITS` slices of one value head of one row, reads its part of the state once, from the slot
that the accepted count names, keeps it in registers over all tokens, and writes it after each token to that token's
slot. All inputs of all tokens are asked for before the first is used. Arithmetic, tickets and the argument why the
shared conv state is free of races are those of `decode_kernel`; here the history begins at column a-1, and what is
stored is the rest of it followed by the row's tokens.
"""

from __future__ import annotations

import triton
import triton.language as tl

from gdn_verify.kernels.triton.decode_kernel import (
    QUANTUM,
    for_columns,
    for_rows,
    load_tile,
    normalised,
    store_tile,
    sum3,
)
from gdn_verify.kernels.triton.equations import (
    b_column,
    convolve,
    decay_and_beta,
    k_step,
    load,
    load_history,
    load_taps,
    product,
    q_column,
    v_column,
    z_step,
)


@triton.jit
def is_slot(index, num_slots, PAD: tl.constexpr):
    """Whether an id names a slot and no padding."""
    legal = (index >= 0) & (index < num_slots)
    if PAD is not None:
        legal = legal & (index != PAD)
    return legal


@triton.jit
def load_tokens(x, stride, at, mask, length, S: tl.constexpr):
    """The same columns of each of a row's tokens, zeros beyond its last: a tuple of S tiles or scalars."""
    tokens = ()
    for t in tl.static_range(S):
        tokens = tokens + (tl.load(x + t * stride + at, mask=mask & (t < length), other=0),)
    return tokens


@triton.jit
def slide(window, x, W: tl.constexpr):
    """A window of W-1 inputs moved on by one."""
    moved = ()
    for w in tl.static_range(1, W - 1):
        moved = moved + (window[w],)
    return moved + (x,)


@triton.jit
def store_stream(
    conv_slot, channel, mask, history, tokens, length, W: tl.constexpr, S: tl.constexpr, STRIDE_D: tl.constexpr,
    STRIDE_C: tl.constexpr,
):  # fmt: skip
    """Stores history[1:] and the row's tokens from column 0: exact copies; columns beyond keep their bytes."""
    slot = conv_slot + channel * STRIDE_D
    for w in tl.static_range(W - 2):
        tl.store(slot + w * STRIDE_C, history[w + 1], mask=mask)
    for t in tl.static_range(S):
        value = tokens[t].to(conv_slot.dtype.element_ty)
        tl.store(slot + (W - 2 + t) * STRIDE_C, value, mask=mask & (t < length))


@triton.jit(do_not_specialize=["num_rows", "num_tokens", "num_slots"])
def gdn_spec_kernel(
    x, ba, conv_weight, conv_bias, conv_pool, A_log, dt_bias, pool, state_indices, query_start_loc,
    num_accepted_tokens, spec_rows, norm_weight, out, z_out, partial, tickets,
    num_rows, num_tokens, num_slots, scale, qk_norm_eps, norm_eps, threshold, beta_scale,
    stride_x, stride_ba, stride_conv, stride_pool, stride_row, stride_column, stride_out, stride_z,
    H: tl.constexpr, HV: tl.constexpr, K: tl.constexpr, V: tl.constexpr, W: tl.constexpr, S: tl.constexpr,
    INTERLEAVED: tl.constexpr, CONV_SILU: tl.constexpr, NORM_SILU: tl.constexpr, STATE_KV: tl.constexpr,
    STRIDE_D: tl.constexpr, STRIDE_C: tl.constexpr, TAPS_IN_WORD: tl.constexpr, PAD: tl.constexpr,
    ZERO_PADS: tl.constexpr, SPLITS: tl.constexpr, BV: tl.constexpr, KS: tl.constexpr, KK: tl.constexpr,
    RP: tl.constexpr, VP: tl.constexpr, AXIS: tl.constexpr,
):  # fmt: skip
    """See the module; `spec.fused_spec_decode` gives shapes and meanings."""
    R: tl.constexpr = HV // H
    SHARERS: tl.constexpr = R * SPLITS
    NORM: tl.constexpr = norm_weight is not None
    JOIN: tl.constexpr = NORM and SPLITS > 1
    EVEN_K: tl.constexpr = KS * KK == K
    EVEN: tl.constexpr = EVEN_K and SPLITS * BV == V

    pid = tl.program_id(0)
    split = pid % SPLITS
    head = (pid // SPLITS) % HV
    row = (pid // (SPLITS * HV)).to(tl.int64)
    key_head = head // R
    # Which slots, which tokens, and whether the row is one at all.
    table = state_indices + row * stride_row
    first = tl.load(query_start_loc + row).to(tl.int64)
    stop = tl.load(query_start_loc + row + 1).to(tl.int64)
    accepted = tl.load(num_accepted_tokens + row).to(tl.int64)
    own = tl.load(table).to(tl.int64)
    counted = (accepted >= 1) & (accepted <= S)
    read = tl.load(table + (accepted - 1) * stride_column, mask=counted, other=-1).to(tl.int64)
    length = stop - first
    live = counted & is_slot(own, num_slots, PAD) & is_slot(read, num_slots, PAD)
    live = live & (length > 0) & (length <= S) & (first >= 0) & (stop <= num_tokens)

    # Coordinates: q and k channels [KS, KK, 2], the program's rows of V [BV].
    kk = tl.arange(0, KS)[:, None] * KK + tl.arange(0, KK)[None, :]
    pair = tl.arange(0, 2)[None, None, :]
    qk_mask = (kk < K)[:, :, None] & (pair >= 0)
    lane = tl.arange(0, BV)
    column = split * BV + lane
    inside = column < V
    value = head * V + column
    x_value = v_column(key_head, head, H, R, K, V, INTERLEAVED) + column
    x_qk = (q_column(key_head, H, R, K, V, INTERLEAVED) + kk)[:, :, None] + pair * k_step(H, K, INTERLEAVED)

    nothing = tl.zeros([BV], out.dtype.element_ty)
    # Tokens beyond the last row are dealt out to the rows.
    end = tl.maximum(tl.load(query_start_loc + num_rows).to(tl.int64), 0)
    for t in range(end + row, num_tokens, num_rows):
        if ZERO_PADS:
            tl.store(out + t * stride_out + value, nothing, mask=inside)
        if z_out is not None:
            z = tl.load(x + t * stride_x + x_value + z_step(H, R, V, INTERLEAVED), mask=inside, other=0)
            tl.store(z_out + t * stride_z + value, z, mask=inside)
    if spec_rows is not None:
        if tl.load(spec_rows + row) == 0:
            return
    if z_out is not None:
        for t in range(tl.maximum(first, 0), tl.minimum(stop, num_tokens)):
            z = tl.load(x + t * stride_x + x_value + z_step(H, R, V, INTERLEAVED), mask=inside, other=0)
            tl.store(z_out + t * stride_z + value, z, mask=inside)
    if not live:
        if ZERO_PADS:
            for t in range(tl.maximum(first, 0), tl.minimum(stop, num_tokens)):
                tl.store(out + t * stride_out + value, nothing, mask=inside)
        return

    v_step: tl.constexpr = 1 if STATE_KV else K
    c_step: tl.constexpr = V if STATE_KV else 1
    tile = head * V * K + for_columns(column * v_step, AXIS) + for_rows(kk * c_step, AXIS)
    tile_mask = for_rows(kk < K, AXIS) & for_columns(inside, AXIS)
    h = load_tile(pool + read * stride_pool + tile, tile_mask, EVEN).to(tl.float32)
    conv_slot = conv_pool + own * stride_conv
    qk_channel = (key_head * K + kk)[:, :, None] + pair * (H * K)
    v_channel = 2 * H * K + value
    qk_history = load_history(conv_slot, qk_channel, qk_mask, accepted - 1, W, STRIDE_D, STRIDE_C)
    v_history = load_history(conv_slot, v_channel, inside, accepted - 1, W, STRIDE_D, STRIDE_C)
    writes = load_tokens(table, stride_column, 0, True, length, S)
    x_row = x + first * stride_x
    qk_tokens = load_tokens(x_row, stride_x, x_qk, qk_mask, length, S)
    v_tokens = load_tokens(x_row, stride_x, x_value, inside, length, S)
    ba_row = ba + first * stride_ba
    b_at = b_column(key_head, head, R, INTERLEAVED)
    a_at = b_at + (R if INTERLEAVED else HV)
    b_tokens = load_tokens(ba_row, stride_ba, b_at, True, length, S)
    a_tokens = load_tokens(ba_row, stride_ba, a_at, True, length, S)
    gate_A = tl.load(A_log + head)
    gate_dt = tl.load(dt_bias + head)
    qk_taps = load_taps(conv_weight, qk_channel, qk_mask, W, TAPS_IN_WORD)
    v_taps = load_taps(conv_weight, v_channel, inside, W, TAPS_IN_WORD)
    qk_bias = None if conv_bias is None else load(conv_bias + qk_channel, qk_mask)
    v_bias = None if conv_bias is None else load(conv_bias + v_channel, inside)
    if NORM and not JOIN:
        weight = tl.load(norm_weight + column, mask=inside, other=0)
        z_tokens = load_tokens(x_row, stride_x, x_value + z_step(H, R, V, INTERLEAVED), inside, length, S)

    qk_window = ()
    v_window = ()
    for w in tl.static_range(W - 1):
        qk_window = qk_window + (qk_history[w].to(tl.float32),)
        v_window = v_window + (v_history[w].to(tl.float32),)
    zero = tl.minimum(num_slots, 0).to(tl.float32)
    consumed = 0.0
    for t in tl.static_range(S):
        if t < length:
            q, k = tl.split(convolve(qk_window, qk_tokens[t], qk_taps, qk_bias, W, CONV_SILU))
            v = convolve(v_window, v_tokens[t], v_taps, v_bias, W, CONV_SILU)
            qq, kk_sum, qk = sum3(product(q, q, zero), product(k, k, zero), product(q, k, zero))
            rho_q = tl.rsqrt(qq + qk_norm_eps) * scale
            rho_k = tl.rsqrt(kk_sum + qk_norm_eps)
            q = for_rows(q * rho_q, AXIS)
            k = for_rows(k * rho_k, AXIS)
            decay, beta = decay_and_beta(gate_A, gate_dt, a_tokens[t], b_tokens[t], threshold, beta_scale)
            sk = tl.sum(tl.sum(h * k, AXIS), 1)
            sq = tl.sum(tl.sum(h * q, AXIS), 1)
            u = beta * (v - decay * sk)
            o = decay * sq + u * (qk * rho_q * rho_k)
            h = h * decay + for_columns(u, AXIS) * k
            squares = tl.sum(product(o, o, zero), 0)
            consumed += squares
            if JOIN:
                tl.store(partial + (first + t) * HV * V + value, o, mask=inside)
            else:
                if NORM:
                    o = normalised(o, squares, z_tokens[t], weight, norm_eps, V, NORM_SILU)
                tl.store(out + (first + t) * stride_out + value, o.to(out.dtype.element_ty), mask=inside)
            if is_slot(writes[t], num_slots, PAD):
                store_tile(pool + writes[t].to(tl.int64) * stride_pool + tile, h, tile_mask, EVEN)
        qk_window = slide(qk_window, qk_tokens[t].to(tl.float32), W)
        v_window = slide(v_window, v_tokens[t].to(tl.float32), W)

    tl.debug_barrier()
    store_stream(conv_slot, v_channel, inside, v_history, v_tokens, length, W, S, STRIDE_D, STRIDE_C)
    last = SHARERS == 1
    if SHARERS > 1:
        share = (QUANTUM // SHARERS) + (consumed < 0.0).to(tl.int64)  # a sum of squares is never negative
        taken = tl.atomic_add(tickets + own * H + key_head, share, sem="acq_rel" if JOIN else "relaxed")
        last = (taken + QUANTUM // SHARERS) % QUANTUM == 0
    if last:
        if JOIN:
            heads = key_head * R + tl.arange(0, RP)[:, None]
            columns = tl.arange(0, VP)[None, :]
            whole = (tl.arange(0, RP) < R)[:, None] & (columns < V)
            at = v_column(key_head, heads, H, R, K, V, INTERLEAVED) + z_step(H, R, V, INTERLEAVED) + columns
            weight = tl.load(norm_weight + columns, mask=columns < V, other=0)
            for token in range(first, stop):
                o_all = tl.load(
                    partial + token * HV * V + heads * V + columns, mask=whole, other=0.0, cache_modifier=".cg"
                )
                z = tl.load(x + token * stride_x + at, mask=whole, other=0)
                squares = tl.sum(product(o_all, o_all, zero), 1)[:, None]
                result = normalised(o_all, squares, z, weight, norm_eps, V, NORM_SILU)
                tl.store(out + token * stride_out + heads * V + columns, result.to(out.dtype.element_ty), mask=whole)
        store_stream(conv_slot, qk_channel, qk_mask, qk_history, qk_tokens, length, W, S, STRIDE_D, STRIDE_C)
