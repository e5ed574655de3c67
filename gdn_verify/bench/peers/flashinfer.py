"""FlashInfer's decode kernels (CuTe DSL), read from flashinfer-python 0.7.2.post1: the recurrence alone, on a pool.

A float32 and a bfloat16 state go to different kernels behind one function, both for K = V = 128 here and for NVIDIA
from SM90 on. A bfloat16 pool's slot 0 is scratch for padded rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from gdn_verify.bench.contender import Contender, Inputs, Launch, Missing, Results, Setting
from gdn_verify.bench.peers.peer import RECURRENCE, Peer, one_token_a_row
from gdn_verify.cases.contract import DType

HEAD = 128
LEAST_CAPABILITY = (9, 0)


def contenders() -> Iterable[Contender | Missing]:
    """The recurrence alone."""
    found = PRETRANSPOSE.contender()
    reason = _unfit() if isinstance(found, Contender) else ""
    return [Missing(PRETRANSPOSE.name, reason) if reason else found]


def _unfit() -> str:
    """Why this machine's card cannot run it, "" if it can."""
    if not torch.cuda.is_available() or torch.version.hip:
        return "needs an NVIDIA card"
    capability = torch.cuda.get_device_capability()
    return "" if capability >= LEAST_CAPABILITY else f"needs SM90 or later, not SM{capability[0]}{capability[1]}"


def _refuses(setting: Setting) -> str | None:
    g = setting.geometry
    if (g.K, g.V) != (HEAD, HEAD):
        return f"takes K = V = {HEAD}, not K={g.K}, V={g.V}"
    if setting.state not in (DType.F32, DType.BF16):
        return f"takes float32 and bfloat16 states, not {setting.state}"
    return one_token_a_row(setting)


def _pretranspose(inputs: Inputs, decode: Callable[..., Any]) -> Launch:
    """q, k, v, a and b are copied before: not every kernel behind the function takes the rows of a wider tensor."""
    tokens = {
        name: getattr(inputs, name)[:, None].clone(memory_format=torch.contiguous_format)
        for name in ("q", "k", "v", "a", "b")
    }

    def launch() -> Results:
        decode(
            **tokens,
            state=None,
            A_log=inputs.A_log,
            dt_bias=inputs.dt_bias,
            output=inputs.out[:, None],
            initial_state=inputs.pool,
            initial_state_indices=inputs.state_indices,
        )
        return Results(inputs.out)

    return launch


PRETRANSPOSE = Peer(
    name="flashinfer-pretranspose",
    span=RECURRENCE,
    functions=("flashinfer.gdn_decode:gated_delta_rule_decode_pretranspose",),
    prepare=_pretranspose,
    refuses=_refuses,
)
