"""Deliberately wrong oracles: what a defect would compute, so that a case's power to see it is a number.

Each takes the delta stage's own inputs (after conv, gates and norm) and returns what a kernel with that one
defect would return. A case whose distance to a wrong oracle is below a few budgets proves nothing about it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import exp
from typing import Any

import numpy as np

from gdn_verify.cases.contract import Span, Stage
from gdn_verify.oracles import sequential
from gdn_verify.oracles._compiled import kernel, run_tasks
from gdn_verify.oracles.compose import Array, Draw, Problem, Results, proceed
from gdn_verify.oracles.sites import quiet_sites

DELTA_INPUTS = ("q_hat", "k_hat", "v", "g", "beta")


def from_delta(problem: Problem, known: Mapping[str, Array]) -> Problem:
    """The rest of a problem from the delta stage on; `known` holds the clean results of the stages before."""
    tensors = {name: known[name] for name in ("q_hat", "k_hat")}
    tensors |= {name: known[name] if name in known else problem.tensors[name] for name in ("g", "beta")}
    tensors |= {n: v for n, v in problem.tensors.items() if n in ("z", "norm_weight")}
    tensors["v"] = _values(problem, known)
    return replace(problem, span=Span(Stage.DELTA, problem.span.last), tensors=tensors, history=None)


def _values(problem: Problem, known: Mapping[str, Array]) -> Array:
    if "conv" not in known:
        return problem.tensors["v"]
    g = problem.geometry
    v: Array = known["conv"][:, 2 * g.H * g.K :]
    return v.reshape(-1, g.HV, g.V)


Change = Callable[[Array], Array]
"""What a defect does to one input of the delta stage."""


def _next_head(x: Array) -> Array:
    return np.roll(x, 1, axis=1)


def _transposed(state: Array) -> Array:
    """The pool's memory read in the other order, as a kernel for KV reads a VK pool."""
    N, HV, V, K = state.shape
    return state.reshape(N, HV, K, V).transpose(0, 1, 3, 2)


STEP = 2.0**-10


def _a_little_less(x: Array) -> Array:
    return x * (1.0 - STEP)


WRONG: dict[str, dict[str, Change]] = {
    "no decay": {"g": np.zeros_like},
    "initial state ignored": {"state": np.zeros_like},
    "beta = 1": {"beta": np.ones_like},
    "other head map": {"q_hat": _next_head, "k_hat": _next_head},
    "state transposed": {"state": _transposed},
}
"""Wrong oracles that are the right one on changed inputs; `wrong_results` adds two that are not."""

DIRECTIONS: dict[str, dict[str, Change]] = {
    "beta": {"beta": _a_little_less},
    "g": {"g": _a_little_less},
    "v": {"v": _a_little_less},
    "k": {"k_hat": _a_little_less},
    "q": {"q_hat": _a_little_less},
    "initial state": {"state": _a_little_less},
}
"""Small systematic errors: one factor off by 2⁻¹⁰. A bias of a kernel shows as a slope along one of them."""

WRONG_NAMES = ("zero output", "no delta term", *WRONG)


def wrong_results(delta: Problem) -> tuple[dict[str, Results], dict[str, Results]]:
    """What each wrong oracle computes, and each slightly wrong one; results without an axis of runs.

    All of them are runs of one evaluation. Every row of the problem must have a token, as live rows do.
    """
    names = [*WRONG, *DIRECTIONS]
    runs = _changed_runs(delta, [*WRONG.values(), *DIRECTIONS.values()])
    made = proceed(delta, runs, Draw(quiet_sites(), runs=len(names)))
    each = {name: {key: made[key][i] for key in made} for i, name in enumerate(names)}
    zero = np.zeros(delta.tensors["v"].shape)
    wrong = {"zero output": {"o": zero, "out": zero}, "no delta term": no_delta_term(delta)}
    return {**wrong, **{n: each[n] for n in WRONG}}, {n: each[n] for n in DIRECTIONS}


def _changed_runs(delta: Problem, changes: list[dict[str, Change]]) -> Results:
    """The delta stage's inputs with an axis of runs, one a change; inputs that no change touches stay shared."""
    assert delta.state is not None
    right = {**delta.tensors, "state": delta.state}
    touched = {name for change in changes for name in change}
    runs = {name: value[None] for name, value in right.items() if name not in touched}
    for name in touched:
        value = right[name]
        runs[name] = np.stack([change[name](value) if name in change else value for change in changes])
    return runs


def no_delta_term(problem: Problem) -> Results:
    """h ← e^g h + β v k̂ᵀ: gated linear attention, the correction by what the state holds already left out."""
    t, state, starts = problem.tensors, problem.state, problem.query_start_loc
    assert state is not None
    place = sequential.places(starts, len(t["v"]), problem.every_token, problem.kept)
    o, h = np.zeros(t["v"].shape), np.zeros((place.max(initial=-1) + 1, *state.shape[1:]))
    inputs = [np.ascontiguousarray(t[name]) for name in DELTA_INPUTS]
    work = o.size * state.shape[-1]
    run_tasks(_linear_scan, state.shape[0] * state.shape[1], work, *inputs, state, starts, place, o, h)
    return {"o": o, "h": h}


@kernel
def _linear_scan(
    first: Any, last: Any, q: Any, k: Any, v: Any, g: Any, beta: Any, state: Any, starts: Any, place: Any,
    o: Any, h: Any,
) -> None:  # fmt: skip
    heads, V = v.shape[1], v.shape[2]
    K = q.shape[2]
    for task in range(first, last):
        row, head = task // heads, task % heads
        key_head = head // (heads // q.shape[1])
        now = state[row, head].copy()
        for t in range(starts[row], starts[row + 1]):
            decay = exp(g[t, head])
            for i in range(V):
                total = 0.0
                for j in range(K):
                    now[i, j] = decay * now[i, j] + beta[t, head] * v[t, head, i] * k[t, key_head, j]
                    total += now[i, j] * q[t, key_head, j]
                o[t, head, i] = total
            if place[t] >= 0:
                h[place[t], head] = now
