"""The gated norm behind a chunked prefill: o and z to the layer's output, token by token.

A program owns `BT` tokens of a row and `BH` value heads, a line of V numbers for each. Every line is whole in one
program, so the result may overwrite o.
"""

from __future__ import annotations

import triton
import triton.language as tl

from gdn_verify.kernels.triton.decode_kernel import normalised
from gdn_verify.kernels.triton.equations import product, v_column, z_step
from gdn_verify.kernels.triton.varlen import find_block, find_slots


@triton.jit(do_not_specialize=["num_rows", "num_slots"])
def gdn_gated_norm_kernel(
    o, qkvz, weight, state_indices, read_indices, query_start_loc, has_initial_state, out,
    num_rows, num_slots, eps,
    stride_o, stride_x, stride_index, stride_read, stride_out,
    H: tl.constexpr, HV: tl.constexpr, K: tl.constexpr, V: tl.constexpr, INTERLEAVED: tl.constexpr,
    SILU: tl.constexpr, PAD: tl.constexpr, BT: tl.constexpr, BH: tl.constexpr, VP: tl.constexpr, NP: tl.constexpr,
):  # fmt: skip
    """See the module; `gated_norm.gated_norm` gives shapes and meanings. VP is a power of two that holds V."""
    R: tl.constexpr = HV // H
    row, first, length, begin = find_block(query_start_loc, tl.program_id(0), num_rows, BT, NP)
    if begin >= length:
        return
    _, _, _, live = find_slots(
        state_indices, read_indices, has_initial_state, row, num_slots, stride_index, stride_read, PAD
    )
    if not live:  # its z may be anything
        return
    line = tl.arange(0, BT * BH)
    position = begin + line // BH
    head = tl.program_id(1) * BH + line % BH
    column = tl.arange(0, VP)[None, :]
    mask = ((position < length) & (head < HV))[:, None] & (column < V)
    token = (first + position)[:, None]
    value = head[:, None] * V + column
    z_at = v_column(head // R, head, H, R, K, V, INTERLEAVED) + z_step(H, R, V, INTERLEAVED)
    x = tl.load(o + token * stride_o + value, mask=mask, other=0).to(tl.float32)
    z = tl.load(qkvz + token * stride_x + z_at[:, None] + column, mask=mask, other=0)
    factor = tl.load(weight + column, mask=column < V, other=0)
    zero = tl.minimum(num_slots, 0).to(tl.float32)
    squares = tl.sum(product(x, x, zero), 1)[:, None]
    result = normalised(x, squares, z, factor, eps, V, SILU)
    tl.store(out + token * stride_out + value, result.to(out.dtype.element_ty), mask=mask)
