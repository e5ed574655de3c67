"""Wrong oracles by stage: what a launch with one defect would give, so that a wrong launch can be told by its numbers.

`wrong` has the few that every case is held against. These are more, and each may be confined to some tokens, value
heads and rows: "no decay, in value head 2, from token 64 on". They take the problem of the delta stage and what comes
after, its key heads repeated (`of_value_heads`), so that every input has an axis of value heads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gdn_verify.cases.contract import Activation, Span, Stage
from gdn_verify.oracles.compose import Array, Problem, Results, clean, evaluate
from gdn_verify.oracles.wrong import from_delta, no_delta_term

Change = Callable[[Array, Problem], Array]
"""What a defect makes of one input of the delta stage."""
Within = tuple[NDArray[np.bool_], NDArray[np.bool_]]
"""Where a defect is: of tokens and value heads [T, HV], and of rows and value heads [N, HV]."""


@dataclass(frozen=True)
class Defect:
    """A name, to be read after "matches the oracle with"; its stage; what becomes of the delta stage's inputs."""

    name: str
    stage: Stage
    changes: Mapping[str, Change]


def _times(factor: float) -> Change:
    return lambda x, problem: x * factor


def _shifted(axis: int, step: int) -> Change:
    return lambda x, problem: np.roll(x, step, axis=axis)


def _filled(value: float) -> Change:
    return lambda x, problem: np.full_like(x, value)


def _unscaled(x: Array, problem: Problem) -> Array:
    return x / (problem.options.q_scale(problem.geometry) or 1.0)


def _scaled(x: Array, problem: Problem) -> Array:
    return x * problem.options.q_scale(problem.geometry)


def _transposed(state: Array, problem: Problem) -> Array:
    N, HV, V, K = state.shape
    return state.reshape(N, HV, K, V).swapaxes(2, 3)


GATES, DELTA, NORM = Stage.GATES, Stage.DELTA, Stage.NORM
_Q, _K = ("q_hat",), ("k_hat",)
NO_TERM = Defect("no delta term", DELTA, {})
"""h ← e^g h + β v k̂ᵀ: not the right oracle on other inputs."""
TILED = Defect("key heads tiled (j % H)", DELTA, {})
"""Value head j reads key head j % H."""
DEFECTS = (
    NO_TERM,
    TILED,
    Defect("no decay", GATES, {"g": _filled(0.0)}),
    Defect("the decay twice", GATES, {"g": _times(2.0)}),
    Defect("the decay's inverse", GATES, {"g": _times(-1.0)}),
    Defect("the decay of the value head before", GATES, {"g": _shifted(1, 1)}),
    Defect("the decay of the value head after", GATES, {"g": _shifted(1, -1)}),
    Defect("the decay of the token before", GATES, {"g": _shifted(0, 1)}),
    Defect("β = 1", GATES, {"beta": _filled(1.0)}),
    Defect("β = 0", GATES, {"beta": _filled(0.0)}),
    Defect("twice β", GATES, {"beta": _times(2.0)}),
    Defect("half of β", GATES, {"beta": _times(0.5)}),
    Defect("β of the value head before", GATES, {"beta": _shifted(1, 1)}),
    Defect("β of the value head after", GATES, {"beta": _shifted(1, -1)}),
    Defect("no scale of q", GATES, {"q_hat": _unscaled}),
    Defect("the scale of q twice", GATES, {"q_hat": _scaled}),
    Defect("q of the head before", DELTA, dict.fromkeys(_Q, _shifted(1, 1))),
    Defect("q of the head after", DELTA, dict.fromkeys(_Q, _shifted(1, -1))),
    Defect("k of the head before", DELTA, dict.fromkeys(_K, _shifted(1, 1))),
    Defect("k of the head after", DELTA, dict.fromkeys(_K, _shifted(1, -1))),
    Defect("q and k of the head before", DELTA, dict.fromkeys(_Q + _K, _shifted(1, 1))),
    Defect("q and k of the head after", DELTA, dict.fromkeys(_Q + _K, _shifted(1, -1))),
    Defect("v of the head before", DELTA, {"v": _shifted(1, 1)}),
    Defect("no v", DELTA, {"v": _filled(0.0)}),
    Defect("no initial state", DELTA, {"state": _filled(0.0)}),
    Defect("the initial state transposed", DELTA, {"state": _transposed}),
    Defect("the initial state of the row before", DELTA, {"state": _shifted(0, 1)}),
    Defect("the initial state of the row after", DELTA, {"state": _shifted(0, -1)}),
    Defect("the initial state of the head before", DELTA, {"state": _shifted(1, 1)}),
    Defect("z of the head before", NORM, {"z": _shifted(1, 1)}),
    Defect("z of the token before", NORM, {"z": _shifted(0, 1)}),
)


def of_value_heads(delta: Problem, tiled: bool = False) -> Problem:
    """The same problem with a key head for each value head; `tiled`, with the wrong one."""
    g, heads = delta.geometry, np.arange(delta.geometry.HV)
    own = heads % g.H if tiled else heads // g.ratio
    keys = {name: np.ascontiguousarray(delta.tensors[name][:, own]) for name in ("q_hat", "k_hat")}
    return replace(delta, geometry=replace(g, H=g.HV), tensors={**delta.tensors, **keys})


def results_of(defect: Defect, delta: Problem, within: Within) -> Results | None:
    """What a launch with the defect in those places gives, without an axis of runs; None if nothing would change.

    `delta` has the span from the delta stage on (`wrong.from_delta`).
    """
    if defect is NO_TERM:
        return _normed(delta, no_delta_term(delta)) if within[0].all() else None
    right = of_value_heads(delta)
    wrong = of_value_heads(delta, tiled=True) if defect is TILED else _changed(right, defect)
    if wrong is None:
        return None
    mixed = _mixed(right, wrong, within)
    return {name: value[0] for name, value in evaluate(mixed, clean()).items()}


def _normed(delta: Problem, made: Results) -> Results:
    """Results of the delta stage, with what the norm makes of them where there is one."""
    if Stage.NORM not in delta.span:
        return made
    alone = replace(delta, span=Span(Stage.NORM, Stage.NORM)).with_tensors(o=made["o"])
    return {**made, "out": evaluate(alone, clean())["out"][0]}


def _changed(problem: Problem, defect: Defect) -> Problem | None:
    inputs = {**problem.tensors, "state": problem.state}
    if any(inputs.get(name) is None for name in defect.changes):
        return None
    made = {name: np.asarray(change(inputs[name], problem)) for name, change in defect.changes.items()}  # type: ignore[arg-type]
    if all(np.array_equal(made[name], inputs[name]) for name in made):  # type: ignore[arg-type]
        return None
    state = made.pop("state", problem.state)
    return replace(problem, state=state, tensors={**problem.tensors, **made})


def _mixed(right: Problem, wrong: Problem, within: Within) -> Problem:
    """The wrong problem's inputs within, and the right one's elsewhere."""
    tokens, rows = within
    assert right.state is not None
    assert wrong.state is not None
    tensors = {
        name: value if name == "norm_weight" else _where(tokens, wrong.tensors[name], value)
        for name, value in right.tensors.items()
    }
    return replace(right, tensors=tensors, state=_where(rows, wrong.state, right.state))


def _where(within: NDArray[np.bool_], wrong: Array, right: Array) -> Array:
    return np.where(within.reshape(*within.shape, *(1,) * (right.ndim - 2)), wrong, right)


Before = Callable[[Problem, Results], "Problem | None"]
"""Of a whole launch and its right results, what a defect before the delta stage leaves to compute; None if nothing."""


def _without(name: str) -> Before:
    """An input of zeros."""

    def before(problem: Problem, known: Results) -> Problem | None:
        if name not in problem.tensors or not problem.tensors[name].any():
            return None
        return problem.with_tensors(**{name: np.zeros_like(problem.tensors[name])})

    return before


def _no_history(problem: Problem, known: Results) -> Problem | None:
    if problem.history is None or not problem.history.any():
        return None
    return replace(problem, history=np.zeros_like(problem.history))


def _no_activation(problem: Problem, known: Results) -> Problem | None:
    if Stage.CONV not in problem.span or problem.options.conv_activation is Activation.NONE:
        return None
    return replace(problem, options=replace(problem.options, conv_activation=Activation.NONE))


def _taps_reversed(problem: Problem, known: Results) -> Problem | None:
    if "conv_weight" not in problem.tensors:
        return None
    return problem.with_tensors(conv_weight=np.ascontiguousarray(problem.tensors["conv_weight"][:, ::-1]))


def _raw(name: str) -> Before:
    """q or k as it was before its norm."""

    def before(problem: Problem, known: Results) -> Problem | None:
        if problem.span.qk_normalised or f"{name}_hat" not in known:
            return None
        g = problem.geometry
        q, k = problem.tensors.get("q"), problem.tensors.get("k")
        if "conv" in known:
            q, k = (known["conv"][:, i * g.H * g.K : (i + 1) * g.H * g.K].reshape(-1, g.H, g.K) for i in range(2))
        raw = q * problem.options.q_scale(g) if name == "q" and q is not None else k
        return None if raw is None else from_delta(problem, {**known, f"{name}_hat": raw})

    return before


BEFORE: Mapping[str, tuple[Stage, Before]] = {
    "no history of the conv": (Stage.CONV, _no_history),
    "no bias of the conv": (Stage.CONV, _without("conv_bias")),
    "no activation of the conv": (Stage.CONV, _no_activation),
    "the conv's taps reversed": (Stage.CONV, _taps_reversed),
    "no dt_bias": (Stage.GATES, _without("dt_bias")),
    "A_log of zeros": (Stage.GATES, _without("A_log")),
    "q as it was before its norm": (Stage.GATES, _raw("q")),
    "k as it was before its norm": (Stage.GATES, _raw("k")),
}
"""By name: the stage, and the defect. They are everywhere in a launch."""


def results_before(name: str, problem: Problem, known: Results) -> Results | None:
    """What a launch with the defect of `BEFORE` gives; None if nothing would change."""
    changed = BEFORE[name][1](problem, known)
    return None if changed is None else {key: value[0] for key, value in evaluate(changed, clean()).items()}
