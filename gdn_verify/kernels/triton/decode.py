"""Decode in one launch: `fused_decode`, for rows of one resumed token each."""

from __future__ import annotations

import torch
from torch import Tensor

from gdn_verify.kernels.fallback import Layer
from gdn_verify.kernels.triton.checks import (
    check_conv_pool,
    check_outputs,
    check_packed,
    check_pool,
    check_rows,
    check_tickets,
)
from gdn_verify.kernels.triton.config import Config, Sizes, choose
from gdn_verify.kernels.triton.contraction import may_contract
from gdn_verify.kernels.triton.decode_kernel import gdn_decode_kernel
from gdn_verify.kernels.triton.strides import stride_of
from gdn_verify.kernels.triton.target import check_join, current_target, on_device_of
from gdn_verify.kernels.triton.tickets import tickets_of


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
    """conv → gates → q/k norm → delta → gated norm for rows of one token each, in one launch; pools in place.

    `qkvz` [T, D + HV·V] and `ba` [T, 2·HV], packed as `unpack` tells, any row stride; `conv_pool` [P, D, C], of any
    strides, C ≥ W-1: columns beyond W-1 keep their bytes; `pool` [P, HV, V, K] ("VK") or [P, HV, K, V] ("KV"), each
    slot contiguous; pools float32, bfloat16 or float16. `state_indices` [N], int32 or int64, any stride: a row is
    padded if its id is outside [0, P) or is `pad_slot_id`. Row n is token n, or, where rows may be empty, those of
    `query_start_loc` [N+1]; a row of other than one token is passed over.

    Returns `output` [T, HV, V] (made where it is None, in qkvz's dtype): the normed output, or o where the layer has
    no norm weight. `z_output` [T, HV, V] receives z of every token, bit for bit. Outputs of padded rows and tokens
    are zeros, or with `zero_pads=False` keep their bytes.

    Everything is float32 between loads and stores. The device is not synchronised and nothing is read back, so the
    launch can be captured in a graph (once it has run on this `conv_pool`, or with `tickets` from `make_tickets`).
    Raises ValueError for operands that do not fit; slots of live rows must be distinct, which is not checked.
    """
    check_packed(qkvz, ba, layer, packing)
    check_pool(layer, pool, state_order)
    check_conv_pool(layer, conv_pool, slots=pool.shape[0])
    check_rows(state_indices, query_start_loc)
    check_tickets(tickets, pool.shape[0], layer.num_k_heads)
    output = check_outputs(qkvz, layer, output, z_output)
    return launch(
        qkvz, ba, layer, conv_pool, pool, state_indices, query_start_loc, output, z_output, packing, state_order,
        pad_slot_id, zero_pads, config, tickets,
    )  # fmt: skip


def launch(
    x: Tensor,
    ba: Tensor,
    layer: Layer,
    conv_pool: Tensor | None,
    pool: Tensor,
    state_indices: Tensor,
    query_start_loc: Tensor | None,
    output: Tensor,
    z_output: Tensor | None,
    packing: str,
    state_order: str,
    pad_slot_id: int | None,
    zero_pads: bool,
    config: Config | None,
    tickets: Tensor | None,
) -> Tensor:
    """Launches the kernel on operands that fit. Without a `conv_pool`, x [T, D] is the conv's output, o the result."""
    sizes = Sizes(*layer.geometry, pool.element_size())
    rows, tokens = state_indices.shape[0], x.shape[0]
    # A program a row; and, where something is written for tokens that belong to no row, one a token.
    units = max(rows, tokens) if zero_pads or z_output is not None else rows
    if tokens == 0 or units == 0:
        return output
    conv = conv_pool is not None
    norm_weight = layer.norm_weight if conv else None
    with on_device_of(x):
        target = current_target()
        config = config or choose(target, rows, sizes)
        constants = config.constants(sizes)
        splits, heads = constants["SPLITS"], constants["HEADS"]
        if tickets is None and conv_pool is not None and splits * sizes.ratio > heads:
            tickets = tickets_of(conv_pool, sizes.H)
        partial = None
        if splits > 1 and norm_weight is not None:
            check_join(target, splits)
            partial = x.new_empty(units * sizes.HV * sizes.V, dtype=torch.float32)
        interleaved = packing == "interleaved"
        gdn_decode_kernel[(units * sizes.HV // heads * splits,)](
            x, ba, layer.conv_weight, layer.conv_bias if conv else None, conv_pool, layer.A_log, layer.dt_bias, pool,
            state_indices, query_start_loc, norm_weight, output, z_output, partial, tickets,
            rows, tokens, pool.shape[0], layer.q_scale, layer.qk_norm_eps, layer.norm_eps, layer.softplus_threshold,
            layer.beta_scale,
            x.stride(0), ba.stride(0), stride_of(conv_pool), pool.stride(0),
            state_indices.stride(0), output.stride(0), stride_of(z_output),
            H=sizes.H, HV=sizes.HV, K=sizes.K, V=sizes.V, W=layer.conv_weight.shape[1],
            CONV=conv, X_INTERLEAVED=interleaved and conv, BA_INTERLEAVED=interleaved,
            CONV_SILU=layer.conv_activation == "silu", NORM_SILU=layer.norm_activation == "silu",
            STATE_KV=state_order == "KV", STRIDE_D=stride_of(conv_pool, 1), STRIDE_C=stride_of(conv_pool, 2),
            TAPS_IN_WORD=taps_in_word(layer.conv_weight),
            PAD=pad_slot_id, ZERO_PADS=zero_pads, EARLY=config.early and not target.amd,
            **constants, **config.options(target),
            enable_fp_fusion=may_contract(pool, state_order, constants, config.num_warps * target.wavefront),
        )  # fmt: skip
    return output


def taps_in_word(weight: Tensor) -> bool:
    """Whether the taps of a channel are four 16-bit numbers at an 8-byte address."""
    return weight.shape[1] == 4 and weight.element_size() == 2 and weight.data_ptr() % 8 == 0
