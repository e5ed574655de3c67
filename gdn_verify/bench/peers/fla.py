"""FLA's fused recurrent kernel and its chunked ones, read from fla-core 0.6.0.

Its interface has no state pool: states are dense, one a row, read from one tensor and returned as another. Here the
rows' states are gathered once, before; a server that keeps a pool would gather and scatter in every launch. States
come back in float32 whatever they were, so a narrower pool is refused. Where a chunk begins is kept by the identity of
the rows' starts, and not computed in a launch that was warmed up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from gdn_verify.bench.contender import Contender, Inputs, Launch, Missing, PrefillInputs, Results, Setting
from gdn_verify.bench.peers.peer import DELTA, Peer, dense_states, float32_states, one_token_a_row


def contenders() -> Iterable[Contender | Missing]:
    """The recurrence alone."""
    return [FUSED_RECURRENT.contender()]


def prefill_contenders() -> Iterable[Contender | Missing]:
    """The recurrence in chunks of 64."""
    return [CHUNK.contender()]


def _refuses(setting: Setting) -> str | None:
    return float32_states(setting) or one_token_a_row(setting)


def _fused_recurrent(inputs: Inputs, recurrent: Callable[..., Any]) -> Launch:
    """Each row is a batch of one token; the wrapper would copy what is not contiguous, so that is done before."""
    tokens = {
        name: getattr(inputs, name)[:, None].contiguous()  # [N, 1, heads, …]
        for name in ("q", "k", "v", "g", "beta")
    }
    states = inputs.pool[inputs.state_indices.long()]

    def launch() -> Results:
        out, after = recurrent(
            **tokens,
            initial_state=states,
            output_final_state=True,
            use_qk_l2norm_in_kernel=True,
            state_v_first=True,
        )
        return Results(out[:, 0], after)

    return launch


def _chunk(inputs: PrefillInputs, chunk: Callable[..., Any]) -> Launch:
    tokens = {name: getattr(inputs, name)[None] for name in ("q", "k", "v", "g", "beta")}
    options = {"initial_state": dense_states(inputs), "cu_seqlens": inputs.query_start_loc}

    def launch() -> Results:
        out, after = chunk(
            **tokens, **options, output_final_state=True, use_qk_l2norm_in_kernel=True, state_v_first=True
        )
        return Results(out[0], after)

    return launch


CHUNK = Peer(
    name="fla-chunk",
    span=DELTA,
    functions=("fla.ops.gated_delta_rule:chunk_gated_delta_rule",),
    prepare=_chunk,
    refuses=float32_states,
    in_place=False,
    path="fla-chunk",
)
FUSED_RECURRENT = Peer(
    name="fla-recurrent",
    span=DELTA,
    functions=("fla.ops.gated_delta_rule:fused_recurrent_gated_delta_rule",),
    prepare=_fused_recurrent,
    refuses=_refuses,
    in_place=False,
    path="fla-recurrent",
)
