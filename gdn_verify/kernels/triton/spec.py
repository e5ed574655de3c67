"""Speculative decode in one launch: `fused_spec_decode`, for rows of up to S tokens with a slot for each."""

from __future__ import annotations

import torch
from torch import Tensor

from gdn_verify.kernels.fallback import Layer
from gdn_verify.kernels.triton.checks import (
    check_conv_pool,
    check_drafts,
    check_outputs,
    check_packed,
    check_pool,
    check_tickets,
    check_tokens,
)
from gdn_verify.kernels.triton.config import Sizes, SpecConfig, choose_spec
from gdn_verify.kernels.triton.contraction import may_contract
from gdn_verify.kernels.triton.decode import fused_decode, taps_in_word
from gdn_verify.kernels.triton.spec_kernel import gdn_spec_kernel
from gdn_verify.kernels.triton.strides import stride_of
from gdn_verify.kernels.triton.target import check_join, current_target, on_device_of
from gdn_verify.kernels.triton.tickets import tickets_of


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
    config: SpecConfig | None = None,
    tickets: Tensor | None = None,
) -> Tensor:
    """`fused_decode` for speculative rows: L ≤ S tokens each, S ≤ 8, a state written after each token.

    `state_indices` [N, S] of any strides, `query_start_loc` [N+1], `num_accepted_tokens` [N], int32 or int64; the
    other operands as for `fused_decode`, qkvz and ba with row strides up to MOST_STRIDE, `conv_pool` with C ≥ W-2+S
    columns. Row n reads slot
    state_indices[n, a-1], writes the state after token t to state_indices[n, t] unless that is padding, and its conv
    state, in slot state_indices[n, 0], begins at column a-1. A row is padded if column 0 or a-1 is padding, if a lies
    outside [1, S] or if it has more than S tokens. Of `spec_rows` [N] bool only the rows set are looked at.

    Returns `output` as `fused_decode` does, and raises as it does.
    """
    check_drafts(state_indices, query_start_loc, num_accepted_tokens, spec_rows)
    rows, width = state_indices.shape
    sizes = Sizes(*layer.geometry, pool.element_size())
    check_packed(qkvz, ba, layer, packing)
    check_tokens(qkvz=qkvz, ba=ba)
    check_pool(layer, pool, state_order)
    check_conv_pool(layer, conv_pool, slots=pool.shape[0], columns=layer.conv_weight.shape[1] - 2 + width)
    check_tickets(tickets, pool.shape[0], layer.num_k_heads)
    output = check_outputs(qkvz, layer, output, z_output)
    if qkvz.shape[0] == 0:
        return output
    if rows == 0:  # there is no program to fill what belongs to no row: as in a decode launch without rows
        return fused_decode(
            qkvz, ba, layer, conv_pool, pool, state_indices[:, 0], query_start_loc=query_start_loc, packing=packing,
            state_order=state_order, output=output, z_output=z_output, zero_pads=zero_pads,
        )  # fmt: skip
    with on_device_of(qkvz):
        target = current_target()
        config = config or choose_spec(target, rows, width, sizes)
        constants = config.constants(sizes)
        joins = constants["SPLITS"] > 1 and layer.norm_weight is not None
        if joins:
            check_join(target, constants["SPLITS"])
        shared = constants["SPLITS"] * sizes.ratio > 1
        weight = layer.conv_weight
        gdn_spec_kernel[(rows * sizes.HV * constants["SPLITS"],)](
            qkvz, ba, weight, layer.conv_bias, conv_pool, layer.A_log, layer.dt_bias, pool, state_indices,
            query_start_loc, num_accepted_tokens, spec_rows, layer.norm_weight, output, z_output,
            qkvz.new_empty(output.shape, dtype=torch.float32) if joins else None,
            (tickets_of(conv_pool, sizes.H) if tickets is None else tickets) if shared else None,
            rows, qkvz.shape[0], pool.shape[0], layer.q_scale, layer.qk_norm_eps, layer.norm_eps,
            layer.softplus_threshold, layer.beta_scale,
            qkvz.stride(0), ba.stride(0), conv_pool.stride(0), pool.stride(0), *state_indices.stride(),
            output.stride(0), stride_of(z_output),
            H=sizes.H, HV=sizes.HV, K=sizes.K, V=sizes.V, W=weight.shape[1], S=width,
            INTERLEAVED=packing == "interleaved", CONV_SILU=layer.conv_activation == "silu",
            NORM_SILU=layer.norm_activation == "silu", STATE_KV=state_order == "KV", STRIDE_D=conv_pool.stride(1),
            STRIDE_C=conv_pool.stride(2), TAPS_IN_WORD=taps_in_word(weight), PAD=pad_slot_id, ZERO_PADS=zero_pads,
            **constants, **config.options(target),
            enable_fp_fusion=may_contract(pool, state_order, constants, config.num_warps * target.wavefront),
        )  # fmt: skip
    return output
