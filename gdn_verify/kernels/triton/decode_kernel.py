"""One launch for a decode step: conv, gates, q/k norm, delta rule and gated norm, from packed inputs to output.

A program owns `HEADS` value heads of one row (one, or all of a key head), or one of `SPLITS` slices of a head's V rows.
It walks over its rows of the state in tiles [BV, K], `STEPS` a head, each read once, updated in registers and written
back. The state is nearly all of the traffic; everything else hides behind its first load.

Both sums over K run on the state as it was read, side by side:

    S k̂, S q̂  →  u = β (v - e^g S k̂),   o = e^g S q̂ + u (k̂·q̂),   S ← e^g S + u k̂ᵀ

which is equation 4 with h q̂ = (e^g S + u k̂ᵀ) q̂ multiplied out, so that a row's sums need one exchange among threads
instead of two. q and k are normalised first: S k overflows with legal numbers where S k̂ does not.

**The conv state of a key head** is read by `SHARERS` programs and shifted in place, so a shift must not begin before
all of them have read. None waits: each takes a ticket when it is done, and the last to arrive writes. Why this is
free of races on both vendors:

- A program takes its ticket after its outputs o exist, and the amount it adds depends on their sum of squares, which
  is exchanged among all its warps. Each thread's loads of history have therefore returned before the ticket is taken:
  by data dependence, not by trust in a fence (on AMD a barrier does not wait for outstanding loads). What a load has
  returned, no later store can change. So the order `relaxed` suffices for the conv state.
- The last arriver stores only after its ticket came back, by control dependence.
- With V split (and a norm), partial outputs cross programs through memory: they are stored before the ticket, the
  ticket is `acq_rel` at device scope with a barrier before it, and the last arriver loads them past its L1 (`.cg`).
  This is for NVIDIA: on CDNA a barrier lets other waves' stores be on their way, so V is not split there before a norm.
- What no other program reads (a program's v channels; q and k where it owns the whole key head) it shifts by itself,
  after a barrier, so that no thread stores what another has yet to load: behind the same dependence on AMD, right
  after the conv elsewhere (EARLY), since CUDA's barrier orders the loads of a block's threads before their stores.

Tickets belong to (slot, key head), not to a launch: launches that run at once on one pool have distinct slots, or they
race on the state anyway. A row adds up to exactly `QUANTUM`, so nothing is reset, launches of different `SHARERS` mix,
and a launch that names a slot twice, which is illegal, leaves the tickets whole.
"""

from __future__ import annotations

import triton
import triton.language as tl

from gdn_verify.kernels.triton.equations import (
    activate,
    b_column,
    convolve,
    decay_and_beta,
    k_step,
    load,
    load_history,
    load_taps,
    product,
    q_column,
    store_shifted,
    v_column,
    z_step,
)

QUANTUM = tl.constexpr(192)
"""What a row adds to a ticket: a multiple of every r · SPLITS for ratios that divide 24 and up to 8 splits."""


@triton.jit
def add3(a0, a1, a2, b0, b1, b2):
    """Three sums in one reduction."""
    return a0 + b0, a1 + b1, a2 + b2


@triton.jit
def sum3(a, b, c):
    """Sums of all elements of each, in one reduction: flat, as Triton's interpreter flattens the first alone."""
    return tl.reduce((tl.ravel(a, True), tl.ravel(b, True), tl.ravel(c, True)), 0, add3)


@triton.jit
def load_inputs(
    x_row, qk_column, v_at, weight, qk_channel, v_channel, qk_mask, inside,
    W: tl.constexpr, TAPS_IN_WORD: tl.constexpr, CONV: tl.constexpr,
):  # fmt: skip
    """(q|k [KS, KK, 2], v [TP, BV], their taps); no taps without a conv."""
    x_qk = load(x_row + qk_column, qk_mask)
    x_v = tl.load(x_row + v_at, mask=inside, other=0)
    qk_taps = ()
    v_taps = ()
    if CONV:
        qk_taps = load_taps(weight, qk_channel, qk_mask, W, TAPS_IN_WORD)
        v_taps = load_taps(weight, v_channel, inside, W, TAPS_IN_WORD)
    return x_qk, x_v, qk_taps, v_taps


@triton.jit
def load_gates(
    ba_row, A_log, dt_bias, key_head, head0, head, HV: tl.constexpr, R: tl.constexpr, HEADS: tl.constexpr,
    INTERLEAVED: tl.constexpr,
):  # fmt: skip
    """(A_log, dt_bias, a, b): scalars of the program's one head, or [TP] of the head of each step."""
    at = head0 if HEADS == 1 else tl.minimum(head, HV - 1)
    column = b_column(key_head, at, R, INTERLEAVED)
    b = tl.load(ba_row + column)
    a = tl.load(ba_row + column + (R if INTERLEAVED else HV))
    return tl.load(A_log + at), tl.load(dt_bias + at), a, b


@triton.jit
def tile_offset(t, K: tl.constexpr, V: tl.constexpr, BV: tl.constexpr, STEPS: tl.constexpr, STATE_KV: tl.constexpr):
    """From the program's first tile of the state to its t-th, in numbers."""
    return (t // STEPS) * V * K + (t % STEPS) * BV * (1 if STATE_KV else K)


@triton.jit
def for_rows(x, AXIS: tl.constexpr):
    """x [KS, KK] against the rows of a tile, which is [KS, BV, KK] or [BV, KS, KK]: AXIS says where KS is."""
    return tl.expand_dims(x, 1 - AXIS)


@triton.jit
def for_columns(x, AXIS: tl.constexpr):
    """x [BV] against the columns of a tile."""
    return x[None, :, None] if AXIS == 0 else x[:, None, None]


@triton.jit
def tile_inside(kk, lane, v_end, t, K: tl.constexpr, BV: tl.constexpr, STEPS: tl.constexpr, AXIS: tl.constexpr):
    """What of the t-th tile lies within K and V."""
    return for_rows(kk < K, AXIS) & for_columns(lane < v_end - (t % STEPS) * BV, AXIS)


@triton.jit
def load_tile(at, inside, EVEN: tl.constexpr):
    """A tile of the state, in the pool's dtype; EVEN where no tile is cut off, which costs no predicate then."""
    return tl.load(at) if EVEN else tl.load(at, mask=inside, other=0)


@triton.jit
def store_tile(at, tile, inside, EVEN: tl.constexpr):
    """Rounds a tile to the pool's dtype, to nearest even, and stores it."""
    if EVEN:
        tl.store(at, tile.to(at.dtype.element_ty))
    else:
        tl.store(at, tile.to(at.dtype.element_ty), mask=inside)


@triton.jit
def store_partial(partial_row, o, t, lane, v_end, V: tl.constexpr, BV: tl.constexpr, STEPS: tl.constexpr):
    """The t-th tile's part of o, for the program that will join the parts of a head."""
    at = (t // STEPS) * V + (t % STEPS) * BV + lane
    tl.store(partial_row + at, o, mask=lane < v_end - (t % STEPS) * BV)


@triton.jit
def at_step(vector, step, t, HEADS: tl.constexpr):
    """The gate of the t-th tile's head; a program of one head has it as a scalar."""
    return vector if HEADS == 1 else tl.sum(tl.where(step == t, vector, 0.0), 0)


@triton.jit
def update_tile(
    state, k, q, v, decay, beta, kq, step, t, HEADS: tl.constexpr, TP: tl.constexpr, BV: tl.constexpr,
    AXIS: tl.constexpr,
):  # fmt: skip
    """(next state, o) of the t-th tile: `state` a tile, k̂ and q̂ `for_rows`, v [TP, BV]; `kq` is k̂·q̂."""
    v_t = tl.reshape(v, [BV]) if TP == 1 else tl.sum(tl.where((step == t)[:, None], v, 0.0), 0)
    decay = at_step(decay, step, t, HEADS)
    old = state.to(tl.float32)
    sk = tl.sum(tl.sum(old * k, AXIS), 1)
    sq = tl.sum(tl.sum(old * q, AXIS), 1)
    u = at_step(beta, step, t, HEADS) * (v_t - decay * sk)
    o = decay * sq + u * kq
    return old * decay + for_columns(u, AXIS) * k, o


@triton.jit
def place(tile, row, step, t, TP: tl.constexpr, BV: tl.constexpr):
    """`tile` [TP, BV] with `row` as its t-th."""
    return tl.reshape(row, [1, BV]) if TP == 1 else tl.where((step == t)[:, None], row[None, :], tile)


@triton.jit
def normalised(o, squares, z, weight, eps, V: tl.constexpr, SILU: tl.constexpr):
    """Equation 5; `squares` is the sum of o² of the head, broadcast against o."""
    rho = tl.rsqrt(squares / V + eps)
    return o * rho * weight.to(tl.float32) * activate(z.to(tl.float32), SILU)


@triton.jit
def find_row(state_indices, query_start_loc, unit, num_rows, num_tokens, num_slots, stride_index, PAD: tl.constexpr):
    """(slot, token, live, first, stop) of row `unit`; tokens [first, stop) are those of a row that is padding."""
    here = unit < num_rows
    slot = tl.load(state_indices + unit * stride_index, mask=here, other=-1).to(tl.int64)
    legal = (slot >= 0) & (slot < num_slots)
    if PAD is not None:
        legal = legal & (slot != PAD)
    if query_start_loc is None:
        first = unit
        stop = unit + 1
    else:
        first = tl.load(query_start_loc + unit, mask=here, other=0).to(tl.int64)
        stop = tl.load(query_start_loc + unit + 1, mask=here, other=0).to(tl.int64)
    live = legal & (stop - first == 1) & (first >= 0) & (first < num_tokens)
    token = tl.minimum(tl.maximum(first, 0), num_tokens - 1)
    if legal:
        stop = first
    return slot, token, live, tl.maximum(first, 0), tl.minimum(stop, num_tokens)


@triton.jit(do_not_specialize=["num_rows", "num_tokens", "num_slots"])
def gdn_decode_kernel(
    x, ba, conv_weight, conv_bias, conv_pool, A_log, dt_bias, pool, state_indices, query_start_loc, norm_weight,
    out, z_out, partial, tickets,
    num_rows, num_tokens, num_slots, scale, qk_norm_eps, norm_eps, threshold, beta_scale,
    stride_x, stride_ba, stride_conv, stride_pool, stride_index, stride_out, stride_z,
    H: tl.constexpr, HV: tl.constexpr, K: tl.constexpr, V: tl.constexpr, W: tl.constexpr,
    CONV: tl.constexpr, X_INTERLEAVED: tl.constexpr, BA_INTERLEAVED: tl.constexpr, CONV_SILU: tl.constexpr,
    NORM_SILU: tl.constexpr, STATE_KV: tl.constexpr, STRIDE_D: tl.constexpr, STRIDE_C: tl.constexpr,
    TAPS_IN_WORD: tl.constexpr, PAD: tl.constexpr, ZERO_PADS: tl.constexpr, EARLY: tl.constexpr,
    HEADS: tl.constexpr, SPLITS: tl.constexpr, STEPS: tl.constexpr, BV: tl.constexpr, KS: tl.constexpr,
    KK: tl.constexpr, TP: tl.constexpr, RP: tl.constexpr, VP: tl.constexpr, STAGES: tl.constexpr,
    INPUTS_FIRST: tl.constexpr, AXIS: tl.constexpr,
):  # fmt: skip
    """See the module; `decode.fused_decode` gives shapes and meanings. TP, RP, VP are powers of two that hold the
    program's steps, the ratio and V."""
    R: tl.constexpr = HV // H
    GROUPS: tl.constexpr = HV // HEADS
    SHARERS: tl.constexpr = (R // HEADS) * SPLITS
    NORM: tl.constexpr = norm_weight is not None
    JOIN: tl.constexpr = NORM and SPLITS > 1
    STEPS_IN_ALL: tl.constexpr = HEADS * STEPS
    EVEN_K: tl.constexpr = KS * KK == K
    EVEN: tl.constexpr = EVEN_K and SPLITS * STEPS * BV == V

    pid = tl.program_id(0)
    split = pid % SPLITS
    head0 = (pid // SPLITS) % GROUPS * HEADS
    unit = (pid // (SPLITS * GROUPS)).to(tl.int64)
    key_head = head0 // R
    slot, token, live, first, stop = find_row(
        state_indices, query_start_loc, unit, num_rows, num_tokens, num_slots, stride_index, PAD
    )

    # Coordinates: q and k channels [KS, KK], the program's rows of V [TP, BV]. A thread holds KK-adjacent columns.
    kk = tl.arange(0, KS)[:, None] * KK + tl.arange(0, KK)[None, :]
    pair = tl.arange(0, 2)[None, None, :]
    qk_mask = None if EVEN_K else (kk < K)[:, :, None] & (pair >= 0)
    step = tl.arange(0, TP)
    lane = tl.arange(0, BV)
    head = head0 + step // STEPS
    column = (split * STEPS * BV + (step % STEPS) * BV)[:, None] + lane[None, :]
    inside = (step < STEPS_IN_ALL)[:, None] & (column < V)
    value = head[:, None] * V + column
    x_value = v_column(key_head, head, H, R, K, V, X_INTERLEAVED)[:, None] + column

    x_row = x + token * stride_x  # `token` is a token, whatever the tables say
    qk_channel = (key_head * K + kk)[:, :, None] + pair * (H * K)
    v_channel = 2 * H * K + value
    qk_column = (q_column(key_head, H, R, K, V, X_INTERLEAVED) + kk)[:, :, None] + pair * k_step(H, K, X_INTERLEAVED)
    if INPUTS_FIRST:  # while the slot is on its way; else after the state is asked for
        x_qk, x_v, qk_taps, v_taps = load_inputs(
            x_row, qk_column, x_value, conv_weight, qk_channel, v_channel, qk_mask, inside, W, TAPS_IN_WORD, CONV
        )
        gates = load_gates(ba + token * stride_ba, A_log, dt_bias, key_head, head0, head, HV, R, HEADS, BA_INTERLEAVED)
    if z_out is not None:
        if unit < num_tokens:
            z = tl.load(x + unit * stride_x + x_value + z_step(H, R, V, X_INTERLEAVED), mask=inside, other=0)
            tl.store(z_out + unit * stride_z + value, z, mask=inside)
    if ZERO_PADS and query_start_loc is not None:
        if (unit < num_tokens) & (unit >= tl.load(query_start_loc + num_rows)):
            tl.store(out + unit * stride_out + value, tl.zeros([TP, BV], out.dtype.element_ty), mask=inside)
    if not live:
        if ZERO_PADS:
            for t in range(first, stop):
                tl.store(out + t * stride_out + value, tl.zeros([TP, BV], out.dtype.element_ty), mask=inside)
        return

    v_step: tl.constexpr = 1 if STATE_KV else K
    c_step: tl.constexpr = V if STATE_KV else 1
    tile = for_columns(lane * v_step, AXIS) + for_rows(kk * c_step, AXIS)
    state = pool + slot * stride_pool + (head0 * V * K + split * STEPS * BV * v_step)
    v_end = V - split * STEPS * BV
    if STAGES == 0:
        old = load_tile(state + tile, tile_inside(kk, lane, v_end, 0, K, BV, STEPS, AXIS), EVEN)
    if not INPUTS_FIRST:
        x_qk, x_v, qk_taps, v_taps = load_inputs(
            x_row, qk_column, x_value, conv_weight, qk_channel, v_channel, qk_mask, inside, W, TAPS_IN_WORD, CONV
        )
        gates = load_gates(ba + token * stride_ba, A_log, dt_bias, key_head, head0, head, HV, R, HEADS, BA_INTERLEAVED)
    if CONV:
        conv_slot = conv_pool + slot * stride_conv
        qk_bias = None if conv_bias is None else load(conv_bias + qk_channel, qk_mask)
        v_bias = None if conv_bias is None else load(conv_bias + v_channel, inside)
        qk_history = load_history(conv_slot, qk_channel, qk_mask, 0, W, STRIDE_D, STRIDE_C)
        v_history = load_history(conv_slot, v_channel, inside, 0, W, STRIDE_D, STRIDE_C)
    if JOIN:
        partial_row = partial + (unit * HV + head0) * V + split * STEPS * BV
    if NORM:
        if JOIN:  # whichever program arrives last normalises all heads of the key head
            join_head = key_head * R + tl.arange(0, RP)
            join_column = tl.arange(0, VP)[None, :]
            z_mask = (tl.arange(0, RP) < R)[:, None] & (join_column < V)
            z_value = join_head[:, None] * V + join_column
            z_at = v_column(key_head, join_head, H, R, K, V, X_INTERLEAVED)[:, None] + join_column
            weight = load(norm_weight + join_column, None if VP == V else join_column < V)
        else:
            z_mask = inside
            z_value = value
            z_at = x_value
            weight = tl.load(norm_weight + column, mask=inside, other=0)
        z = tl.load(x_row + z_at + z_step(H, R, V, X_INTERLEAVED), mask=z_mask, other=0)

    if CONV:
        q, k = tl.split(convolve(qk_history, x_qk, qk_taps, qk_bias, W, CONV_SILU))
        v = convolve(v_history, x_v, v_taps, v_bias, W, CONV_SILU)
    else:
        q, k = tl.split(x_qk.to(tl.float32))
        v = x_v.to(tl.float32)
    zero = tl.minimum(num_slots, 0).to(tl.float32)
    qq, kk_sum, qk = sum3(product(q, q, zero), product(k, k, zero), product(q, k, zero))
    rho_q = tl.rsqrt(qq + qk_norm_eps) * scale
    rho_k = tl.rsqrt(kk_sum + qk_norm_eps)
    kq = qk * rho_q * rho_k
    if CONV and EARLY:
        tl.debug_barrier()  # every thread holds its history
        store_shifted(conv_slot, v_channel, inside, v_history, x_v, W, STRIDE_D, STRIDE_C)
        if SHARERS == 1:
            store_shifted(conv_slot, qk_channel, qk_mask, qk_history, x_qk, W, STRIDE_D, STRIDE_C)
    decay, beta = decay_and_beta(gates[0], gates[1], gates[2], gates[3], threshold, beta_scale)
    q = for_rows(q * rho_q, AXIS)
    k = for_rows(k * rho_k, AXIS)

    # The delta rule, tile by tile.
    o = tl.zeros([TP, BV], tl.float32)
    if STAGES == 0:  # unrolled: the next tile is on its way into registers while this one is computed
        for t in tl.static_range(STEPS_IN_ALL):
            at = state + tile + tile_offset(t, K, V, BV, STEPS, STATE_KV)
            if t + 1 < STEPS_IN_ALL:
                ahead = state + tile + tile_offset(t + 1, K, V, BV, STEPS, STATE_KV)
                following = load_tile(ahead, tile_inside(kk, lane, v_end, t + 1, K, BV, STEPS, AXIS), EVEN)
            new, o_t = update_tile(old, k, q, v, decay, beta, kq, step, t, HEADS, TP, BV, AXIS)
            o = place(o, o_t, step, t, TP, BV)
            if JOIN:  # partial outputs leave before the state does: the ticket waits for them
                store_partial(partial_row, o_t, t, lane, v_end, V, BV, STEPS)
            store_tile(at, new, tile_inside(kk, lane, v_end, t, K, BV, STEPS, AXIS), EVEN)
            if t + 1 < STEPS_IN_ALL:
                old = following
    else:  # a loop that the compiler pipelines, STAGES tiles ahead, through shared memory
        for t in tl.range(0, STEPS_IN_ALL, num_stages=STAGES):
            at = state + tile + tile_offset(t, K, V, BV, STEPS, STATE_KV)
            inside_t = tile_inside(kk, lane, v_end, t, K, BV, STEPS, AXIS)
            old = load_tile(at, inside_t, EVEN)
            new, o_t = update_tile(old, k, q, v, decay, beta, kq, step, t, HEADS, TP, BV, AXIS)
            o = place(o, o_t, step, t, TP, BV)
            if JOIN:
                store_partial(partial_row, o_t, t, lane, v_end, V, BV, STEPS)
            store_tile(at, new, inside_t, EVEN)

    squares = tl.sum(product(o, o, zero), 1)
    total = tl.sum(squares, 0)
    if not JOIN:
        if NORM:
            if HEADS == 1:
                o = normalised(o, total, z, weight, norm_eps, V, NORM_SILU)
            else:
                same = (step // STEPS)[:, None] == (step // STEPS)[None, :]
                in_head = tl.sum(tl.where(same, squares[None, :], 0.0), 1)[:, None]
                o = normalised(o, in_head, z, weight, norm_eps, V, NORM_SILU)
        tl.store(out + token * stride_out + value, o.to(out.dtype.element_ty), mask=inside)

    # The conv state, and what waits for the last program of this key head.
    if CONV or JOIN:
        if JOIN or not EARLY:
            tl.debug_barrier()
        if CONV and not EARLY:
            store_shifted(conv_slot, v_channel, inside, v_history, x_v, W, STRIDE_D, STRIDE_C)
        if SHARERS == 1:
            if CONV and not EARLY:
                store_shifted(conv_slot, qk_channel, qk_mask, qk_history, x_qk, W, STRIDE_D, STRIDE_C)
        else:
            share = (QUANTUM // SHARERS) + (total < 0.0).to(tl.int64)  # a sum of squares is never negative
            taken = tl.atomic_add(tickets + slot * H + key_head, share, sem="acq_rel" if JOIN else "relaxed")
            if (taken + QUANTUM // SHARERS) % QUANTUM == 0:
                if JOIN:
                    whole = tl.load(partial + unit * HV * V + z_value, mask=z_mask, other=0.0, cache_modifier=".cg")
                    in_head = tl.sum(product(whole, whole, zero), 1)[:, None]
                    result = normalised(whole, in_head, z, weight, norm_eps, V, NORM_SILU)
                    tl.store(out + token * stride_out + z_value, result.to(out.dtype.element_ty), mask=z_mask)
                if CONV:
                    store_shifted(conv_slot, qk_channel, qk_mask, qk_history, x_qk, W, STRIDE_D, STRIDE_C)
