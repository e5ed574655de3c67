"""Decode in the two launches of the system that this project follows: reshape and conv update; gating and delta rule.

(1) `conv_update`: packed qkvz → the conv's output and z, conv state in place. (2) `delta_update`: that output and
ba → o, state in place. The gated norm is a third step of the caller's.
"""

from __future__ import annotations

import triton
from torch import Tensor

from gdn_verify.kernels.fallback import Layer
from gdn_verify.kernels.rows import POOL_DTYPES, expect_dtype, expect_shape
from gdn_verify.kernels.triton.checks import check_conv_pool, check_outputs, check_packed, check_pool, check_rows
from gdn_verify.kernels.triton.config import Config
from gdn_verify.kernels.triton.conv_kernel import gdn_conv_update_kernel
from gdn_verify.kernels.triton.decode import launch, taps_in_word
from gdn_verify.kernels.triton.target import on_device_of

BLOCK = 256
"""Channels of a program of the conv update: two a thread."""


def conv_update(
    qkvz: Tensor,
    layer: Layer,
    conv_pool: Tensor,
    state_indices: Tensor,
    mixed_qkv: Tensor,
    z_output: Tensor,
    *,
    query_start_loc: Tensor | None = None,
    packing: str = "flat",
    pad_slot_id: int | None = None,
) -> None:
    """Writes the conv of every live token to `mixed_qkv` [T, D], flat q | k | v, and z of every token to `z_output`.

    Operands as for `fused_decode`; `mixed_qkv` has columns side by side and any row stride, and is rounded to its own
    dtype. Padded tokens keep their bytes. Raises ValueError for operands that do not fit.
    """
    H, HV, K, V = layer.geometry
    tokens, rows = qkvz.shape[0], state_indices.shape[0]
    check_packed(qkvz, None, layer, packing)
    check_conv_pool(layer, conv_pool)
    check_rows(state_indices, query_start_loc)
    check_outputs(qkvz, layer, None, z_output)
    check_mixed(mixed_qkv, layer, tokens)
    units = max(rows, tokens)
    if tokens == 0:
        return
    blocks = triton.cdiv(layer.channels, BLOCK) + triton.cdiv(HV * V, BLOCK)
    with on_device_of(qkvz):
        gdn_conv_update_kernel[(units * blocks,)](
            qkvz, layer.conv_weight, layer.conv_bias, conv_pool, state_indices, query_start_loc, mixed_qkv, z_output,
            rows, tokens, conv_pool.shape[0],
            qkvz.stride(0), conv_pool.stride(0), state_indices.stride(0), mixed_qkv.stride(0), z_output.stride(0),
            H=H, HV=HV, K=K, V=V, W=layer.conv_weight.shape[1], INTERLEAVED=packing == "interleaved",
            CONV_SILU=layer.conv_activation == "silu", STRIDE_D=conv_pool.stride(1), STRIDE_C=conv_pool.stride(2),
            TAPS_IN_WORD=taps_in_word(layer.conv_weight), PAD=pad_slot_id, BLOCK=BLOCK, num_warps=4,
        )  # fmt: skip


def delta_update(
    mixed_qkv: Tensor,
    ba: Tensor,
    layer: Layer,
    pool: Tensor,
    state_indices: Tensor,
    output: Tensor,
    *,
    query_start_loc: Tensor | None = None,
    packing: str = "flat",
    state_order: str = "VK",
    pad_slot_id: int | None = None,
    zero_pads: bool = True,
    config: Config | None = None,
) -> Tensor:
    """gates → q/k norm → delta over the conv's output [T, D]; fills `output` [T, HV, V] with o, pool in place.

    `packing` is that of `ba`; the other operands are as for `fused_decode`. Raises ValueError as it does.
    """
    check_mixed(mixed_qkv, layer, output.shape[0])
    check_packed(None, ba, layer, packing)
    expect_shape("ba", ba, (output.shape[0], None))
    check_pool(layer, pool, state_order)
    check_rows(state_indices, query_start_loc)
    check_outputs(mixed_qkv, layer, output, None)
    return launch(
        mixed_qkv, ba, layer, None, pool, state_indices, query_start_loc, output, None, packing, state_order,
        pad_slot_id, zero_pads, config, None,
    )  # fmt: skip


def check_mixed(mixed_qkv: Tensor, layer: Layer, tokens: int) -> None:
    """Raises ValueError unless `mixed_qkv` is [T, D] with its columns side by side."""
    expect_shape("mixed_qkv", mixed_qkv, (tokens, layer.channels))
    expect_dtype("mixed_qkv", mixed_qkv, POOL_DTYPES)
    if mixed_qkv.stride(1) != 1:
        raise ValueError(f"mixed_qkv has stride {mixed_qkv.stride(1)} between columns; it must be 1")
