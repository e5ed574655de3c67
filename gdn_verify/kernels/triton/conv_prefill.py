"""What a prefill needs of its projections, in one launch: `conv_prefill`, and with gates and z `prepare_prefill`."""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from gdn_verify.kernels.fallback import Layer
from gdn_verify.kernels.rows import Tables
from gdn_verify.kernels.triton.checks import check_conv_pool, check_packed, check_plain
from gdn_verify.kernels.triton.conv_prefill_kernel import gdn_conv_prefill_kernel
from gdn_verify.kernels.triton.decode import taps_in_word
from gdn_verify.kernels.triton.strides import stride_of
from gdn_verify.kernels.triton.target import on_device_of
from gdn_verify.kernels.triton.two_launch import check_mixed

BLOCK_T, BLOCK_D = 16, 128
"""Tokens and channels of a program. A block of tokens holds all that a row's first ones find in its history."""


def conv_prefill(
    x: Tensor, layer: Layer, conv_pool: Tensor, tables: Tables, *, packing: str | None = "flat",
    pad_slot_id: int | None = None, output: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The convolution of plain rows; `conv_pool` [P, D, C] is updated in place, columns beyond W-1 keep their bytes.

    `x` is a packed projection [T, D + HV·V] in `packing`, or with None the conv's input [T, D]. `tables` are those of
    plain rows: `has_initial_state` and `read_indices` are heeded; no row may write a slot that another row reads.
    Returns `output` [T, D], flat q|k|v: zeros for the tokens of padded rows; tokens beyond the last row are not
    written. A row without tokens leaves its slot alone.

    Raises ValueError for what does not fit, and RuntimeError where a gradient is asked.
    """
    check_packed(None if packing is None else x, None, layer, packing or "flat")
    if packing is None:
        check_mixed(x, layer, x.shape[0])
    check_conv_pool(layer, conv_pool)
    check_width(layer)
    check_plain(tables)
    output = x.new_empty(x.shape[0], layer.channels) if output is None else output
    check_mixed(output, layer, x.shape[0])
    _launch(x, None, layer, conv_pool, tables, packing, pad_slot_id, output, None, None, None)
    return output


def prepare_prefill(
    qkvz: Tensor, ba: Tensor, layer: Layer, conv_pool: Tensor, tables: Tables, *, packing: str,
    pad_slot_id: int | None, z_output: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """(the conv's output [T, D] in qkvz's dtype, g and β float32 [T, HV]); z of every row's tokens to `z_output`.

    Operands as for `prefill.chunked_prefill`, which has checked them. Gates are computed for padded rows too, and
    nothing is written for tokens beyond the last row.
    """
    tokens, HV = qkvz.shape[0], layer.num_v_heads
    mixed_qkv = qkvz.new_empty(tokens, layer.channels)
    g, beta = qkvz.new_empty(2, tokens, HV, dtype=torch.float32).unbind()
    _launch(qkvz, ba, layer, conv_pool, tables, packing, pad_slot_id, mixed_qkv, g, beta, z_output)
    return mixed_qkv, g, beta


def check_width(layer: Layer) -> None:
    """Raises ValueError for a convolution that reaches behind a block of tokens."""
    if (W := layer.conv_weight.shape[1]) > BLOCK_T:
        raise ValueError(f"conv_weight has width W={W}; at most {BLOCK_T} are taken")


def _launch(
    x: Tensor, ba: Tensor | None, layer: Layer, conv_pool: Tensor, tables: Tables, packing: str | None,
    pad_slot_id: int | None, mixed_qkv: Tensor, g: Tensor | None, beta: Tensor | None, z_output: Tensor | None,
) -> None:  # fmt: skip
    """Launches the kernel on operands that fit; without `ba` there are no gates and no z."""
    if tables.rows == 0 or x.shape[0] == 0:
        return
    H, HV, K, V = layer.geometry
    reads, gated = tables.read_indices, ba is not None
    columns = triton.cdiv(layer.channels, BLOCK_D)
    columns += triton.cdiv(HV * V, BLOCK_D) if z_output is not None else 0
    columns += triton.cdiv(HV, BLOCK_D) if gated else 0
    with on_device_of(x):
        gdn_conv_prefill_kernel[(x.shape[0] // BLOCK_T + tables.rows, columns)](
            x, layer.conv_weight, layer.conv_bias, conv_pool, tables.state_indices, reads,
            tables.query_start_loc, tables.has_initial_state, mixed_qkv,
            ba, layer.A_log if gated else None, layer.dt_bias if gated else None, g, beta, z_output,
            tables.rows, conv_pool.shape[0], layer.softplus_threshold, layer.beta_scale,
            x.stride(0), conv_pool.stride(0), tables.state_indices.stride(0),
            stride_of(reads), mixed_qkv.stride(0), stride_of(ba), stride_of(z_output),
            H=H, HV=HV, K=K, V=V, W=layer.conv_weight.shape[1], INTERLEAVED=packing == "interleaved",
            CONV_SILU=layer.conv_activation == "silu", STRIDE_D=conv_pool.stride(1), STRIDE_C=conv_pool.stride(2),
            TAPS_IN_WORD=taps_in_word(layer.conv_weight), PAD=pad_slot_id, BT=BLOCK_T, BLOCK=BLOCK_D,
            NP=triton.next_power_of_2(tables.rows), num_warps=4,
        )  # fmt: skip
