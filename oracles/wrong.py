"""Deliberately wrong oracles: what a defect would compute, so that a case's power to see it is a number.

Each takes the delta stage's own inputs (after conv, gates and norm) and returns what a kernel with that one
defect would return. A case whose distance to a wrong oracle is below a few budgets proves nothing about it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import exp
from typing import Any

import numpy as np

from gdn_verify.cases.contract import Span, Stage
from gdn_verify.oracles._compiled import kernel, run_tasks
from gdn_verify.oracles.compose import Array, Problem, Results, clean, evaluate


def from_delta(problem: Problem, known: Results) -> Problem:
    """The rest of a problem from the delta stage on, its inputs taken from the results so far."""
    tensors = {name: value[0] for name, value in known.items() if name in ("q_hat", "k_hat", "g", "beta")}
    tensors |= {n: v for n, v in problem.tensors.items() if n in ("g", "beta", "z", "norm_weight")}
    tensors["v"] = _values(problem, known)
    last = problem.span.last
    return replace(problem, span=Span(Stage.DELTA, last), tensors=tensors, history=None)


def _values(problem: Problem, known: Results) -> Array:
    if "conv" not in known:
        return problem.tensors["v"]
    g = problem.geometry
    v: Array = known["conv"][0][:, 2 * g.H * g.K :]
    return v.reshape(-1, g.HV, g.V)


Wrong = Callable[[Problem], Results]


def _changed(**change: Callable[[Array], Array]) -> Wrong:
    def run(problem: Problem) -> Results:
        return evaluate(problem.with_tensors(**{n: f(problem.tensors[n]) for n, f in change.items()}), clean())

    return run


def _no_state(problem: Problem) -> Results:
    assert problem.state is not None
    return evaluate(replace(problem, state=np.zeros_like(problem.state)), clean())


def _transposed(problem: Problem) -> Results:
    """The pool's memory read in the other order, as a kernel for KV reads a VK pool."""
    assert problem.state is not None
    N, HV, V, K = problem.state.shape
    other = problem.state.reshape(N, HV, K, V).transpose(0, 1, 3, 2)
    return evaluate(replace(problem, state=np.ascontiguousarray(other)), clean())


def _zero_output(problem: Problem) -> Results:
    return {"o": np.zeros((1, *problem.tensors["v"].shape))}


def _no_delta(problem: Problem) -> Results:
    """h ← e^g h + β v k̂ᵀ: gated linear attention, the correction by what the state holds already left out."""
    t, state, starts = problem.tensors, problem.state, problem.query_start_loc
    assert state is not None
    o, h = np.zeros(t["v"].shape), np.zeros((len(t["v"]), *state.shape[1:]))
    args = (t["q_hat"], t["k_hat"], t["v"], t["g"], t["beta"], state, starts, o, h)
    run_tasks(_linear_scan, state.shape[0] * state.shape[1], h.size, *(np.ascontiguousarray(a) for a in args[:7]), o, h)
    made = {"o": o[None], "h": h[None]}
    if problem.every_token:
        return made
    last = starts[1:] - 1  # every live row has a token
    return {**made, "h": h[None, last]}


@kernel
def _linear_scan(
    first: Any, last: Any, q: Any, k: Any, v: Any, g: Any, beta: Any, state: Any, starts: Any, o: Any, h: Any
) -> None:
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
            h[t, head] = now


def _next_head(x: Array) -> Array:
    return np.roll(x, 1, axis=1)


WRONG: dict[str, Wrong] = {
    "zero output": _zero_output,
    "no delta term": _no_delta,
    "no decay": _changed(g=np.zeros_like),
    "initial state ignored": _no_state,
    "beta = 1": _changed(beta=np.ones_like),
    "other head map": _changed(q_hat=_next_head, k_hat=_next_head),
    "state transposed": _transposed,
}
"""Every live row is assumed to have a token, as live rows do."""

STEP = 2.0**-10


def _scaled(name: str) -> Wrong:
    return _changed(**{name: lambda x: x * (1.0 - STEP)})


def _state_scaled(problem: Problem) -> Results:
    assert problem.state is not None
    return evaluate(replace(problem, state=problem.state * (1.0 - STEP)), clean())


DIRECTIONS: dict[str, Wrong] = {
    "beta": _scaled("beta"),
    "g": _scaled("g"),
    "v": _scaled("v"),
    "k": _scaled("k_hat"),
    "q": _scaled("q_hat"),
    "initial state": _state_scaled,
}
"""Small systematic errors: one factor off by 2⁻¹⁰. A bias of a kernel shows as a slope along one of them."""
