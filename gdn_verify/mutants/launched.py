"""A published test's launch on a path of this project: fed with its inputs, observed, and the right result of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from gdn_verify.arena import Writable
from gdn_verify.cases.contract import Span, Stage
from gdn_verify.cases.presentation import Poison
from gdn_verify.checks.question import ask
from gdn_verify.feed import TORCH, Feed, Pools, feed, pools_after
from gdn_verify.mutants.draws import Inputs, Source
from gdn_verify.mutants.inputs import Run
from gdn_verify.mutants.published import Judge, Setting
from gdn_verify.oracles.compose import Problem, Results, clean, evaluate
from gdn_verify.paths import Path
from gdn_verify.paths.refusal import refusal_of

WRITTEN = ("out", "z_out", "ssm_pool", "conv_pool")
NO_DECAY, FULL_WRITE = 1e-38, 30.0
"""-g and the logit of β that stand for 0 and 1 where a launch is given a and b."""


@dataclass(frozen=True)
class Seen:
    """What a launch left: `out` [T, HV, V], the pool of states [P, HV, V, K], all bytes, and what it raised."""

    out: Tensor
    pool: Tensor
    bytes: tuple[Tensor, ...] = ()
    astray: bool = False
    raised: str = ""

    def same(self, other: Seen) -> bool:
        """Whether both left the same bits everywhere."""
        alike = len(self.bytes) == len(other.bytes) and all(map(torch.equal, self.bytes, other.bytes))
        return alike and (self.raised, self.astray) == (other.raised, other.astray)


def refusal(setting: Setting, path: Path) -> str | None:
    """Why the path cannot take this launch, or None."""
    if not setting.normalised and not hasattr(path, "normalised"):
        return "the path normalises q and k"
    return refusal_of(path, setting.case, setting.shown)


def fed(setting: Setting, path: Path, judge: Judge) -> Feed:
    """The launch, ready: the test's inputs at the path's left edge, its states in the slots, its fill in the output."""
    case = setting.case
    source = Source(
        setting.geometry, case.batches[0].tokens, case.slots, TORCH[setting.activation], TORCH[setting.state]
    )
    inputs = setting.draw(source)
    span, shown = path.capabilities.span, replace(setting.shown, poison=Poison.PLAUSIBLE)
    at_edge = _at_delta if span.first is Stage.DELTA else _at_unpack
    rounded = {n: x.to(TORCH[setting.activation]) for n, x in at_edge(setting, inputs).items() if n not in _WIDE}
    rounded |= {n: x.float() for n, x in at_edge(setting, inputs).items() if n in _WIDE}
    made = feed(case, 0, path, shown, _pools(setting, inputs, span), "cpu", rounded=rounded)
    made.launch["out"].fill_(judge.unwritten)
    made.arena.seal()
    return made


_WIDE = ("g", "beta", "A_log", "dt_bias", "conv_weight")


def _pools(setting: Setting, inputs: Inputs, span: Span) -> Pools:
    """The test's states by slot, behind one that nobody owns where slots begin at 1; a conv's history is zero."""
    states, g = inputs["states"], setting.geometry
    states = torch.cat([states[:1]] * setting.shown.first_slot + [states])
    return Pools(states, torch.zeros(len(states), g.D, g.C) if Stage.CONV in span else None)


def _at_delta(setting: Setting, inputs: Inputs) -> Inputs:
    """q, k, v, g, β: gates made in float32 where the test has a and b."""
    given = {name: inputs[name] for name in ("q", "k", "v")}
    if "g" in inputs:
        return {**given, "g": inputs["g"], "beta": inputs["beta"]}
    x = inputs["a"].float() + inputs["dt_bias"].float()
    g = -inputs["A_log"].float().exp() * torch.nn.functional.softplus(x)
    return {**given, "g": g, "beta": inputs["b"].float().sigmoid()}


def _at_unpack(setting: Setting, inputs: Inputs) -> Inputs:
    """q|k|v behind a conv that passes its input on; a and b of the test, or those that give its g and β."""
    size = setting.geometry
    x = torch.cat([inputs[name].flatten(1) for name in ("q", "k", "v")], dim=1)
    taps = torch.zeros(size.D, size.W)
    taps[:, -1] = 1
    given = {"x": x, "z": torch.ones(len(x), size.HV, size.V), "conv_weight": taps}
    gates: Inputs = {name: inputs[name] for name in ("a", "b", "A_log", "dt_bias") if name in inputs}
    if not gates:
        a = (-inputs["g"].double()).clamp(min=NO_DECAY).expm1().log()
        b = inputs["beta"].double().logit().clamp(max=FULL_WRITE)
        gates = {"a": a, "b": b, "A_log": torch.zeros(size.HV), "dt_bias": torch.zeros(size.HV)}
    return {**given, **gates}


def observed(made: Feed, run: Run, judge: Judge) -> Seen:
    """Launch, and what it left; an exception is part of it."""
    raised = ""
    with _scratch(judge.scratch):
        try:
            run(made.launch)
        except Exception as error:
            raised = f"{type(error).__name__}: {error}"
    pool, out = pools_after(made).ssm, made.launch["out"]
    assert pool is not None
    written = [name for name in WRITTEN if name in made.arena.names]
    astray = bool(made.arena.violations(dict.fromkeys(written, Writable.ALL)))
    kept = tuple(made.arena[name].clone(memory_format=torch.contiguous_format).view(torch.uint8) for name in written)
    return Seen(out.clone(), pool.clone(), kept, astray, raised)


@contextmanager
def _scratch(value: float) -> Iterator[None]:
    """New memory of floating point numbers holds `value`: what a kernel forgets to write is the same each time."""

    def filling(right: Any) -> Any:
        def make(*args: Any, **kwargs: Any) -> Tensor:
            made: Tensor = right(*args, **kwargs)
            return made.fill_(value) if made.is_floating_point() else made

        return make

    places = [(torch, "empty"), (torch, "empty_like"), (torch.Tensor, "new_empty")]
    with ExitStack() as filled:
        for place, name in places:
            filled.enter_context(patch.object(place, name, filling(getattr(place, name))))
        yield


def right(made: Feed, path: Path, setting: Setting) -> tuple[Tensor, Tensor]:
    """The outputs of live tokens [T, HV, V] and the last states of live rows [N, HV, V, K], as they would be stored.

    In float64 from the inputs as fed, then rounded to the types of the activations and of the pool.
    """
    problem = ask(made, path.capabilities.span)
    results = evaluate(problem, clean())
    if not setting.normalised:
        results = evaluate(_without_norm(problem, results), clean())
    o, h = (torch.from_numpy(results[name][0]) for name in ("o", "h"))
    return o.to(TORCH[setting.activation]), h.to(TORCH[setting.state])


def _without_norm(problem: Problem, results: Results) -> Problem:
    """The recurrence alone, on q and k as the conv left them, q scaled."""
    size, conv = problem.geometry, results["conv"][0]
    q, k, v = np.split(conv, (size.H * size.K, 2 * size.H * size.K), axis=1)
    tensors = {
        "q": q.reshape(-1, size.H, size.K), "k": k.reshape(-1, size.H, size.K), "v": v.reshape(-1, size.HV, size.V),
        "g": results["g"][0], "beta": results["beta"][0],
    }  # fmt: skip
    return replace(problem, span=Span(Stage.DELTA, Stage.DELTA, qk_normalised=True), tensors=tensors, history=None)


def passes(judge: Judge, made: Feed, expected: tuple[Tensor, Tensor], seen: Seen) -> bool:
    """Whether the test would pass."""
    if seen.raised:
        return False
    live = torch.from_numpy(made.live_tokens)
    slots = torch.tensor([made.physical(row.slots[0]) for _, row in made.batch.live_rows() if row.slots[0] is not None])
    other = torch.ones(len(seen.pool), dtype=torch.bool).index_fill(0, slots, False)
    padded = torch.ones(len(seen.out), dtype=torch.bool).index_fill(0, live, False)
    before, out = made.before.ssm, seen.out
    assert before is not None
    pairs = (
        (judge.output, expected[0], out[live]),
        (judge.states, expected[1], seen.pool[slots]),
        (judge.others, before[other], seen.pool[other]),
        (judge.pads, torch.zeros_like(out[padded]), out[padded]),
    )
    return all(compare is None or not wanted.numel() or compare(wanted, got) for compare, wanted, got in pairs)
