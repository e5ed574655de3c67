"""The gated norm of rows of any length, in one launch: `gated_norm`."""

from __future__ import annotations

import triton
from torch import Tensor

from gdn_verify.kernels.fallback import Layer
from gdn_verify.kernels.rows import POOL_DTYPES, Tables, expect_dtype, expect_shape
from gdn_verify.kernels.triton.checks import check_outputs, check_packed, check_plain, is_laid_out
from gdn_verify.kernels.triton.gated_norm_kernel import gdn_gated_norm_kernel
from gdn_verify.kernels.triton.strides import stride_of
from gdn_verify.kernels.triton.target import on_device_of

BLOCK_T, BLOCK_H = 4, 8
"""Tokens and value heads of a program: 32 lines of V numbers, few enough tokens that short rows waste little."""


def gated_norm(
    o: Tensor, qkvz: Tensor, layer: Layer, tables: Tables, slots: int, *, packing: str = "flat",
    pad_slot_id: int | None = None, output: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """out = o · rsqrt(mean(o²) + eps) · weight · act(z) for the tokens of live plain rows, in float32.

    `o` [T, HV, V], float32, bfloat16 or float16, and `output` of the same shape, which may be `o` itself: heads of a
    token contiguous, tokens of any stride. z is read where it stands in `qkvz` [T, D + HV·V], packed as `unpack`
    tells. A row is padded if `tables` say so for pools of so many `slots`. Returns `output`; tokens of padded rows and
    of none keep their bytes, whatever o and z hold there.

    Raises ValueError for what does not fit, also for a layer without norm weight, and RuntimeError where a gradient is
    asked.
    """
    check_packed(qkvz, None, layer, packing)
    if layer.norm_weight is None:
        raise ValueError("the layer has norm_weight=None, and no gated norm: o is its output")
    check_plain(tables)
    output = o if output is None else output
    expect_shape("o", o, (qkvz.shape[0], layer.num_v_heads, layer.head_v_dim))
    expect_dtype("o", o, POOL_DTYPES)
    if not is_laid_out(o, (layer.head_v_dim, 1)):
        raise ValueError(f"o has strides {o.stride()}; the heads of a token must be contiguous")
    check_outputs(qkvz, layer, output, None)
    if tables.rows == 0 or qkvz.shape[0] == 0:
        return output
    H, HV, K, V = layer.geometry
    heads, reads = min(BLOCK_H, triton.next_power_of_2(HV)), tables.read_indices
    with on_device_of(qkvz):
        gdn_gated_norm_kernel[(qkvz.shape[0] // BLOCK_T + tables.rows, triton.cdiv(HV, heads))](
            o, qkvz, layer.norm_weight, tables.state_indices, reads, tables.query_start_loc,
            tables.has_initial_state, output,
            tables.rows, slots, layer.norm_eps,
            o.stride(0), qkvz.stride(0), tables.state_indices.stride(0), stride_of(reads),
            output.stride(0),
            H=H, HV=HV, K=K, V=V, INTERLEAVED=packing == "interleaved", SILU=layer.norm_activation == "silu",
            PAD=pad_slot_id, BT=BLOCK_T, BH=heads, VP=triton.next_power_of_2(V),
            NP=triton.next_power_of_2(tables.rows), num_warps=4,
        )  # fmt: skip
    return output
