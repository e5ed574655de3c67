"""Wrong oracles by stage: each is wrong, only where it is confined to, and none where nothing would change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gdn_verify.cases.contract import Activation, Geometry, Options, Span, Stage
from gdn_verify.oracles.compose import Problem, Results, clean, evaluate
from gdn_verify.oracles.defects import BEFORE, DEFECTS, NO_TERM, Within, results_before, results_of
from gdn_verify.oracles.wrong import from_delta

T, N = 9, 3
G = Geometry(2, 4, 3, 5, W=3)


def problem() -> Problem:
    """A whole layer: three rows of two, three and four tokens."""
    make = np.random.default_rng(5)

    def drawn(*shape: int) -> np.ndarray:  # type: ignore[type-arg]
        return make.standard_normal(shape)

    tensors = {
        "x": drawn(T, G.D), "z": drawn(T, G.HV, G.V), "a": drawn(T, G.HV), "b": drawn(T, G.HV),
        "A_log": drawn(G.HV), "dt_bias": drawn(G.HV), "conv_weight": drawn(G.D, G.W), "conv_bias": drawn(G.D),
        "norm_weight": drawn(G.V),
    }  # fmt: skip
    return Problem(
        geometry=G,
        options=Options(conv_bias=True),
        span=Span(Stage.CONV, Stage.NORM),
        query_start_loc=np.array([0, 2, 5, 9]),
        tensors=tensors,
        state=drawn(N, G.HV, G.V, G.K),
        history=drawn(N, G.D, G.W - 1),
    )


def right(whole: Problem) -> Results:
    return {name: value[0] for name, value in evaluate(whole, clean()).items()}


EVERYWHERE: Within = (np.ones((T, G.HV), bool), np.ones((N, G.HV), bool))


def differs(made: Results, known: Results) -> bool:
    return any(not np.allclose(made[name], known[name]) for name in ("o", "out", "h") if name in made)


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_each_defect_gives_something_else(defect: object) -> None:
    """In o, out or h; the right inputs give the right results."""
    known = right(problem())
    made = results_of(defect, from_delta(problem(), known), EVERYWHERE)  # type: ignore[arg-type]
    assert made is not None
    assert differs(made, known)


@pytest.mark.parametrize("name", BEFORE)
def test_each_defect_before_the_delta_stage_gives_something_else(name: str) -> None:
    """Of the conv, the gates and the norm of q and k."""
    whole = problem()
    made = results_before(name, whole, right(whole))
    assert made is not None
    assert differs(made, right(whole))


@pytest.mark.parametrize("defect", [d for d in DEFECTS if d is not NO_TERM], ids=lambda defect: defect.name)
def test_a_confined_defect_is_right_elsewhere(defect: object) -> None:
    """In value head 1 from token 3 of the last row on: other heads, rows and earlier tokens are right."""
    known = right(problem())
    tokens, rows = np.zeros((T, G.HV), bool), np.zeros((N, G.HV), bool)
    tokens[8:, 1] = True
    rows[2, 1] = True
    made = results_of(defect, from_delta(problem(), known), (tokens, rows))  # type: ignore[arg-type]
    assert made is not None
    outside = ~tokens
    if "state" in getattr(defect, "changes", {}):
        outside[5:, 1] = False  # a state is there from the row's first token on
    assert np.allclose(made["out"][outside], known["out"][outside])
    assert np.allclose(made["h"][:, [0, 2, 3]], known["h"][:, [0, 2, 3]])


def test_what_changes_nothing_is_none() -> None:
    """Zeros made zeros, a scale of one dropped, a conv without bias or activation."""
    plain = replace(problem(), options=Options(scale=1.0, conv_activation=Activation.NONE))
    without = plain.with_tensors(conv_bias=np.zeros(G.D))
    known = right(without)
    delta = replace(from_delta(without, known), state=np.zeros_like(problem().state))
    by_name = {defect.name: defect for defect in DEFECTS}
    assert results_of(by_name["no scale of q"], delta, EVERYWHERE) is None
    assert results_of(by_name["no initial state"], delta, EVERYWHERE) is None
    assert results_before("no activation of the conv", without, known) is None
    assert results_before("no bias of the conv", without, known) is None


@pytest.mark.parametrize("name", ["q as it was before its norm", "k as it was before its norm"])
def test_a_path_that_norms_inside_may_have_left_it_out(name: str) -> None:
    """Where it is given q and k as they are."""
    make = np.random.default_rng(6)
    delta = from_delta(problem(), right(problem()))
    raw = {n: make.standard_normal((T, G.H, G.K)) for n in ("q", "k")}
    kept = {n: value for n, value in delta.tensors.items() if not n.endswith("_hat")}
    whole = replace(delta, span=Span(Stage.DELTA, Stage.DELTA), tensors={**kept, **raw})
    made = results_before(name, whole, right(whole))
    assert made is not None
    assert differs(made, right(whole))


def test_a_case_without_gates_of_its_own_has_none_to_leave_out() -> None:
    """A path that begins at the delta stage has no conv, and no input of the gates."""
    delta = from_delta(problem(), right(problem()))
    assert [name for name in BEFORE if results_before(name, delta, {**delta.tensors}) is not None] == []
