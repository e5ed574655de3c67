"""AITER's Triton kernels, read from its main branch of August 2026: the recurrence alone, and the two-kernel decode.

The whole decode is what vLLM's layer launches on ROCm: AITER's two kernels, then vLLM's own gated norm; the first
kernel writes z, a and b out contiguously. Both are plain Triton and run on NVIDIA too. Padding is a negative slot.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from gdn_verify.bench.contender import Contender, Inputs, Launch, Missing, PrefillInputs, Results
from gdn_verify.bench.peers.peer import DELTA, RECURRENCE, WHOLE, Peer, dense_states, one_token_a_row
from gdn_verify.bench.peers.vllm import GATED_NORM

CONV_UPDATE = "aiter.ops.triton.conv.causal_conv1d_update_single_token:fused_reshape_causal_conv1d_update_single_token"
GATED_DELTA_RULE = (
    "aiter.ops.triton.gated_delta_net.fused_rearrange_sigmoid_gdr:fused_rearrange_sigmoid_gated_delta_rule"
)


def contenders() -> Iterable[Contender | Missing]:
    """The recurrence, and the whole decode with vLLM's norm."""
    return _imported(PEERS)


def prefill_contenders() -> Iterable[Contender | Missing]:
    """The recurrence in chunks of 64, in the kernels for a state of [V, K]."""
    return _imported((CHUNK,))


def _imported(peers: Iterable[Peer]) -> Iterable[Contender | Missing]:
    # Read at AITER's import: without it that import builds its C++ kernels, which nothing here calls.
    os.environ.setdefault("AITER_TRITON_ONLY", "1")
    return [peer.contender() for peer in peers]


def _gated_delta_rule(inputs: Inputs, update: Callable[..., Any]) -> Launch:
    """a and b are made contiguous before, as the first kernel of the pair leaves them."""
    a, b = inputs.a.contiguous(), inputs.b.contiguous()

    def launch() -> Results:
        _recurrence(inputs, inputs.conv_out, a, b, inputs.out, update)
        return Results(inputs.out)

    return launch


def _layer(inputs: Inputs, conv: Callable[..., Any], update: Callable[..., Any], norm: Callable[..., Any]) -> Launch:
    """conv, which also unpacks z, a and b; the recurrence; the norm."""
    g = inputs.geometry
    packed = inputs.qkvz, inputs.setting.tokens, g.H, g.HV, g.K, g.V
    convolved = inputs.conv_pool, inputs.conv_weight, inputs.conv_bias

    def launch() -> Results:
        z, o = torch.empty_like(inputs.out), torch.empty_like(inputs.out)
        conv_out, b, a = conv(
            *packed, inputs.ba, z, o, *convolved, "silu", conv_state_indices=inputs.state_indices, qkvz_layout="flat"
        )
        _recurrence(inputs, conv_out, a, b, o, update)
        return Results(norm(o, inputs.norm_weight, None, z=z, eps=inputs.norm_eps, activation="silu"))

    return launch


def _recurrence(inputs: Inputs, conv_out: Tensor, a: Tensor, b: Tensor, o: Tensor, update: Callable[..., Any]) -> None:
    g = inputs.geometry
    update(
        inputs.A_log,
        a,
        b,
        inputs.dt_bias,
        conv_out,
        key_dim=g.H * g.K,
        value_dim=g.HV * g.V,
        head_k_dim=g.K,
        head_v_dim=g.V,
        initial_state=inputs.pool,
        cu_seqlens=inputs.query_start_loc,
        ssm_state_indices=inputs.state_indices,
        num_accepted_tokens=inputs.num_accepted_tokens,
        use_qk_l2norm_in_kernel=True,
        core_attn_out=o.view(-1),
    )


def _chunk(inputs: PrefillInputs, chunk: Callable[..., Any], schedule: Callable[..., Any]) -> Launch:
    """The schedule of chunks is built before, as its interface has it for several layers of one batch."""
    tokens = {name: getattr(inputs, name)[None] for name in ("q", "k", "v", "g", "beta")}
    options = {
        "o": inputs.out[None],
        "initial_state": dense_states(inputs),
        "state_dtype": inputs.pool.dtype,
        "cu_seqlens": inputs.query_start_loc,
        "prefill_metadata": schedule(inputs.setting.lengths, cu_seqlens=inputs.query_start_loc),
    }

    def launch() -> Results:
        out, after = chunk(**tokens, **options, output_final_state=True, use_qk_l2norm_in_kernel=True)
        return Results(out[0], after)

    return launch


CHUNK = Peer(
    name="aiter-chunk-opt-vk",
    span=DELTA,
    functions=(
        "aiter.ops.triton.gated_delta_net.gated_delta_rule:chunk_gated_delta_rule_opt_vk",
        "aiter.ops.prefill_batch_metadata:build_gated_delta_rule_prefill_metadata",
    ),
    prepare=_chunk,
    in_place=False,
)
PEERS = (
    Peer("aiter-gated-delta-rule", RECURRENCE, (GATED_DELTA_RULE,), _gated_delta_rule),
    Peer(
        "aiter-layer",
        WHOLE,
        (CONV_UPDATE, GATED_DELTA_RULE, GATED_NORM),
        _layer,
        refuses=one_token_a_row,
        narrow_products=True,  # mul.bf16 in the conv kernel's PTX for sm_90
    ),
)
