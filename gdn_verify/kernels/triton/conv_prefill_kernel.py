"""The convolution of prefill rows: projections to the conv's output, with the state of each row moved on.

A program owns a block of tokens of one row and a block of channels. The first block of a row alone reads the row's
history and stores its new state, whose inputs it finds in `x` or in the history: no program waits for another, and no
two share a byte that is written.

Further programs of the same launch do what else a prefill needs of the projections: they copy z, and compute the gates.
They do so for every token of every row: whether the row is padding is asked where its gates are used.
"""

from __future__ import annotations

import triton
import triton.language as tl

from gdn_verify.kernels.triton.conv_kernel import packed_column, packed_z_column
from gdn_verify.kernels.triton.equations import (
    b_column,
    load,
    load_taps,
    log_decay_and_beta,
    sigmoid,
)
from gdn_verify.kernels.triton.varlen import find_block, find_slots


@triton.jit
def inputs_at(
    x_row, column, conv_slot, channel, t, mask, known, stride_x, W: tl.constexpr, STRIDE_D: tl.constexpr,
    STRIDE_C: tl.constexpr,
):  # fmt: skip
    """(history, given): inputs at positions t of a row, of which the former holds where t < 0; zeros where masked."""
    at = conv_slot + channel * STRIDE_D + (W - 1 + t) * STRIDE_C
    history = tl.load(at, mask=mask & known & (t < 0), other=0)
    return history, tl.load(x_row + t * stride_x + column, mask=mask & (t >= 0), other=0)


@triton.jit
def store_gates(
    ba, A_log, dt_bias, g, beta, token, head, mask, stride_ba, threshold, beta_scale, H: tl.constexpr,
    HV: tl.constexpr, INTERLEAVED: tl.constexpr,
):  # fmt: skip
    """Equation 2 for tokens [BT, 1] and value heads [1, BLOCK]; `g` and `beta` are contiguous [T, HV]."""
    R: tl.constexpr = HV // H
    at = ba + token * stride_ba + b_column(head // R, head, R, INTERLEAVED)
    b = tl.load(at, mask=mask, other=0)
    a = tl.load(at + (R if INTERLEAVED else HV), mask=mask, other=0)
    rate = tl.load(A_log + head, mask=head < HV, other=0)
    bias = tl.load(dt_bias + head, mask=head < HV, other=0)
    log_decay, strength = log_decay_and_beta(rate, bias, a, b, threshold, beta_scale)
    tl.store(g + token * HV + head, log_decay, mask=mask)
    tl.store(beta + token * HV + head, strength, mask=mask)


@triton.jit(do_not_specialize=["num_rows", "num_slots"])
def gdn_conv_prefill_kernel(
    x, weight, bias, conv_pool, state_indices, read_indices, query_start_loc, has_initial_state, mixed_qkv,
    ba, A_log, dt_bias, g, beta, z_out,
    num_rows, num_slots, threshold, beta_scale,
    stride_x, stride_conv, stride_index, stride_read, stride_y, stride_ba, stride_z,
    H: tl.constexpr, HV: tl.constexpr, K: tl.constexpr, V: tl.constexpr, W: tl.constexpr,
    INTERLEAVED: tl.constexpr, CONV_SILU: tl.constexpr, STRIDE_D: tl.constexpr, STRIDE_C: tl.constexpr,
    TAPS_IN_WORD: tl.constexpr, PAD: tl.constexpr, BT: tl.constexpr, BLOCK: tl.constexpr, NP: tl.constexpr,
):  # fmt: skip
    """See the module; `conv_prefill` gives shapes and meanings. Without `ba` the conv is all."""
    D: tl.constexpr = 2 * H * K + HV * V
    CONV_BLOCKS: tl.constexpr = (D + BLOCK - 1) // BLOCK
    Z_BLOCKS: tl.constexpr = 0 if z_out is None else (HV * V + BLOCK - 1) // BLOCK
    row, first, length, begin = find_block(query_start_loc, tl.program_id(0), num_rows, BT, NP)
    if begin >= length:
        return
    position = begin + tl.arange(0, BT)[:, None]
    block = tl.program_id(1)
    lane = tl.arange(0, BLOCK)[None, :]
    if ba is not None:
        if block >= CONV_BLOCKS:
            token = first + position
            if z_out is not None:
                if block < CONV_BLOCKS + Z_BLOCKS:
                    value = (block - CONV_BLOCKS) * BLOCK + lane
                    column = packed_z_column(value, H, HV // H, K, V, INTERLEAVED)
                    inside = (position < length) & (value < HV * V)
                    z = tl.load(x + token * stride_x + column, mask=inside, other=0)
                    tl.store(z_out + token * stride_z + value, z, mask=inside)
                    return
            head = (block - CONV_BLOCKS - Z_BLOCKS) * BLOCK + lane
            store_gates(
                ba, A_log, dt_bias, g, beta, token, head, (position < length) & (head < HV), stride_ba, threshold,
                beta_scale, H, HV, INTERLEAVED,
            )  # fmt: skip
            return

    channel = block * BLOCK + lane
    within = channel < D
    mask = (position < length) & within
    y_at = mixed_qkv + (first + position) * stride_y + channel

    own, read, known, live = find_slots(
        state_indices, read_indices, has_initial_state, row, num_slots, stride_index, stride_read, PAD
    )
    if not live:
        tl.store(y_at, tl.zeros([BT, BLOCK], mixed_qkv.dtype.element_ty), mask=mask)
        return

    x_row = x + first * stride_x
    column = packed_column(channel, H, HV // H, K, V, INTERLEAVED)
    taps = load_taps(weight, channel, within, W, TAPS_IN_WORD)
    history_slot = conv_pool + read * stride_conv
    y = tl.zeros([BT, BLOCK], tl.float32)
    for w in tl.static_range(W):
        past = position - (W - 1 - w)
        history, given = inputs_at(
            x_row, column, history_slot, channel, past, mask, known, stride_x, W, STRIDE_D, STRIDE_C
        )
        value = tl.where(past < 0, history.to(tl.float32), given.to(tl.float32))
        y += value * taps[w]
        if w == 0:
            if bias is not None:
                y += load(bias + channel, within).to(tl.float32)
    if CONV_SILU:
        y *= sigmoid(y)
    tl.store(y_at, y.to(mixed_qkv.dtype.element_ty), mask=mask)

    if begin == 0:
        state = ()  # exact copies: history in the pool's dtype, inputs converted to it
        for j in tl.static_range(W - 1):
            last = length - (W - 1) + j
            last_history, last_given = inputs_at(
                x_row, column, history_slot, channel, last, within, known, stride_x, W, STRIDE_D, STRIDE_C
            )
            state = state + (tl.where(last < 0, last_history, last_given.to(conv_pool.dtype.element_ty)),)
        # What is stored depends on what all threads have loaded: none overwrites history that another has yet to read.
        later = (tl.sum(tl.sum(y * y, 1), 0) < 0.0).to(tl.int64)  # a sum of squares is never negative
        slot = conv_pool + own * stride_conv + later
        for j in tl.static_range(W - 1):
            at = slot + channel * STRIDE_D + j * STRIDE_C
            tl.store(at, state[j], mask=within)
