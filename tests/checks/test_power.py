"""Power: how far wrong kernels would have been, and when a run's cases do not suffice."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import numpy as np
import pytest
from check_cases import BF16, DELTA, F32, NORMAL, SMALL, case_of, honest, question

from gdn_verify.cases.case import Row
from gdn_verify.cases.contract import Geometry, Options
from gdn_verify.cases.values import Fill, Gates, States, Values
from gdn_verify.checks import power, values
from gdn_verify.checks.power import CHANCE, ENOUGH, SHARE, VACUOUS, Power, beyond
from gdn_verify.oracles.wrong import WRONG_NAMES
from gdn_verify.verdict import Check

PROMPTS = (Row(7, (0,)), Row(2, (1,)))


def powers(*rows: Row, recipe: Values = NORMAL, dtypes=F32, geometry: Geometry = SMALL, **more) -> dict[str, float]:
    """The powers of one launch of the delta stage, judged by o and h."""
    problem, rounding, stored, got = honest(case_of(*rows, dtypes=dtypes, geometry=geometry, values=recipe, **more))
    expected = values.judge(problem, rounding, stored, got).expected
    return power.powers(power.alternatives(problem, expected, stored), expected, got)


@pytest.mark.parametrize("dtypes", [F32, BF16], ids=["f32", "bf16"])
def test_a_plain_case_can_tell_every_wrong_oracle(dtypes):
    """Normal values, two key heads, K ≠ V: all are far away, even where results are bfloat16."""
    found = powers(*PROMPTS, dtypes=dtypes)
    assert found.keys() == set(WRONG_NAMES)
    assert min(found.values()) > ENOUGH


@pytest.mark.parametrize(
    ("blind", "recipe"),
    [
        ("no decay", {"gates": Gates.ZERO}),
        ("initial state ignored", {"state": States.ZEROS}),
        ("state transposed", {"state": States.ZEROS}),
    ],
)
def test_a_case_is_blind_to_what_it_does_not_exercise(blind, recipe):
    """Power 0 against a defect that this case cannot show, and only against that."""
    found = powers(*PROMPTS, recipe=Values(**{**vars(NORMAL), **recipe}))
    assert found[blind] == 0.0
    assert found["zero output"] > ENOUGH


def test_one_key_head_cannot_show_another_head_map():
    """H = 1."""
    assert powers(*PROMPTS, geometry=Geometry(1, 4, 8, 6))["other head map"] == 0.0


def test_a_zero_output_is_vacuous():
    """With a scale of 0 the output is zero anyway: the case proves nothing and is counted so."""
    found = powers(*PROMPTS, options=Options(scale=0.0))
    assert found["zero output"] == 0.0
    pooled = Power()
    pooled.add(found)
    assert pooled.vacuous == 1


def test_a_case_is_counted_once_by_the_best_of_its_launches():
    """Launches of a case share what makes it blind; one that sees is enough."""
    blind, sees = dict.fromkeys(WRONG_NAMES, 0.0), dict.fromkeys(WRONG_NAMES, 2 * ENOUGH)
    pooled = Power()
    for launches in ([blind, blind, blind], [blind, sees]):
        pooled.add(power.of_a_case(launches))
    assert (pooled.cases, pooled.vacuous) == (2, 1)
    assert set(pooled.shares().values()) == {0.5}


def test_zero_values_without_a_state_are_blind_to_everything():
    """v = 0 and S₀ = 0: nothing that multiplies is seen."""
    found = powers(*PROMPTS, recipe=Values(**{**vars(NORMAL), "v": Fill.ZEROS, "state": States.ZEROS}))
    assert max(found.values()) == 0.0


def test_power_counts_only_what_the_path_gives_back():
    """A path that hides its states is not credited with what they would have shown."""
    problem, rounding, stored, got = honest(case_of(*PROMPTS))
    expected = values.judge(problem, rounding, stored, got).expected
    found = power.alternatives(problem, expected, stored)
    assert power.powers(found, expected, ["o"])["zero output"] > ENOUGH
    assert power.powers(found, expected, ["h"])["zero output"] == 0.0


def test_power_is_the_largest_ratio_that_the_wrong_result_would_show():
    """By the same measure as the values check: a path that returned it would have had this ratio."""
    problem, rounding, stored, got = honest(case_of(*PROMPTS))
    verdict = values.judge(problem, rounding, stored, got)
    found = power.alternatives(problem, verdict.expected, stored)
    wrong = {name: found.wrong["no decay"][name] for name in ("o", "h")}
    ratios = [verdict.expected[name].ratios(wrong[name]).max() for name in wrong]
    assert power.powers(found, verdict.expected, wrong)["no decay"] == max(ratios)
    assert values.judge(problem, rounding, stored, wrong).findings


def test_dropped_states_are_left_out():
    """A draft's sentinel column stores nothing, so nothing is compared there."""
    case = case_of(Row(3, (0, None, 1), accepted=1), geometry=Geometry(2, 4, 8, 6, num_spec=2))
    problem, rounding, stored, got = honest(case)
    expected = values.judge(problem, rounding, stored, got).expected
    found = power.alternatives(problem, expected, stored)
    assert found.wrong["no decay"]["h"].shape == got["h"].shape == (2, 4, 6, 8)
    np.testing.assert_array_equal(question(case, DELTA)[0].query_start_loc, [0, 3])


def pooled(strong: int, weak: int, name: str = "no decay") -> Power:
    """So many cases that would see everything, and so many that would see all but `name`."""
    found = Power()
    for number in range(strong + weak):
        each = dict.fromkeys(WRONG_NAMES, ENOUGH)
        found.add(each if number < strong else {**each, name: np.nextafter(ENOUGH, 0.0)})
    return found


def test_a_share_just_large_enough_passes():
    """60 % at ten budgets or more, and what chance takes of them: 58 of 100 where 40 may come by it once in 4800."""
    assert SHARE == 0.6
    assert pooled(60, 40).shares()["no decay"] == 0.6
    assert pooled(60, 40).findings() == pooled(42, 58).findings() == []


@pytest.mark.parametrize("name", WRONG_NAMES[1:])
def test_a_smaller_share_is_a_finding_that_names_the_oracle(name):
    """40 of 100, for each wrong oracle."""
    (finding,) = pooled(40, 60, name).findings()
    assert (finding.check, finding.kind) == (Check.POWER, name)
    assert finding.message == f"only 40% of 100 cases would see '{name}'; 60% must"


def test_many_cases_keep_closer_to_the_share():
    """58 % of 6000 is no chance."""
    assert pooled(3540, 2460).findings() == []
    assert [finding.kind for finding in pooled(3400, 2600).findings()] == ["no decay"]


def test_too_many_vacuous_cases_are_a_finding():
    """More than a tenth that would not see a zero output, however strong the rest, and more than chance makes of it."""
    assert VACUOUS == 0.1
    assert pooled(90, 10, "zero output").findings() == pooled(107, 12, "zero output").findings() == []
    (finding,) = pooled(76, 24, "zero output").findings()
    assert finding.kind == "vacuous"
    assert "24 of 100" in finding.message


@pytest.mark.parametrize(("share", "cases"), [(0.1, 119), (0.4, 100), (0.1, 6000)])
def test_chance_is_as_rare_as_is_said(share, cases):
    """By the distribution itself, summed in fractions."""
    p, q = int(10 * share), 10 - int(10 * share)
    ways = [comb(cases, k) * p**k * q ** (cases - k) for k in range(cases + 1)]
    least = next(count for count in range(cases + 1) if beyond(count, cases, share))
    limit = Fraction(CHANCE) * 10**cases
    assert sum(ways[least:]) < limit <= sum(ways[least - 1 :])


def test_a_share_that_is_not_passed_is_never_beyond():
    """However many cases there are."""
    assert not any(beyond(count, 119, 0.1) for count in range(12))
    assert not beyond(0, 0, 0.1)


def test_no_cases_have_no_power():
    """A run that judged no values is not a strong one."""
    assert {finding.kind for finding in Power().findings()} == set(WRONG_NAMES)
