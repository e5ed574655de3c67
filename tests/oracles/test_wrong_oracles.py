"""Wrong oracles: each is one defect of the recurrence, written down here a second time in one line."""

from __future__ import annotations

import numpy as np
import pytest

from gdn_verify.cases.contract import Geometry, Options, Span, Stage
from gdn_verify.oracles.compose import Array, Problem, clean, evaluate
from gdn_verify.oracles.wrong import DIRECTIONS, STEP, WRONG, WRONG_NAMES, from_delta, no_delta_term, wrong_results

GEOMETRY = Geometry(H=2, HV=4, K=4, V=4)
LENGTHS = (3, 1, 4)


def delta_problem(every_token: bool = False) -> Problem:
    """Three rows of the delta stage alone, K = V so that a transposed state has a place to go."""
    rng, g, T = np.random.default_rng(3), GEOMETRY, sum(LENGTHS)
    tensors = {
        "q": rng.standard_normal((T, g.H, g.K)),
        "k": rng.standard_normal((T, g.H, g.K)),
        "v": rng.standard_normal((T, g.HV, g.V)),
        "g": -rng.random((T, g.HV)),
        "beta": rng.random((T, g.HV)),
    }
    state = rng.standard_normal((len(LENGTHS), g.HV, g.V, g.K))
    starts = np.cumsum([0, *LENGTHS])
    return Problem(g, Options(), Span(Stage.DELTA, Stage.DELTA), starts, tensors, state, every_token=every_token)


def recurrence(problem: Problem, defect: str) -> dict[str, Array]:
    """The delta rule in numpy with one defect, or none; h after every token."""
    t, starts, state = problem.tensors, problem.query_start_loc, problem.state
    assert state is not None
    heads = np.arange(4) // 2
    heads = (heads + 1) % 2 if defect == "other head map" else heads
    o, states = np.zeros(t["v"].shape), np.zeros((len(t["v"]), *state.shape[1:]))
    for row in range(len(starts) - 1):
        h = state[row] * (defect != "initial state ignored")
        h = h.swapaxes(-1, -2) if defect == "state transposed" else h
        for i in range(starts[row], starts[row + 1]):
            q, k = t["q_hat"][i, heads], t["k_hat"][i, heads]
            beta = 1.0 if defect == "beta = 1" else t["beta"][i, :, None]
            h = h * (1.0 if defect == "no decay" else np.exp(t["g"][i])[:, None, None])
            held = 0.0 if defect == "no delta term" else np.einsum("jvk,jk->jv", h, k)
            h = h + (beta * (t["v"][i] - held))[..., None] * k[:, None]
            o[i], states[i] = np.einsum("jvk,jk->jv", h, q), h
    return {"o": o * (defect != "zero output"), "h": states}


def at_the_delta_stage(problem: Problem) -> tuple[Problem, dict[str, Array]]:
    known = {name: value[0] for name, value in evaluate(problem, clean()).items()}
    return from_delta(problem, known), known


@pytest.mark.parametrize("every_token", [False, True])
@pytest.mark.parametrize("defect", [*WRONG_NAMES, "none"])
def test_each_wrong_oracle_is_its_defect(defect, every_token):
    """And the defect-free line is the oracle, so that the lines themselves are right."""
    problem, known = at_the_delta_stage(delta_problem(every_token))
    made = known if defect == "none" else wrong_results(problem)[0][defect]
    want = recurrence(problem, defect)
    last = problem.query_start_loc[1:] - 1
    np.testing.assert_allclose(made["o"], want["o"], rtol=1e-12, atol=1e-13)
    if defect != "zero output":
        np.testing.assert_allclose(made["h"], want["h"] if every_token else want["h"][last], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_direction_is_one_factor_off_by_two_to_the_minus_ten(direction):
    """The same evaluation with that one input a little smaller."""
    problem, _ = at_the_delta_stage(delta_problem())
    name = {"k": "k_hat", "q": "q_hat", "initial state": "state"}.get(direction, direction)
    assert problem.state is not None
    if name == "state":
        changed = Problem(**{**vars(problem), "state": problem.state * (1 - STEP)})
    else:
        changed = problem.with_tensors(**{name: problem.tensors[name] * (1 - STEP)})
    want = evaluate(changed, clean())
    made = wrong_results(problem)[1][direction]
    np.testing.assert_allclose(made["o"], want["o"][0], rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(made["h"], want["h"][0], rtol=1e-12, atol=1e-13)


def test_every_name_has_its_results():
    """The names that power is counted under are those that are computed."""
    problem, _ = at_the_delta_stage(delta_problem())
    wrong, slightly = wrong_results(problem)
    assert tuple(wrong) == WRONG_NAMES
    assert tuple(slightly) == tuple(DIRECTIONS)
    assert set(WRONG) < set(WRONG_NAMES)


def test_the_norm_follows_a_wrong_recurrence():
    """In a span that ends with the norm, a defect of the delta stage shows in `out` as well."""
    rng, base = np.random.default_rng(5), delta_problem()
    z, weight = rng.standard_normal(base.tensors["v"].shape), 1.0 + rng.random(GEOMETRY.V)
    tensors = {**base.tensors, "z": z, "norm_weight": weight}
    problem, known = at_the_delta_stage(
        Problem(**{**vars(base), "span": Span(Stage.DELTA, Stage.NORM), "tensors": tensors})
    )
    wrong = wrong_results(problem)[0]
    assert {"out", "o", "h"} <= wrong["no decay"].keys()
    assert np.abs(wrong["no decay"]["out"] - known["out"]).max() > 0.01
    assert not wrong["zero output"]["out"].any()


def test_without_the_delta_term_orthogonal_keys_make_no_difference():
    """What the state holds along a new direction is nothing: such a case has no power against this defect."""
    K = GEOMETRY.K
    base = delta_problem()
    assert base.state is not None
    keys = np.broadcast_to(np.eye(K)[[0, 1, 2, 0, 0, 1, 2, 3]][:, None], (8, 2, K)).copy()
    problem, known = at_the_delta_stage(
        Problem(**{**vars(base.with_tensors(k=keys)), "state": np.zeros_like(base.state)})
    )
    np.testing.assert_allclose(no_delta_term(problem)["o"], known["o"], rtol=1e-12, atol=1e-13)
