"""The comparator of values: what it must accuse, what it must not, and what it says. It has to be able to fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from check_cases import BF16, F32, NORMAL, SMALL, case_of, exact, honest, question, rounded

from gdn_verify.cases.case import Row
from gdn_verify.cases.contract import DType, DTypes, Geometry
from gdn_verify.checks import values
from gdn_verify.checks.values import Judged, judge
from gdn_verify.oracles import noise
from gdn_verify.oracles.compose import Array
from gdn_verify.oracles.noise import Expected, expect, rows, threshold
from gdn_verify.oracles.rounding import sequential_float32

F16 = DTypes(DType.F16, DType.F16)
PROMPTS = (Row(7, (0,)), Row(1, (1,)), Row(5, (2,), fresh=True))


def judged(dtypes: DTypes, damage: Callable[[dict[str, Array]], None]) -> Judged:
    """The verdict on honest results of three rows after `damage`."""
    *asked, got = honest(case_of(*PROMPTS, dtypes=dtypes))
    damage(got)
    return judge(*asked, got)


def zero(got: dict[str, Array]) -> None:
    got["o"][:] = 0.0


def zero_state(got: dict[str, Array]) -> None:
    got["h"][:] = 0.0


def flipped_head(got: dict[str, Array]) -> None:
    got["o"][:, 2] *= -1.0


def swapped_tokens(got: dict[str, Array]) -> None:
    got["o"][[2, 3]] = got["o"][[3, 2]]


def swapped_states(got: dict[str, Array]) -> None:
    got["h"][[0, 1]] = got["h"][[1, 0]]


def shifted_columns(got: dict[str, Array]) -> None:
    got["h"][1] = np.roll(got["h"][1], 1, axis=-1)


def last_token(got: dict[str, Array]) -> None:
    got["o"][-1, -1] *= 1.5


def one_state_element(got: dict[str, Array]) -> None:
    got["h"][2, 3, 5, 7] += np.abs(got["h"][2, 3, 5]).max() * 2.0**-3


DAMAGE = [
    zero, zero_state, flipped_head, swapped_tokens, swapped_states, shifted_columns, last_token, one_state_element
]  # fmt: skip


@pytest.mark.parametrize("dtypes", [F32, BF16, F16], ids=["f32", "bf16", "f16"])
class TestVerdicts:
    """Accusations and their absence, in every storage type."""

    @pytest.mark.parametrize("damage", DAMAGE)
    def test_a_wrong_result_is_accused(self, dtypes, damage):
        """Whole tensors, single heads, permutations and a single element alike."""
        verdict = judged(dtypes, damage)
        assert verdict.findings
        assert verdict.worst_ratio > threshold(1)

    def test_honest_rounding_is_not(self, dtypes):
        """Results rounded once to their types stay about a budget away."""
        verdict = judged(dtypes, lambda got: None)
        assert not verdict.findings
        assert 0.0 < verdict.worst_ratio < 2.0

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("place", [("o", (3, 1, 2)), ("h", (1, 2, 3, 4))])
    def test_one_element_that_is_not_finite_is_accused(self, dtypes, value, place):
        """By a kind of its own: it is never noise."""
        name, index = place

        def damage(got: dict[str, Array]) -> None:
            got[name][index] = value

        (finding,) = judged(dtypes, damage).findings
        assert finding.kind == f"{name} not finite"
        assert finding.ratio == np.inf
        assert f"got {value}" in finding.message


def test_a_wrong_row_among_huge_ones_is_accused():
    """One small row is zeroed beside states 2²⁰ times as large: no global maximum hides it."""
    problem, stored = question(case_of(Row(6, (0,)), Row(6, (1,))))
    assert problem.state is not None
    problem.state[1] *= 2.0**20
    got = exact(problem, stored)
    assert np.abs(got["o"]).max() > 1e4 * np.abs(got["o"][2]).max()
    got["o"][2, 0] = 0.0
    (finding,) = judge(problem, sequential_float32(F32), stored, got).findings
    assert "o[token 2, value head 0" in finding.message
    assert "1 of " in finding.message


def test_the_message_names_the_place_and_the_numbers():
    """Result, row by its axes, element, expected, got, the row's error and budget, ratio and limit."""
    problem, rounding, stored, got = honest(case_of(*PROMPTS))
    want = expect(problem, rounding, runs=noise.RUNS_BEFORE_ACCUSATION)["h"]
    got["h"][2, 1, 4, 3] += 0.25
    (finding,) = judge(problem, rounding, stored, got, where="stage delta: ").findings
    ratio = float(want.ratios(got["h"])[2, 1, 4])
    assert finding.kind == "stage delta: h"
    assert finding.ratio == pytest.approx(ratio)
    assert finding.message.startswith(
        f"stage delta: h[state 2, value head 1, V 4, element 3]: expected {want.value[2, 1, 4, 3]:.9g}, "
        f"got {got['h'][2, 1, 4, 3]:.9g}; row error 0.25 against a budget of {want.budget[2, 1, 4]:.3g}, "
        f"ratio {ratio:.3g} (limit "
    )
    assert finding.message.endswith(f"1 of {3 * 4 * 6} rows beyond it")


def test_the_worst_of_several_rows_is_named():
    """Two rows are wrong; the one further away in budgets is shown."""
    problem, rounding, stored, got = honest(case_of(*PROMPTS))
    got["o"][1, 0] *= 1.01
    got["o"][4, 3] *= 2.0
    (finding,) = judge(problem, rounding, stored, got).findings
    assert "o[token 4, value head 3" in finding.message
    assert "2 of " in finding.message


def test_a_result_beyond_the_oracles_is_an_error():
    """A name that the oracle does not compute is never dropped silently."""
    problem, rounding, stored, got = honest(case_of(*PROMPTS))
    with pytest.raises(KeyError, match="checkpoint"):
        judge(problem, rounding, stored, {**got, "checkpoint": got["o"]})


@pytest.mark.parametrize("shape", [(13, 1, 6), (1, 4, 6), (12, 4, 6), (13, 4, 1), (13, 4, 12), (4, 6)])
def test_a_result_of_another_shape_is_an_error(shape):
    """Nothing is broadcast: one head for all, or a missing token, is wrong whatever it holds."""
    problem, rounding, stored, got = honest(case_of(*PROMPTS))
    with pytest.raises(ValueError, match=r"expected \(13, 4, 6\)"):
        judge(problem, rounding, stored, {**got, "o": np.zeros(shape)})


def test_a_launch_without_live_rows_has_nothing_to_judge():
    """Empty results agree vacuously: no rows, no ratio."""
    problem, rounding, stored, got = honest(case_of(Row(0, (0,)), pad_tokens=1))
    assert got["o"].shape == (0, 4, 6)
    verdict = judge(problem, rounding, stored, got)
    assert (verdict.findings, verdict.worst_ratio) == ((), 0.0)


def test_g_and_beta_are_judged_by_the_element():
    """One wrong β is found, as a row of one element, and named by token and head."""
    problem, stored = question(case_of(*PROMPTS), span=values.Span(values.Stage.GATES, values.Stage.GATES))
    rounding = sequential_float32(F32)
    right = {name: item.value for name, item in expect(problem, rounding).items()}
    got = {"g": right["g"][..., 0], "beta": right["beta"][..., 0].copy()}
    assert not judge(problem, rounding, stored, got).findings
    got["beta"][5, 2] = rounded(got["beta"][5:6, 2], DType.BF16)[0]
    (finding,) = judge(problem, rounding, stored, got).findings
    assert "beta[token 5, value head 2, element 0]" in finding.message


def test_rows_leave_all_but_the_gates_as_they_are():
    """g and β get an axis of one; the other results are rows along their last axis already."""
    made = rows({"g": np.zeros((3, 2)), "beta": np.zeros((3, 2)), "o": np.zeros((3, 2, 5))})
    assert {name: value.shape for name, value in made.items()} == {"g": (3, 2, 1), "beta": (3, 2, 1), "o": (3, 2, 5)}


def test_a_ratio_is_the_rows_error_in_budgets():
    """Euclidean over the row; infinite where it is not finite, or too large to square."""
    want = Expected(np.zeros((4, 2)), np.array([1.0, 2.0, 1.0, 1.0]))
    got = np.array([[3.0, 4.0], [3.0, 4.0], [np.nan, 0.0], [1e200, 0.0]])
    np.testing.assert_array_equal(want.ratios(got), [5.0, 2.5, np.inf, np.inf])


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many perturbed runs each budget was drawn from."""
    seen: list[int] = []

    def counting(problem, rounding, *, runs):
        seen.append(runs)
        return expect(problem, rounding, runs=runs)

    monkeypatch.setattr(values, "expect", counting)
    return seen


def test_a_budget_is_drawn_again_before_an_accusation(runs):
    """32 runs settle a healthy launch; a doubtful one rests on 512, whose limit and budget the message has."""
    *asked, got = honest(case_of(*PROMPTS))
    judge(*asked, got)
    assert runs == [32]
    got["o"][0, 0] *= 1.001
    verdict = judge(*asked, got)
    assert (runs[1], runs[-1]) == (32, 512)
    assert verdict.expected["o"].budget[0, 0] == expect(*asked[:2], runs=512)["o"].budget[0, 0]


def test_more_runs_can_clear_a_launch(monkeypatch):
    """What 32 runs would accuse and 512 do not is no finding."""
    *asked, got = honest(case_of(*PROMPTS))

    def stingy(problem, rounding, *, runs):
        made = expect(problem, rounding, runs=runs)
        share = 1e-3 if runs == 32 else 1.0
        return {name: Expected(item.value, item.budget * share) for name, item in made.items()}

    monkeypatch.setattr(values, "expect", stingy)
    assert not judge(*asked, got).findings


def test_a_stage_of_the_launchs_own_inputs_is_drawn_once(runs):
    """g and β come from a and b whatever the conv did: the stage's budgets are the launch's, to the bit."""
    span = values.Span(values.Stage.GATES, values.Stage.DELTA)
    problem, stored = question(case_of(*PROMPTS), span=span)
    rounding = sequential_float32(F32)
    right = {name: item.value for name, item in expect(problem, rounding).items()}
    launch = judge(problem, rounding, stored, {name: right[name] for name in ("o", "h")})
    gates = replace(problem, span=values.Span(values.Stage.GATES, values.Stage.GATES))
    got = {"g": right["g"][..., 0], "beta": right["beta"][..., 0]}
    shared = judge(gates, rounding, stored, got, launch=launch)
    assert runs == [32]
    alone = judge(gates, rounding, stored, got)
    assert runs == [32, 32]
    for name in got:
        np.testing.assert_array_equal(shared.expected[name].budget, alone.expected[name].budget)


def test_a_stage_of_observed_inputs_is_drawn_by_itself(runs):
    """o and h start from what the path showed; and of a launch that was drawn again, a stage is not judged by more."""
    problem, rounding, stored, got = honest(case_of(*PROMPTS))
    launch = judge(problem, rounding, stored, got)
    judge(problem, rounding, stored, got, launch=launch)
    judge(problem, rounding, stored, {}, launch=replace(launch, runs=512))
    assert runs == [32, 32, 32]


def test_the_limit_grows_with_the_rows():
    """√(2 ln(rows / 1e-9)), so that a launch of any size is falsely accused as rarely; below every wrong oracle."""
    assert threshold(1) == pytest.approx(6.44, abs=0.01)
    assert threshold(1000) == pytest.approx(7.43, abs=0.01)
    assert threshold(0) == threshold(1)
    assert threshold(10_000_000) < 10.0


def test_all_rows_of_a_launch_set_the_limit():
    """The rows of o and of h together, not those of one result."""
    geometry = Geometry(1, 1, 8, 64)
    problem, rounding, stored, got = honest(case_of(Row(3, (0,)), geometry=geometry))
    got["o"] *= 2.0
    (finding,) = judge(problem, rounding, stored, got).findings
    assert f"(limit {threshold(3 + 64):.2f})" in finding.message


def test_stored_states_alone_are_judged():
    """A draft whose last column is a sentinel drops that state: the others are found under their own tokens."""
    geometry = Geometry(2, 4, 8, 6, num_spec=2)
    case = case_of(Row(3, (0, 1, None), accepted=1), geometry=geometry, values=NORMAL)
    problem, rounding, stored, got = honest(case)
    assert [(state.token, state.slot, state.index) for state in stored] == [(0, 0, 0), (1, 1, 1)]
    assert not judge(problem, rounding, stored, got).findings
    got["h"][1, 0, 0, 0] += 1.0
    (finding,) = judge(problem, rounding, stored, got).findings
    assert "h[state 1, value head 0, V 0, element 0]" in finding.message


@pytest.mark.parametrize("geometry", [SMALL, Geometry(1, 6, 16, 5)], ids=["K>V", "r=6"])
def test_a_float32_error_of_one_part_in_two_to_the_24_is_no_finding(geometry):
    """A factor 1 + 2⁻²⁴ on everything is what a constant in float32 does."""
    problem, rounding, stored, got = honest(case_of(*PROMPTS, geometry=geometry))
    got = {name: value * (1.0 + 2.0**-24) for name, value in got.items()}
    assert not judge(problem, rounding, stored, got).findings
