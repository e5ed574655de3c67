"""The oracle of a span: the stages one after the other, in float64, over the live rows of one launch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdn_verify.cases.contract import Activation, Geometry, Options, Span, Stage
from gdn_verify.oracles import chunked, sequential, stages
from gdn_verify.oracles.sites import quiet_sites

Array = NDArray[np.float64]


class Algorithm(StrEnum):
    """The order in which a kernel evaluates the delta rule; exact arithmetic could not tell them apart.

    In chunks there are no states inside a row: where those are asked for, they are the sequential form's.
    """

    SEQUENTIAL = "sequential"
    CHUNKED = "chunked"
    FOLDED = "folded"


@dataclass(frozen=True)
class Problem:
    """What a launch asks, after rounding of its inputs: live rows only, N of them with T tokens in all.

    `tensors` holds the left edge of `span` and the parameters, by the names of `cases.problem`, float64, without
    a run axis. `state` [N, HV, V, K] and `history` [N, D, W-1] are zeros where a row is fresh.
    With `every_token`, h is wanted after each token (spec rows) instead of after each row, or after each of the tokens
    `kept` alone, in rising order: states are large.
    """

    geometry: Geometry
    options: Options
    span: Span
    query_start_loc: NDArray[np.int64]
    tensors: Mapping[str, Array]
    state: Array | None = None
    history: Array | None = None
    every_token: bool = False
    kept: NDArray[np.int64] | None = None

    @property
    def finite(self) -> bool:
        """Whether every input is a finite number."""
        return all(bool(np.isfinite(value).all()) for value in self.tensors.values())

    def with_tensors(self, **changed: Array) -> Problem:
        """The same problem with some inputs replaced."""
        return replace(self, tensors={**self.tensors, **changed})


Results = dict[str, Array]
"""By name, each with a leading axis of runs: conv [T, D]; g, beta [T, HV]; q_hat, k_hat [T, H, K]; o [T, HV, V]
(the delta rule's output); h [N, HV, V, K], or
[T, HV, V, K] for every token and [len(kept), HV, V, K] for some; out [T, HV, V] (after the norm)."""


@dataclass(frozen=True)
class Draw:
    """Which perturbed runs to make: levels of the sites, seed, number of runs from `first` on; run 0 is clean."""

    sites: Array
    seed: int = 0
    runs: int = 1
    algorithm: Algorithm = Algorithm.SEQUENTIAL
    chunk: int = 64
    segment: int = 0
    first: int = 0


def clean() -> Draw:
    """One run without noise."""
    return Draw(sites=quiet_sites())


def evaluate(problem: Problem, draw: Draw) -> Results:
    """Run the stages of the span in order; every intermediate is kept."""
    return proceed(problem, {name: value[None] for name, value in problem.tensors.items()}, draw)


def proceed(problem: Problem, known: Results, draw: Draw) -> Results:
    """As `evaluate`, with inputs that have an axis of runs already, 1 or `draw.runs` long.

    `known` may hold a `state` [R, N, HV, V, K] that stands in for the problem's.
    """
    made: Results = {}
    for stage in problem.span:
        made |= _STAGES[stage](problem, {**known, **made}, draw)
    return made


def _noise(draw: Draw) -> dict[str, Any]:
    return {"sites": draw.sites, "seed": draw.seed, "runs": draw.runs, "first": draw.first}


def _unpack(problem: Problem, known: Results, draw: Draw) -> Results:
    """Packing permutes elements; the problem's tensors are already apart."""
    return {}


def _conv(problem: Problem, known: Results, draw: Draw) -> Results:
    bias = known["conv_bias"][0] if "conv_bias" in known else None
    silu = problem.options.conv_activation is Activation.SILU
    assert problem.history is not None
    starts = problem.query_start_loc
    conv = stages.causal_conv(known["x"], known["conv_weight"][0], bias, problem.history, starts, silu, **_noise(draw))
    return {"conv": conv}


def _qkv(problem: Problem, known: Results) -> tuple[Array, Array, Array]:
    if "conv" not in known:
        return known["q"], known["k"], known["v"]
    g, x = problem.geometry, known["conv"]
    q, k, v = np.split(x, (g.H * g.K, 2 * g.H * g.K), axis=2)
    head = (*x.shape[:2], -1)
    return q.reshape(*head, g.K), k.reshape(*head, g.K), v.reshape(*head, g.V)


def _gates(problem: Problem, known: Results, draw: Draw) -> Results:
    g, beta = stages.gates(
        known["a"], known["b"], known["A_log"][0], known["dt_bias"][0],
        beta_scale=problem.options.beta_scale, **_noise(draw),
    )  # fmt: skip
    return {"g": g, "beta": beta, **_qk_norm(problem, known, draw, normalise=True)}


def _qk_norm(problem: Problem, known: Results, draw: Draw, normalise: bool) -> Results:
    q, k, _ = _qkv(problem, known)
    scale, eps = problem.options.q_scale(problem.geometry), problem.options.qk_eps
    q_hat, k_hat = stages.qk_norm(q, k, scale, eps, normalise=normalise, **_noise(draw))
    return {"q_hat": q_hat, "k_hat": k_hat}


def _delta(problem: Problem, known: Results, draw: Draw) -> Results:
    normed: Results = {}
    if "q_hat" not in known:
        normed = _qk_norm(problem, known, draw, normalise=not problem.span.qk_normalised)
    known = {**known, **normed}
    _, _, v = _qkv(problem, known) if "conv" in known or "q" in known else (None, None, known["v"])
    assert problem.state is not None
    state = known.get("state", problem.state[None])
    inputs = (known["q_hat"], known["k_hat"], v, known["g"], known["beta"], state)
    o, h = (
        _sequential(problem, inputs, draw) if draw.algorithm is Algorithm.SEQUENTIAL else _chunks(problem, inputs, draw)
    )
    return {**normed, "o": o, "h": h}


_Inputs = tuple[Array, Array, Array, Array, Array, Array]
"""q̂, k̂, v, g, β and the state."""


def _sequential(problem: Problem, inputs: _Inputs, draw: Draw) -> tuple[Array, Array]:
    return sequential.delta_rule(
        *inputs, problem.query_start_loc, every_token=problem.every_token, kept=problem.kept, **_noise(draw)
    )


def _chunks(problem: Problem, inputs: _Inputs, draw: Draw) -> tuple[Array, Array]:
    o, last = chunked.delta_rule_chunked(
        *inputs,
        problem.query_start_loc,
        chunk=draw.chunk,
        folded=draw.algorithm is Algorithm.FOLDED,
        segment=draw.segment,
        scale=problem.options.q_scale(problem.geometry),
        **_noise(draw),
    )
    return o, _states_of_tokens(problem, inputs, last, draw) if problem.every_token else last


def _states_of_tokens(problem: Problem, inputs: _Inputs, last: Array, draw: Draw) -> Array:
    """h of the kept tokens: the chunks' at the end of a row, inside the sequential form's, of rows that need it."""
    starts, (q, k, v, g, beta, state) = problem.query_start_loc, inputs
    kept = np.arange(starts[-1]) if problem.kept is None else problem.kept
    row = np.searchsorted(starts, kept, side="right") - 1
    ends = kept == starts[row + 1] - 1
    h = np.empty((len(last), len(kept), *last.shape[2:]))
    h[:, ends] = last[:, row[ends]]
    if len(rows := np.unique(row[~ends])):
        tokens = np.concatenate([np.arange(starts[n], starts[n + 1]) for n in rows])
        some = q[:, tokens], k[:, tokens], v[:, tokens], g[:, tokens], beta[:, tokens], state[:, rows]
        alone = np.concatenate([[0], np.cumsum(np.diff(starts)[rows])])
        inside = np.flatnonzero(np.isin(tokens, kept[~ends]))
        _, h[:, ~ends] = sequential.delta_rule(*some, alone, every_token=True, kept=inside, **_noise(draw))
    return h


def _norm(problem: Problem, known: Results, draw: Draw) -> Results:
    options = problem.options
    out = stages.gated_norm(
        known["o"], known["z"], known["norm_weight"][0], options.norm_eps, options.norm_activation.value, **_noise(draw)
    )
    return {"out": out}


_STAGES = {
    Stage.UNPACK: _unpack,
    Stage.CONV: _conv,
    Stage.GATES: _gates,
    Stage.DELTA: _delta,
    Stage.NORM: _norm,
}
