"""vLLM's Triton kernels, read from vllm 0.33.0: the recurrence alone, all that its layer launches for a decode, chunks.

Slot 0 is vLLM's padding. Left out, in its favour: what the compiler makes of the rest of its layer (the output set to
zero, a and b copied into one row each); the kernels read the strided views.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from gdn_verify.bench.contender import Contender, Inputs, Launch, Missing, PrefillInputs, Results
from gdn_verify.bench.peers.peer import (
    DELTA,
    RECURRENCE,
    WHOLE,
    Peer,
    dense_states,
    float32_states,
    one_token_a_row,
)

OPS = "vllm.third_party.flash_linear_attention.ops"
SIGMOID_GATING = f"{OPS}.fused_sigmoid_gating:fused_sigmoid_gating_delta_rule_update"
PACKED_DECODE = f"{OPS}.fused_recurrent:fused_recurrent_gated_delta_rule_packed_decode"
CONV_UPDATE = "vllm.model_executor.layers.mamba.ops.causal_conv1d:causal_conv1d_update"
GATED_NORM = f"{OPS}.layernorm_guard:rmsnorm_fn"


def contenders() -> Iterable[Contender | Missing]:
    """Two recurrences, and the whole decode with the norm's gate as the layer has it and as its kernel wants it."""
    return [peer.contender() for peer in PEERS]


def prefill_contenders() -> Iterable[Contender | Missing]:
    """The recurrence in chunks of 64."""
    return [CHUNK.contender()]


def _sigmoid_gating(inputs: Inputs, update: Callable[..., Any]) -> Launch:
    """q, k, v, a and b are made contiguous before, where the layer's compiled code does it in a launch of its own."""
    tokens = {name: getattr(inputs, name)[None].contiguous() for name in ("q", "k", "v")}
    arguments = {
        **tokens,
        "a": inputs.a.contiguous(),
        "b": inputs.b.contiguous(),
        "A_log": inputs.A_log,
        "dt_bias": inputs.dt_bias,
        "initial_state": inputs.pool,
        "cu_seqlens": inputs.query_start_loc,
        "ssm_state_indices": inputs.state_indices,
        "num_accepted_tokens": inputs.num_accepted_tokens,
    }
    return lambda: Results(update(**arguments, use_qk_l2norm_in_kernel=True)[0][0])


def _packed_decode(inputs: Inputs, decode: Callable[..., Any]) -> Launch:
    def launch() -> Results:
        _recurrence(inputs, inputs.conv_out, inputs.out, decode)
        return Results(inputs.out)

    return launch


def _recurrence(inputs: Inputs, conv_out: torch.Tensor, o: torch.Tensor, decode: Callable[..., Any]) -> None:
    decode(
        conv_out,
        inputs.a,
        inputs.b,
        inputs.A_log,
        inputs.dt_bias,
        inputs.geometry.K**-0.5,
        inputs.pool,
        o[:, None],
        inputs.state_indices,
        use_qk_l2norm_in_kernel=True,
    )


def _layer(inputs: Inputs, conv: Callable[..., Any], decode: Callable[..., Any], norm: Callable[..., Any]) -> Launch:
    """The layer's conv overwrites the projection; `out` gives the same kernel another place to write to."""
    return _whole(inputs, inputs.z, conv, decode, norm)


def _layer_dense_z(
    inputs: Inputs, conv: Callable[..., Any], decode: Callable[..., Any], norm: Callable[..., Any]
) -> Launch:
    """Without the launch in which the norm copies z: its kernel takes one row stride, and flat packing has two."""
    return _whole(inputs, inputs.z.contiguous(), conv, decode, norm)


def _whole(
    inputs: Inputs, z: torch.Tensor, conv: Callable[..., Any], decode: Callable[..., Any], norm: Callable[..., Any]
) -> Launch:
    convolved = inputs.mixed_qkv, inputs.conv_pool, inputs.conv_weight, inputs.conv_bias

    def launch() -> Results:
        conv_out, o = torch.empty_like(inputs.conv_out), torch.empty_like(inputs.out)
        conv(*convolved, "silu", conv_state_indices=inputs.state_indices, out=conv_out)
        _recurrence(inputs, conv_out, o, decode)
        return Results(norm(o, inputs.norm_weight, None, z=z, eps=inputs.norm_eps, activation="silu"))

    return launch


def _chunk(
    inputs: PrefillInputs, chunk: Callable[..., Any], indices: Callable[..., Any], offsets: Callable[..., Any]
) -> Launch:
    """Where chunks begin is computed before, as the server does it once for all layers of a batch."""
    tokens = {name: getattr(inputs, name)[None] for name in ("q", "k", "v", "g", "beta")}
    starts = inputs.query_start_loc
    options = {
        "initial_state": dense_states(inputs),
        "cu_seqlens": starts,
        "chunk_indices": indices(starts, CHUNK_SIZE),
        "chunk_offsets": offsets(starts, CHUNK_SIZE),
    }

    def launch() -> Results:
        out, after = chunk(**tokens, **options, output_final_state=True, use_qk_l2norm_in_kernel=True)
        return Results(out[0], after)

    return launch


CHUNK_SIZE = 64
CHUNK = Peer(
    name="vllm-chunk",
    span=DELTA,
    functions=(
        f"{OPS}.chunk:chunk_gated_delta_rule",
        f"{OPS}.index:prepare_chunk_indices",
        f"{OPS}.index:prepare_chunk_offsets",
    ),
    prepare=_chunk,
    refuses=float32_states,
    in_place=False,
)
LAYER = (CONV_UPDATE, PACKED_DECODE, GATED_NORM)
# The conv kernel multiplies bf16 by bf16: mul.bf16 in its PTX for sm_90.
PEERS = (
    Peer("vllm-sigmoid-gating", RECURRENCE, (SIGMOID_GATING,), _sigmoid_gating),
    Peer("vllm-packed-decode", RECURRENCE, (PACKED_DECODE,), _packed_decode, refuses=one_token_a_row),
    Peer("vllm-layer", WHOLE, LAYER, _layer, refuses=one_token_a_row, narrow_products=True),
    Peer("vllm-layer-dense-z", WHOLE, LAYER, _layer_dense_z, refuses=one_token_a_row, narrow_products=True),
)
