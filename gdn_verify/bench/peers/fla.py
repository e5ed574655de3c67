"""FLA's fused recurrent kernel, read from fla-core 0.6.0.

Its interface has no state pool: states are dense, one a row, read from one tensor and returned as another. Here the
rows' states are gathered once, before; a server that keeps a pool would gather and scatter in every launch. States
come back in float32 whatever they were, so a narrower pool is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from gdn_verify.bench.contender import Contender, Inputs, Launch, Missing, Results, Setting
from gdn_verify.bench.peers.peer import Peer, one_token_a_row
from gdn_verify.cases.contract import DType, Span, Stage


def contenders() -> Iterable[Contender | Missing]:
    """The recurrence alone."""
    return [FUSED_RECURRENT.contender()]


def _refuses(setting: Setting) -> str | None:
    if setting.state is not DType.F32:
        return f"returns its states in float32, not in {setting.state}"
    return one_token_a_row(setting)


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


FUSED_RECURRENT = Peer(
    name="fla-recurrent",
    span=Span(Stage.DELTA, Stage.DELTA),
    functions=("fla.ops.gated_delta_rule:fused_recurrent_gated_delta_rule",),
    prepare=_fused_recurrent,
    refuses=_refuses,
    in_place=False,
    path="fla-recurrent",
)
