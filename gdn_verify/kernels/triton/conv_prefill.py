"""Conv prefill: `conv_prefill`, over rows of any length."""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from gdn_verify.kernels.fallback import Layer
from gdn_verify.kernels.rows import Tables, expect_dtype, expect_shape
from gdn_verify.kernels.triton.checks import check_conv_pool, check_packed
from gdn_verify.kernels.triton.conv_prefill_kernel import gdn_conv_prefill_kernel
from gdn_verify.kernels.triton.decode import taps_in_word
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
    plain rows: `has_initial_state` and `read_indices` are heeded. Returns `output` [T, D], flat q|k|v: zeros for the
    tokens of padded rows; tokens beyond the last row are not written. A row without tokens leaves its slot alone.

    Raises ValueError for what does not fit, and RuntimeError where a gradient is asked.
    """
    check_packed(None if packing is None else x, None, layer, packing or "flat")
    if packing is None:
        check_mixed(x, layer, x.shape[0])
    check_conv_pool(layer, conv_pool)
    if (W := layer.conv_weight.shape[1]) > BLOCK_T:
        raise ValueError(f"conv_weight has width W={W}; at most {BLOCK_T} are taken")
    check_plain(tables)
    output = x.new_empty(x.shape[0], layer.channels) if output is None else output
    check_mixed(output, layer, x.shape[0])
    if tables.rows == 0 or x.shape[0] == 0:
        return output
    H, HV, K, V = layer.geometry
    reads = tables.read_indices
    with on_device_of(x):
        blocks = x.shape[0] // BLOCK_T + tables.rows
        gdn_conv_prefill_kernel[(blocks, triton.cdiv(layer.channels, BLOCK_D))](
            x, layer.conv_weight, layer.conv_bias, conv_pool, tables.state_indices, reads,
            tables.query_start_loc, tables.has_initial_state, output,
            tables.rows, conv_pool.shape[0],
            x.stride(0), conv_pool.stride(0), tables.state_indices.stride(0),
            0 if reads is None else reads.stride(0), output.stride(0),
            H=H, HV=HV, K=K, V=V, W=W, INTERLEAVED=packing == "interleaved",
            CONV_SILU=layer.conv_activation == "silu", STRIDE_D=conv_pool.stride(1), STRIDE_C=conv_pool.stride(2),
            TAPS_IN_WORD=taps_in_word(layer.conv_weight), PAD=pad_slot_id, BT=BLOCK_T, BLOCK=BLOCK_D,
            NP=triton.next_power_of_2(tables.rows), num_warps=4,
        )  # fmt: skip
    return output


def check_plain(tables: Tables) -> None:
    """Raises ValueError unless the tables are of plain rows, and can be read without strides but the indices'."""
    if tables.num_accepted_tokens is not None:
        raise ValueError("num_accepted_tokens is given; speculative rows go to fused_spec_decode")
    expect_shape("state_indices", tables.state_indices, (None,))
    if not tables.query_start_loc.is_contiguous():
        raise ValueError("query_start_loc must be contiguous: call .contiguous()")
    if tables.has_initial_state is not None:
        expect_dtype("has_initial_state", tables.has_initial_state, (torch.bool,))
        if not tables.has_initial_state.is_contiguous():
            raise ValueError("has_initial_state must be contiguous: call .contiguous()")
