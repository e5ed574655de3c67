"""Are the numbers right? Finiteness first, then the noise ratio of every row, worst place named.

In the catalogue of bugs: oversized-conv-state-reads-head-not-tail, spec-pool-column-slice-missing,
state-len-from-stride, shortconv-batch1-and-history-loss, conv-state-sliced-as-one-block,
decay-or-state-update-forgotten, decay-or-state-kept-in-low-precision, delta-correction-inside-wrong-branch,
l2norm-max-vs-rsqrt, eps-on-mean-instead-of-sum, gva-head-map, verify-state-buffer-transposed,
fused-kernel-swap-drops-spec-flags, exp-before-mask-in-wy-and-o, block-end-decay-from-thread-local-coord,
log-cumsum-not-carried, decay-factored-into-two-exps, tail-not-masked-in-fixed-length-mode,
chunk-index-helper-wrong-argument, chunk-count-underestimated, autotune-trials-mutate-state,
qkvzba-fast-path-only-pow2-ratio, dtype-reinterpreted-and-cache-key-too-small, autotune-key-or-arg-wrong,
noncausal-anchor, zero-gate-difference-dropped, accumulator-row-group-order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from gdn_verify.cases.contract import Span, Stage
from gdn_verify.checks.question import Written, double, stored_only
from gdn_verify.feed import Feed
from gdn_verify.oracles.compose import Array, Problem
from gdn_verify.oracles.noise import RUNS, RUNS_BEFORE_ACCUSATION, Expected, Rounding, expect, rows, threshold
from gdn_verify.paths.base import Outputs
from gdn_verify.verdict import Check, Finding

Draws = tuple[tuple[int, float], ...]
DRAWS: Draws = ((RUNS, 0.35), (128, 0.6), (RUNS_BEFORE_ACCUSATION, 1.0))
"""Perturbed runs, and the share of the threshold up to which their budget is believed: 32 runs estimate one scalar's
spread too loosely, and an accusation, or a reported worst ratio, should rest on more."""
HASTY: Draws = ((RUNS, 1.0),)
"""Enough to see whether a case that was made smaller still fails as before."""

_OF_THE_LAUNCH = frozenset({"conv", "g", "beta"})
"""Results that a stage makes of the launch's own inputs: what the launch is judged by holds for them as well."""

_GATE_RESULTS = ("g", "beta", "q_hat", "k_hat")
AXES = {
    "o": ("token", "value head"),
    "out": ("token", "value head"),
    "h": ("state", "value head", "V"),
    "conv": ("token",),
    "g": ("token", "value head"),
    "beta": ("token", "value head"),
    "q_hat": ("token", "key head"),
    "k_hat": ("token", "key head"),
}


@dataclass(frozen=True)
class Judged:
    """The outcome of comparing one launch: findings, the largest ratio, and what it was judged by, of how many runs."""

    findings: tuple[Finding, ...] = ()
    worst_ratio: float = 0.0
    expected: Mapping[str, Expected] = field(default_factory=dict)
    runs: int = 0


def judge(
    problem: Problem,
    rounding: Rounding,
    stored: list[Written],
    observed: Mapping[str, Array],
    where: str = "",
    launch: Judged | None = None,
    draws: Draws = DRAWS,
) -> Judged:
    """Compare `observed` results with the oracle of `problem`; every result observed is judged.

    A result of the oracle that the path does not give back is not judged (`question.malformed` asks for those that it
    owes); one that it gives beyond the oracle's is a KeyError, one of another shape a ValueError: nothing is dropped
    or broadcast silently. Before an accusation the budget is drawn again from more runs. For a stage, `launch` is what
    the whole launch came to: nothing is drawn a second time that the stage shares with it.
    """
    observed = rows(observed)
    for runs, trusted in draws:
        if launch is not None and runs == launch.runs and observed.keys() <= _OF_THE_LAUNCH:
            expected = dict(launch.expected)
        else:
            expected = stored_only(expect(problem, rounding, runs=runs), stored)
        worst, limit = _worst(expected, observed), threshold(_rows(expected, observed))
        if worst <= trusted * limit:
            break
    named = ((name, expected[name], observed[name]) for name in observed)
    findings = tuple(f for name, want, got in named if (f := _accuse(name, want, got, limit, where)) is not None)
    return Judged(findings, worst, expected, runs)


def _worst(expected: Mapping[str, Expected], observed: Mapping[str, Array]) -> float:
    ratios = [expected[name].ratios(got).max(initial=0.0) for name, got in observed.items()]
    return float(max(ratios, default=0.0))


def _rows(expected: Mapping[str, Expected], observed: Mapping[str, Array]) -> int:
    return sum(expected[name].budget.size for name in observed)


def _accuse(name: str, want: Expected, got: Array, limit: float, where: str) -> Finding | None:
    ratios = want.ratios(got)
    if not ratios.size or ratios.max() <= limit:
        return None
    row = np.unravel_index(int(ratios.argmax()), ratios.shape)
    finite = bool(np.isfinite(got[row]).all())
    error = np.where(np.isfinite(got[row]), np.abs(got[row] - want.value[row]), np.inf)
    at = int(error.argmax())
    place = ", ".join(f"{axis} {i}" for axis, i in zip(AXES[name], row, strict=False))
    wrong, total = int((ratios > limit).sum()), ratios.size
    message = (
        f"{where}{name}[{place}, element {at}]: expected {want.value[row][at]:.9g}, got {got[row][at]:.9g}; "
        f"row error {np.sqrt(np.square(error).sum()):.3g} against a budget of {want.budget[row]:.3g}, "
        f"ratio {ratios[row]:.3g} (limit {limit:.2f}); {wrong} of {total} rows beyond it"
    )
    return Finding(
        Check.VALUES, f"{where}{name}" if finite else f"{where}{name} not finite", message, float(ratios[row])
    )


Question = tuple[str, Problem, dict[str, Array]]


def stage_questions(
    feed: Feed, problem: Problem, outputs: Outputs, observed: Mapping[str, Array]
) -> Iterator[Question]:
    """Each exposed stage by itself: its name, the problem from the *observed* left edge, and what was observed.

    `observed` holds the launch's results; the last stage and the states are judged again from the edges seen.
    """
    import torch

    live = torch.from_numpy(feed.live_tokens)
    seen = {name: double(value[live.to(value.device)]) for name, value in outputs.stages.items()}
    if "conv" in seen:
        yield "conv", replace(problem, span=Span(Stage.CONV, Stage.CONV)), {"conv": seen["conv"]}
    edge = _edge(problem, seen)
    found: dict[str, Array] = {n: seen[n] for n in _GATE_RESULTS if n in seen}
    if found:
        yield "gates", replace(problem, span=Span(Stage.GATES, Stage.GATES), tensors=edge), found
    if {"o", *_GATE_RESULTS} <= seen.keys():
        tensors = {**edge, **found}
        got = {"o": seen["o"], "h": observed["h"]}
        yield "delta", replace(problem, span=Span(Stage.DELTA, Stage.DELTA), tensors=tensors), got
    if "o" in seen and Stage.NORM in problem.span:
        tensors = {**edge, "o": seen["o"]}
        yield "norm", replace(problem, span=Span(Stage.NORM, Stage.NORM), tensors=tensors), {"out": observed["out"]}


def _edge(problem: Problem, seen: Mapping[str, Array]) -> dict[str, Array]:
    """The problem's tensors with q, k and v taken from the conv's observed output, if there is one."""
    tensors = dict(problem.tensors)
    if "conv" in seen:
        g, x = problem.geometry, seen["conv"]
        q, k, v = np.split(x, (g.H * g.K, 2 * g.H * g.K), axis=1)
        tensors |= {"q": q.reshape(-1, g.H, g.K), "k": k.reshape(-1, g.H, g.K), "v": v.reshape(-1, g.HV, g.V)}
    return tensors
