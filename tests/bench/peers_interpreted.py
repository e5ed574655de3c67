"""Peers against this project's fallback; imported in a process with the interpreter installed."""

from dataclasses import replace
from importlib import import_module

import torch
from torch import Tensor

from gdn_verify.bench import ours
from gdn_verify.bench.contender import Contender, Inputs, Launch, Missing, PrefillInputs, Setting
from gdn_verify.bench.inputs import draw
from gdn_verify.bench.prefill.judge import Judge
from gdn_verify.cases.contract import DType, Geometry, Span, Stage
from gdn_verify.kernels.delta import delta_rule
from gdn_verify.kernels.fallback import gated_delta_net_packed
from gdn_verify.kernels.rows import Tables
from gdn_verify.kernels.stages import qk_norm

GEOMETRY, ROWS, SEED = Geometry(2, 4, 16, 16), 3, 7


def relative_errors(module: str, name: str, state: DType, no_decay: bool = False) -> tuple[float, float] | str:
    """Of the output and of the states, in the norm; or why the contender is missing or does not take the state.

    With `no_decay` the contender alone is told that nothing decays.
    """
    (found,) = (peer for peer in import_module(module).contenders() if peer.name == name)
    if isinstance(found, Missing):
        return str(found)
    setting = Setting(GEOMETRY, ROWS, state)
    return found.refuses(setting) or _errors(found, setting, no_decay)


def _errors(contender: Contender, setting: Setting, no_decay: bool) -> tuple[float, float]:
    given, used = (draw(setting, "cpu", SEED, contender.state_order, contender.conv_layout) for _ in range(2))
    slots = given.state_indices.long()
    results = contender.prepare(replace(used, g=torch.zeros_like(used.g)) if no_decay else used)()
    out = _fallback(given, contender.span)
    states = used.pool[slots] if results.states is None else results.states
    return _relative(results.out, out), _relative(states, given.pool[slots])


def _relative(got: Tensor, expected: Tensor) -> float:
    return float((got.double() - expected.double()).norm() / expected.double().norm())


def _fallback(inputs: Inputs, span: Span) -> Tensor:
    """What the span should leave in `out`; updates the pools of `inputs`."""
    tables = Tables(inputs.query_start_loc, inputs.state_indices)
    if Stage.NORM in span:
        pools = inputs.conv_pool, inputs.pool
        return gated_delta_net_packed(inputs.qkvz, inputs.ba, ours.layer(inputs), *pools, tables)[0]
    q, k = qk_norm(inputs.q, inputs.k)
    gates = inputs.g, inputs.beta
    return delta_rule(q, k, inputs.v, *gates, inputs.pool, tables.state_indices, tables.query_start_loc)


def prefill_errors(
    module: str, name: str, lengths: tuple[int, ...], fresh: bool, no_decay: bool = False
) -> tuple[float, float] | str:
    """The judge's ratio and limit for a chunked prefill, or why the contender is missing."""
    (found,) = (peer for peer in import_module(module).prefill_contenders() if peer.name == name)
    if isinstance(found, Missing):
        return str(found)
    judged = Judge()(
        _undecayed(found) if no_decay else found, Setting.prefill(GEOMETRY, lengths, DType.F32, fresh), "cpu"
    )
    return judged.ratio, judged.limit


def _undecayed(contender: Contender) -> Contender:
    def prepare(inputs: PrefillInputs) -> Launch:
        return contender.prepare(replace(inputs, g=torch.zeros_like(inputs.g)))

    return replace(contender, prepare=prepare)
