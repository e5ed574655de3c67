"""FlashInfer's kernels (CuTe DSL), read from flashinfer-python 0.7.2.post1: the recurrence alone, decode and prefill.

A float32 and a bfloat16 state go to different kernels behind one function, both for K = V = 128 here and for NVIDIA
from SM90 on. A bfloat16 pool's slot 0 is scratch for padded rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from gdn_verify.bench.contender import Contender, Inputs, Launch, Missing, PrefillInputs, Results, Setting
from gdn_verify.bench.peers.peer import DELTA, RECURRENCE, Peer, dense_states, one_token_a_row
from gdn_verify.cases.contract import DType
from gdn_verify.kernels.stages import qk_norm

HEAD = 128
LEAST_CAPABILITY = (9, 0)


def contenders() -> Iterable[Contender | Missing]:
    """The recurrence alone."""
    return [_found(PRETRANSPOSE)]


def prefill_contenders() -> Iterable[Contender | Missing]:
    """The recurrence in chunks, with q and k normalised by its own kernel or before it, in its favour."""
    return [_found(CHUNK), _found(CHUNK_NORMED)]


def _found(peer: Peer) -> Contender | Missing:
    found = peer.contender()
    reason = _unfit() if isinstance(found, Contender) else ""
    return Missing(peer.name, reason) if reason else found


def _unfit() -> str:
    """Why this machine's card cannot run it, "" if it can."""
    if not torch.cuda.is_available() or torch.version.hip:
        return "needs an NVIDIA card"
    capability = torch.cuda.get_device_capability()
    return "" if capability >= LEAST_CAPABILITY else f"needs SM90 or later, not SM{capability[0]}{capability[1]}"


def _refuses(setting: Setting) -> str | None:
    return _narrow(setting) or one_token_a_row(setting)


def _narrow(setting: Setting) -> str | None:
    g = setting.geometry
    if (g.K, g.V) != (HEAD, HEAD):
        return f"takes K = V = {HEAD}, not K={g.K}, V={g.V}"
    if setting.state not in (DType.F32, DType.BF16):
        return f"takes float32 and bfloat16 states, not {setting.state}"
    return None


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


def _chunk(inputs: PrefillInputs, chunk: Callable[..., Any]) -> Launch:
    return _chunks(inputs, inputs.q, inputs.k, True, chunk)


def _chunk_normed(inputs: PrefillInputs, chunk: Callable[..., Any]) -> Launch:
    q, k = (x.to(inputs.q.dtype) for x in qk_norm(inputs.q, inputs.k, scale=1.0))
    return _chunks(inputs, q, k, False, chunk)


def _chunks(inputs: PrefillInputs, q: Tensor, k: Tensor, norm: bool, chunk: Callable[..., Any]) -> Launch:
    """Its gate is e^g. It writes into what it is given, and may know the longest row."""
    alpha, states = inputs.g.exp(), dense_states(inputs)
    g, rows = inputs.geometry, inputs.setting.rows
    after = torch.empty(rows, g.HV, g.V, g.K, dtype=inputs.pool.dtype, device=q.device)
    options = {"max_seqlen": max(inputs.setting.lengths), "use_qk_l2norm_in_kernel": norm}

    def launch() -> Results:
        chunk(
            q,
            k,
            inputs.v,
            alpha,
            inputs.beta,
            initial_state=states,
            output_final_state=True,
            cu_seqlens=inputs.query_start_loc,
            output=inputs.out,
            output_state=after,
            **options,
        )
        return Results(inputs.out, after)

    return launch


CHUNK_FUNCTIONS = ("flashinfer.gdn_prefill:chunk_gated_delta_rule",)
CHUNK = Peer("flashinfer-chunk", DELTA, CHUNK_FUNCTIONS, _chunk, refuses=_narrow, in_place=False)
CHUNK_NORMED = Peer("flashinfer-chunk-normed", DELTA, CHUNK_FUNCTIONS, _chunk_normed, refuses=_narrow, in_place=False)
PRETRANSPOSE = Peer(
    name="flashinfer-pretranspose",
    span=RECURRENCE,
    functions=("flashinfer.gdn_decode:gated_delta_rule_decode_pretranspose",),
    prepare=_pretranspose,
    refuses=_refuses,
)
