"""Speculative decode in one launch, in CUDA C++: `fused_spec_decode`, for rows of up to S tokens, a slot for each."""

from __future__ import annotations

import torch
from torch import Tensor

from gdn_verify.kernels.cuda.arguments import Arguments
from gdn_verify.kernels.cuda.choices import choose
from gdn_verify.kernels.cuda.config import Config
from gdn_verify.kernels.cuda.decode import NOBODY, fused_decode
from gdn_verify.kernels.cuda.launch import capability, launch
from gdn_verify.kernels.cuda.operands import options_of, sizes_of
from gdn_verify.kernels.cuda.plans import Source, plan_of
from gdn_verify.kernels.fallback import Layer
from gdn_verify.kernels.triton.checks import (  # imports no Triton
    check_conv_pool,
    check_drafts,
    check_outputs,
    check_packed,
    check_pool,
    check_tickets,
)
from gdn_verify.kernels.triton.strides import stride_of
from gdn_verify.kernels.triton.tickets import tickets_of

ARGUMENTS = Arguments(
    pointer=(
        "x", "ba", "conv_weight", "conv_bias", "conv_pool", "A_log", "dt_bias", "pool", "state_indices",
        "query_start_loc", "num_accepted_tokens", "spec_rows", "norm_weight", "out", "z_out", "partial", "sums",
        "tickets",
    ),
    int64=(
        "stride_x", "stride_ba", "stride_conv", "stride_pool", "stride_row", "stride_column", "stride_out", "stride_z",
        "num_rows", "num_tokens", "num_slots", "pad",
    ),
    int32=(
        "heads", "stride_d", "stride_c", "interleaved", "conv_silu", "norm_silu", "zero_pads", "wide_indices",
        "wide_starts", "wide_counts",
    ),
    float32=("scale", "qk_norm_eps", "norm_eps", "threshold", "beta_scale"),
)  # fmt: skip
SOURCE = Source("spec.cu", "gdn_cuda_spec", ARGUMENTS)


def fused_spec_decode(
    qkvz: Tensor,
    ba: Tensor,
    layer: Layer,
    conv_pool: Tensor,
    pool: Tensor,
    state_indices: Tensor,
    query_start_loc: Tensor,
    num_accepted_tokens: Tensor,
    *,
    spec_rows: Tensor | None = None,
    packing: str = "flat",
    state_order: str = "VK",
    pad_slot_id: int | None = None,
    output: Tensor | None = None,
    z_output: Tensor | None = None,
    zero_pads: bool = True,
    config: Config | None = None,
    tickets: Tensor | None = None,
) -> Tensor:
    """`triton.spec.fused_spec_decode`, with the same operands, results, conventions and errors, in CUDA C++.

    It runs where `cuda.decode.fused_decode` does. Raises RuntimeError where it cannot run.
    """
    check_drafts(state_indices, query_start_loc, num_accepted_tokens, spec_rows)
    rows, width = state_indices.shape
    check_packed(qkvz, ba, layer, packing)
    check_pool(layer, pool, state_order)
    check_conv_pool(layer, conv_pool, slots=pool.shape[0], columns=layer.conv_weight.shape[1] - 2 + width)
    check_tickets(tickets, pool.shape[0], layer.num_k_heads)
    output = check_outputs(qkvz, layer, output, z_output)
    tokens = qkvz.shape[0]
    if tokens == 0:
        return output
    if rows == 0:  # there is no block to fill what belongs to no row: as in a decode launch without rows
        return fused_decode(
            qkvz, ba, layer, conv_pool, pool, state_indices[:, 0], query_start_loc=query_start_loc, packing=packing,
            state_order=state_order, output=output, z_output=z_output, zero_pads=zero_pads,
        )  # fmt: skip
    sizes = sizes_of(layer, pool, state_order)
    chip = capability(qkvz.device)
    config = config or choose(chip, rows, sizes, drafts=True)
    plan = plan_of(SOURCE, chip, config, sizes, options_of(qkvz, ba, layer, conv_pool, pool, output), width)
    if plan.takes_tickets and tickets is None:
        tickets = tickets_of(conv_pool, sizes.H)
    partial, sums = plan.scratch(qkvz, sizes)
    launch(
        qkvz.device, plan.kernel, plan.grid(rows, sizes.H),
        qkvz, ba, layer.conv_weight, layer.conv_bias, conv_pool, layer.A_log, layer.dt_bias, pool, state_indices,
        query_start_loc, num_accepted_tokens, spec_rows, layer.norm_weight, output, z_output, partial, sums, tickets,
        qkvz.stride(0), ba.stride(0), conv_pool.stride(0), pool.stride(0), *state_indices.stride(), output.stride(0),
        stride_of(z_output), rows, tokens, pool.shape[0], NOBODY if pad_slot_id is None else pad_slot_id,
        sizes.H, conv_pool.stride(1), conv_pool.stride(2), packing == "interleaved", layer.conv_activation == "silu",
        layer.norm_activation == "silu", zero_pads, state_indices.dtype == torch.int64,
        query_start_loc.dtype == torch.int64, num_accepted_tokens.dtype == torch.int64,
        layer.q_scale, layer.qk_norm_eps, layer.norm_eps, layer.softplus_threshold, layer.beta_scale,
    )  # fmt: skip
    return output
