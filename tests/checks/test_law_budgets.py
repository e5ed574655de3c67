"""Budgets of chains: what a launch rounds is not forgotten by the next, and nothing is excused beyond it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from law_cases import FEW, drawn

from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.contract import DType, DTypes, Geometry, Kind
from gdn_verify.cases.presentation import Presentation
from gdn_verify.cases.values import Fill, Gates, States, Values, Vectors
from gdn_verify.checks.laws.breaks import state_ignored_in_last
from gdn_verify.checks.laws.budget import broken_results, spread
from gdn_verify.checks.laws.observe import Seen, observe
from gdn_verify.checks.laws.rows import split
from gdn_verify.checks.laws.shots import Setting
from gdn_verify.hosts import HOSTS
from gdn_verify.oracles.noise import expect
from gdn_verify.paths import Path, find

VALUES = Values(q=Vectors.NORMAL, k=Vectors.NORMAL, v=Fill.NORMAL, gates=Gates.WEAK, state=States.NORMAL, z=Fill.NORMAL)


@pytest.fixture(scope="module")
def path() -> Path:
    """The fallback, loaded."""
    found = find("fallback")
    found.load("cpu")
    return found


def setting(path: Path, state: DType = DType.F32) -> Setting:
    case = Case(Geometry(1, 2, 8, 8), DTypes(state=state), 1, (Batch((Row(6, (0,)),)),), VALUES)
    return Setting.of(case, Presentation(), path, HOSTS["cpu"])


def halves(path: Path, state: DType = DType.F32) -> tuple[Seen, Seen]:
    """A prompt whole, and in two launches."""
    made = setting(path, state)
    chains = made.base, split(made)[0].trials[0].chain
    whole, parts = (observe(chain, made, lambda other: other.run) for chain in chains)
    return whole, parts


def test_a_chain_of_one_launch_has_the_launchs_budget(path: Path) -> None:
    """The same draws as for the check of values."""
    whole, _ = halves(path)
    question = whole.questions[0]
    alone, chained = expect(question.problem, question.rounding), spread(whole.questions, 32)
    np.testing.assert_array_equal(alone["out"].budget, chained["out"].budget)
    np.testing.assert_array_equal(alone["h"].budget, chained["h"].budget)


def test_a_narrow_pool_between_two_launches_is_in_the_budget(path: Path) -> None:
    """The second half starts from a state that was rounded to bfloat16, which the whole was not."""
    (whole, parts), (_, wide) = halves(path, DType.BF16), halves(path)
    narrow = spread(parts.questions, 32)["out"].budget[-1]
    assert (narrow > 100 * spread(wide.questions, 32)["out"].budget[-1]).all()
    assert (narrow > 10 * spread(whole.questions, 32)["out"].budget[-1]).all()


def test_a_broken_chain_is_the_oracles_with_the_state_left_out(path: Path) -> None:
    """The clean results but for the last launch."""
    _, parts = halves(path)
    right = spread(parts.questions, 32)["out"].value
    broken = broken_results(parts.questions, state_ignored_in_last(2))["out"]
    first = len(parts.results["out"][0])
    np.testing.assert_array_equal(broken[:first], right[:first])
    assert (np.abs(broken[first:] - right[first:]).max(axis=-1) > 1e-3).all()


def test_what_a_launch_leaves_does_not_change_what_the_chain_found(path: Path) -> None:
    """Chains share pools: each starts from the same bytes."""
    for case, shown in drawn(path, Kind.PREFILL, 5, 3, FEW):
        made = Setting.of(case, shown, path, HOSTS["cpu"])
        assert made.pools.ssm is not None
        before = made.pools.ssm.clone()
        first, second = (observe(made.base, made, lambda other: other.run) for _ in range(2))
        assert before.equal(made.pools.ssm) or before.isnan().any()
        for name, value in first.values().items():
            np.testing.assert_array_equal(value, second.values()[name])


def test_x_is_what_the_conv_pool_can_hold(path: Path) -> None:
    """A history in a narrower type would be another input than the tokens that it is made of."""
    case = replace(setting(path).case, dtypes=DTypes(conv_state=DType.BF16))
    x = Setting.of(case, Presentation(), path, HOSTS["cpu"]).inputs["x"]
    assert x.equal(x.bfloat16().float())
