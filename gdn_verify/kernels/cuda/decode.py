"""Decode in one launch, in CUDA C++: `fused_decode`, for rows of one resumed token each."""

from __future__ import annotations

import torch
from torch import Tensor

from gdn_verify.kernels.cuda.arguments import Arguments
from gdn_verify.kernels.cuda.choices import choose
from gdn_verify.kernels.cuda.config import Config
from gdn_verify.kernels.cuda.launch import capability, launch
from gdn_verify.kernels.cuda.operands import options_of, sizes_of
from gdn_verify.kernels.cuda.plans import Source, plan_of
from gdn_verify.kernels.fallback import Layer
from gdn_verify.kernels.triton.checks import (  # imports no Triton
    check_conv_pool,
    check_outputs,
    check_packed,
    check_pool,
    check_rows,
    check_tickets,
)
from gdn_verify.kernels.triton.strides import stride_of
from gdn_verify.kernels.triton.tickets import tickets_of

ARGUMENTS = Arguments(
    pointer=(
        "x", "ba", "conv_weight", "conv_bias", "conv_pool", "A_log", "dt_bias", "pool", "state_indices",
        "query_start_loc", "norm_weight", "out", "z_out", "partial", "sums", "tickets",
    ),
    int64=(
        "stride_x", "stride_ba", "stride_conv", "stride_pool", "stride_index", "stride_out", "stride_z", "num_rows",
        "num_tokens", "num_slots", "pad",
    ),
    int32=(
        "heads", "stride_d", "stride_c", "interleaved", "conv_silu", "norm_silu", "zero_pads", "wide_indices",
        "wide_starts",
    ),
    float32=("scale", "qk_norm_eps", "norm_eps", "threshold", "beta_scale"),
)  # fmt: skip
SOURCE = Source("decode.cu", "gdn_cuda_decode", ARGUMENTS)
NOBODY = -1
"""An id that is padding anyway."""


def fused_decode(
    qkvz: Tensor,
    ba: Tensor,
    layer: Layer,
    conv_pool: Tensor,
    pool: Tensor,
    state_indices: Tensor,
    *,
    query_start_loc: Tensor | None = None,
    packing: str = "flat",
    state_order: str = "VK",
    pad_slot_id: int | None = None,
    output: Tensor | None = None,
    z_output: Tensor | None = None,
    zero_pads: bool = True,
    config: Config | None = None,
    tickets: Tensor | None = None,
) -> Tensor:
    """`triton.decode.fused_decode`, with the same operands, results, conventions and errors, by a kernel in CUDA C++.

    It runs on NVIDIA cards of compute capability 8.0 and later, and on cpu tensors where `GDN_EMULATE_CUDA=1`. On cards
    with clusters no tickets are needed where `config` has them. Raises RuntimeError where it cannot run.
    """
    check_packed(qkvz, ba, layer, packing)
    check_pool(layer, pool, state_order)
    check_conv_pool(layer, conv_pool, slots=pool.shape[0])
    check_rows(state_indices, query_start_loc)
    check_tickets(tickets, pool.shape[0], layer.num_k_heads)
    output = check_outputs(qkvz, layer, output, z_output)
    rows, tokens = state_indices.shape[0], qkvz.shape[0]
    # A cluster a row; and, where something is written for tokens that belong to no row, one a token.
    units = max(rows, tokens) if zero_pads or z_output is not None else rows
    if tokens == 0 or units == 0:
        return output

    sizes = sizes_of(layer, pool, state_order)
    chip = capability(qkvz.device)
    config = config or choose(chip, rows, sizes)
    plan = plan_of(SOURCE, chip, config, sizes, options_of(qkvz, ba, layer, conv_pool, pool, output))
    if plan.takes_tickets and tickets is None:
        tickets = tickets_of(conv_pool, sizes.H)
    partial, sums = plan.scratch(qkvz, sizes)
    launch(
        qkvz.device, plan.kernel, plan.grid(units, sizes.H),
        qkvz, ba, layer.conv_weight, layer.conv_bias, conv_pool, layer.A_log, layer.dt_bias, pool, state_indices,
        query_start_loc, layer.norm_weight, output, z_output, partial, sums, tickets,
        qkvz.stride(0), ba.stride(0), conv_pool.stride(0), pool.stride(0), state_indices.stride(0), output.stride(0),
        stride_of(z_output), rows, tokens, pool.shape[0], NOBODY if pad_slot_id is None else pad_slot_id,
        sizes.H, conv_pool.stride(1), conv_pool.stride(2), packing == "interleaved", layer.conv_activation == "silu",
        layer.norm_activation == "silu", zero_pads, state_indices.dtype == torch.int64,
        query_start_loc is not None and query_start_loc.dtype == torch.int64,
        layer.q_scale, layer.qk_norm_eps, layer.norm_eps, layer.softplus_threshold, layer.beta_scale,
    )  # fmt: skip
    return output
