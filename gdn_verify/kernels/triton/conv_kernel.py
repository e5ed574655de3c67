"""The conv update of a decode step alone: packed projections to the conv's output, with the state shifted in place.

A program owns a block of channels of one row, or copies a block of its z; no two programs share a byte.
"""

from __future__ import annotations

import triton
import triton.language as tl

from gdn_verify.kernels.triton.decode_kernel import find_row
from gdn_verify.kernels.triton.equations import convolve, load, load_history, load_taps, store_shifted


@triton.jit
def packed_column(
    channel, H: tl.constexpr, R: tl.constexpr, K: tl.constexpr, V: tl.constexpr, INTERLEAVED: tl.constexpr
):
    """Column of a packed row that holds a conv channel (flat q | k | v)."""
    if INTERLEAVED:
        group: tl.constexpr = 2 * K + 2 * R * V
        keyed = channel % (H * K)
        qk = keyed // K * group + keyed % K + tl.where(channel < H * K, 0, K)
        valued = tl.maximum(channel - 2 * H * K, 0)
        v = valued // (R * V) * group + 2 * K + valued % (R * V)
        return tl.where(channel < 2 * H * K, qk, v)
    else:
        return channel


@triton.jit
def packed_z_column(
    value, H: tl.constexpr, R: tl.constexpr, K: tl.constexpr, V: tl.constexpr, INTERLEAVED: tl.constexpr
):
    """Column of a packed row that holds a number of z (flat over all value heads)."""
    if INTERLEAVED:
        return value // (R * V) * (2 * K + 2 * R * V) + 2 * K + R * V + value % (R * V)
    else:
        return value + (2 * H * K + H * R * V)


@triton.jit(do_not_specialize=["num_rows", "num_tokens", "num_slots"])
def gdn_conv_update_kernel(
    qkvz, weight, bias, conv_pool, state_indices, query_start_loc, mixed_qkv, z_out,
    num_rows, num_tokens, num_slots,
    stride_x, stride_conv, stride_index, stride_y, stride_z,
    H: tl.constexpr, HV: tl.constexpr, K: tl.constexpr, V: tl.constexpr, W: tl.constexpr,
    INTERLEAVED: tl.constexpr, CONV_SILU: tl.constexpr, STRIDE_D: tl.constexpr, STRIDE_C: tl.constexpr,
    TAPS_IN_WORD: tl.constexpr, PAD: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """See the module; `two_launch.conv_update` gives shapes and meanings."""
    R: tl.constexpr = HV // H
    D: tl.constexpr = 2 * H * K + HV * V
    CONV_BLOCKS: tl.constexpr = (D + BLOCK - 1) // BLOCK
    BLOCKS: tl.constexpr = CONV_BLOCKS + (HV * V + BLOCK - 1) // BLOCK
    pid = tl.program_id(0)
    unit = (pid // BLOCKS).to(tl.int64)
    block = pid % BLOCKS
    lane = tl.arange(0, BLOCK)
    if block >= CONV_BLOCKS:
        if unit < num_tokens:
            value = (block - CONV_BLOCKS) * BLOCK + lane
            column = packed_z_column(value, H, R, K, V, INTERLEAVED)
            z = tl.load(qkvz + unit * stride_x + column, mask=value < HV * V, other=0)
            tl.store(z_out + unit * stride_z + value, z, mask=value < HV * V)
        return
    slot, token, live, _, _ = find_row(
        state_indices, query_start_loc, unit, num_rows, num_tokens, num_slots, stride_index, PAD
    )
    if not live:
        return
    channel = block * BLOCK + lane
    mask = None if CONV_BLOCKS * BLOCK == D else channel < D
    x = load(qkvz + token * stride_x + packed_column(channel, H, R, K, V, INTERLEAVED), mask)
    taps = load_taps(weight, channel, mask, W, TAPS_IN_WORD)
    conv_slot = conv_pool + slot * stride_conv
    history = load_history(conv_slot, channel, mask, 0, W, STRIDE_D, STRIDE_C)
    y = convolve(history, x, taps, None if bias is None else load(bias + channel, mask), W, CONV_SILU)
    tl.store(mixed_qkv + token * stride_y + channel, y.to(mixed_qkv.dtype.element_ty), mask=mask)
    tl.debug_barrier()  # a channel's history may be held by more than one thread, and one of them stores
    store_shifted(conv_slot, channel, mask, history, x, W, STRIDE_D, STRIDE_C)
