"""The contract's equations as device functions, all in float32, and the layouts they are read from."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def sigmoid(x):
    """1 / (1 + e^-x); exactly 0 where e^-x overflows."""
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def activate(x, SILU: tl.constexpr):
    """SiLU or sigmoid."""
    gate = sigmoid(x)
    if SILU:
        gate *= x
    return gate


@triton.jit
def log_decay_and_beta(A_log, dt_bias, a, b, threshold, beta_scale):
    """(g, β) of equation 2: g = -exp(A_log) · softplus(a + dt_bias), β = beta_scale · sigmoid(b)."""
    x = a.to(tl.float32) + dt_bias.to(tl.float32)
    e = tl.exp(tl.minimum(x, threshold))  # finite also where the other branch is taken
    w = 1.0 + e
    # log(1 + e) keeps e's digits where w has lost them: the error of w cancels in log(w) / (w - 1) (Kahan).
    log1p = tl.where(w == 1.0, e, tl.log(w) * (e / tl.where(w == 1.0, 1.0, w - 1.0)))
    softplus = tl.where(x > threshold, x, log1p)
    return -tl.exp(A_log.to(tl.float32)) * softplus, beta_scale * sigmoid(b.to(tl.float32))


@triton.jit
def decay_and_beta(A_log, dt_bias, a, b, threshold, beta_scale):
    """(e^g, β) of equation 2."""
    g, beta = log_decay_and_beta(A_log, dt_bias, a, b, threshold, beta_scale)
    return tl.exp(g), beta


@triton.jit
def product(x, y, zero):
    """x·y, rounded before a sum over lanes takes it up; `zero` is a 0.0 that the compiler does not know to be one.

    Such a sum adds each lane's own number to its neighbour's. Contracted to one instruction with the product, its own
    goes in unrounded: then the lanes of one sum hold different sums, and which of them is used is up to the machine.
    """
    return tl.fma(x, y, zero)


@triton.jit
def load(pointer, mask):
    """Zeros where `mask` is false; a mask of None is no mask, and costs no predicate."""
    if mask is None:
        return tl.load(pointer)
    else:
        return tl.load(pointer, mask=mask, other=0)


@triton.jit
def load_taps(weight, channel, mask, W: tl.constexpr, TAPS_IN_WORD: tl.constexpr):
    """The W taps of each channel, oldest first, as a tuple of float32 tiles; `weight` is a contiguous [D, W].

    Four 16-bit taps at an 8-byte address are one load (TAPS_IN_WORD): they sit side by side in a thread then, in the
    layout of the inputs they meet, where four loads of a stride of 8 bytes would each touch every line again.
    """
    taps = ()
    if TAPS_IN_WORD:
        words = load(weight.to(tl.pointer_type(tl.int64), bitcast=True) + channel, mask)
        for w in tl.static_range(W):
            bits = ((words >> (16 * w)) & 0xFFFF).to(tl.int16)
            taps = taps + (bits.to(weight.dtype.element_ty, bitcast=True).to(tl.float32),)
    else:
        for w in tl.static_range(W):
            taps = taps + (load(weight + channel * W + w, mask).to(tl.float32),)
    return taps


@triton.jit
def load_history(conv_slot, channel, mask, first, W: tl.constexpr, STRIDE_D: tl.constexpr, STRIDE_C: tl.constexpr):
    """Columns [first, first + W-1) of a conv slot for these channels, oldest first, as a tuple in the pool's dtype."""
    history = ()
    for w in tl.static_range(W - 1):
        history = history + (load(conv_slot + channel * STRIDE_D + (first + w) * STRIDE_C, mask),)
    return history


@triton.jit
def convolve(history, x, taps, bias, W: tl.constexpr, SILU: tl.constexpr):
    """act(bias + Σ_w taps[w] · input[w]), oldest input first; `bias` is None or a tile."""
    y = history[0].to(tl.float32) * taps[0]
    if bias is not None:
        y += bias.to(tl.float32)
    for w in tl.static_range(1, W - 1):
        y += history[w].to(tl.float32) * taps[w]
    y += x.to(tl.float32) * taps[W - 1]
    if SILU:
        y *= sigmoid(y)
    return y


@triton.jit
def store_shifted(
    conv_slot, channel, mask, history, x, W: tl.constexpr, STRIDE_D: tl.constexpr, STRIDE_C: tl.constexpr
):
    """Stores history[1:] and x as columns [0, W-1) of a conv slot: bit-exact copies in the pool's dtype."""
    slot = conv_slot + channel * STRIDE_D
    for w in tl.static_range(W - 2):
        tl.store(slot + w * STRIDE_C, history[w + 1], mask=mask)
    tl.store(slot + (W - 2) * STRIDE_C, x.to(conv_slot.dtype.element_ty), mask=mask)


@triton.jit
def q_column(key_head, H: tl.constexpr, R: tl.constexpr, K: tl.constexpr, V: tl.constexpr, INTERLEAVED: tl.constexpr):
    """Column of a packed row where q of a key head begins; k follows `k_step` later."""
    return key_head * (2 * K + 2 * R * V) if INTERLEAVED else key_head * K


@triton.jit
def k_step(H: tl.constexpr, K: tl.constexpr, INTERLEAVED: tl.constexpr):
    """From q to k of the same key head, in columns."""
    return K if INTERLEAVED else H * K


@triton.jit
def v_column(
    key_head, head, H: tl.constexpr, R: tl.constexpr, K: tl.constexpr, V: tl.constexpr, INTERLEAVED: tl.constexpr
):
    """Column where v of a value head begins; z follows `z_step` later."""
    if INTERLEAVED:
        return key_head * (2 * K + 2 * R * V) + 2 * K + (head - key_head * R) * V
    else:
        return 2 * H * K + head * V


@triton.jit
def z_step(H: tl.constexpr, R: tl.constexpr, V: tl.constexpr, INTERLEAVED: tl.constexpr):
    """From v to z of the same value head, in columns."""
    return R * V if INTERLEAVED else H * R * V


@triton.jit
def b_column(key_head, head, R: tl.constexpr, INTERLEAVED: tl.constexpr):
    """Column of b of a value head in ba; a follows R (interleaved) or HV (flat) columns later."""
    return key_head * R + head if INTERLEAVED else head
