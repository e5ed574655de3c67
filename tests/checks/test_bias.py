"""Bias: small systematic errors that no single case shows, over many cases; and honest rounding, which has none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from check_cases import BF16, F32, NORMAL, case_of, exact, question, rounded

from gdn_verify.cases.case import Row
from gdn_verify.cases.contract import DType, DTypes
from gdn_verify.checks import bias, power
from gdn_verify.checks.bias import SIGMAS, Bias, Slope
from gdn_verify.checks.power import Alternatives
from gdn_verify.checks.question import Written
from gdn_verify.oracles.compose import Array, Problem
from gdn_verify.oracles.noise import Expected, expect, threshold
from gdn_verify.oracles.rounding import sequential_float32
from gdn_verify.verdict import Check

CASES = 120
Store = Callable[[Array, DType], Array]


class Asked(NamedTuple):
    problem: Problem
    stored: list[Written]
    expected: dict[str, Expected]
    alternatives: Alternatives


def asked(seed: int, dtypes: DTypes) -> Asked:
    rows = (Row(1 + seed % 3, (0,)), Row(1, (1,)))
    problem, stored = question(case_of(*rows, dtypes=dtypes, values=replace(NORMAL, seed=seed)))
    expected = expect(problem, sequential_float32(dtypes))
    index = [state.index for state in stored]
    expected["h"] = Expected(expected["h"].value[index], expected["h"].budget[index])
    return Asked(problem, stored, expected, power.alternatives(problem, expected, stored))


@pytest.fixture(scope="module")
def narrow() -> list[Asked]:
    """Launches of a path that stores everything in bfloat16."""
    return [asked(seed, BF16) for seed in range(CASES)]


@pytest.fixture(scope="module")
def wide() -> list[Asked]:
    """Launches in float32."""
    return [asked(seed, F32) for seed in range(CASES)]


def truncated(value: Array, dtype: DType) -> Array:
    """The upper 16 bits of a float32: towards zero instead of to nearest."""
    assert dtype is DType.BF16
    bits = value.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF_0000)
    return bits.view(np.float32).astype(np.float64)


def run(cases: list[Asked], dtype: DType, change: Callable[[Problem], Problem], store: Store = rounded) -> Bias:
    """All cases by a kernel that is right up to `change`, and stores by `store`."""
    pooled = Bias()
    for problem, stored, expected, found in cases:
        got = {name: store(value, dtype) for name, value in exact(change(problem), stored).items()}
        assert max(expected[name].ratios(value).max() for name, value in got.items()) < threshold(1)
        pooled.add(bias.project(found, expected, got))
    return pooled


def times(name: str, factor: float) -> Callable[[Problem], Problem]:
    return lambda problem: problem.with_tensors(**{name: problem.tensors[name] * factor})


def kinds(pooled: Bias) -> set[str]:
    return {finding.kind for finding in pooled.findings()}


def test_honest_rounding_leans_nowhere(narrow):
    """To nearest, ties to even: no direction reaches six sigmas."""
    pooled = run(narrow, DType.BF16, lambda problem: problem)
    assert not pooled.findings()
    assert max(abs(slope.sigmas) for slope in pooled.slopes.values()) < 4.5


def test_a_factor_on_beta_is_found_through_bfloat16(narrow):
    """β · 0.999: no case is accused, all of them together are, and the factor is named."""
    pooled = run(narrow, DType.BF16, times("beta", 0.999))
    assert "h along beta" in kinds(pooled)
    finding = next(finding for finding in pooled.findings() if finding.kind == "h along beta")
    assert finding.check is Check.BIAS
    assert finding.ratio > SIGMAS
    assert 1.0 - pooled.slopes["h", "beta"].slope * 2.0**-10 == pytest.approx(0.999, abs=4e-4)


@pytest.mark.parametrize("name", ["g", "v"])
def test_other_factors_are_found_too(narrow, name):
    """0.4 % on an input, half a bfloat16 ulp, along its own direction."""
    found = kinds(run(narrow, DType.BF16, times(name, 0.996)))
    assert {f"o along {name}", f"h along {name}"} & found


def test_truncation_is_found(narrow):
    """Towards zero instead of to nearest: every result is a little small."""
    pooled = run(narrow, DType.BF16, lambda problem: problem, store=truncated)
    assert {"o along size", "h along size"} <= kinds(pooled)
    assert pooled.slopes["h", "size"].slope > 0.5


def test_a_float32_constant_is_no_bias(wide):
    """A factor of 1 + 2⁻²⁴ on v, the same in all cases, is far below what matters."""
    pooled = run(wide, DType.F32, times("v", 1.0 + 2.0**-24))
    assert not pooled.findings()


def test_what_points_both_ways_cancels():
    """Projections of either sign as large as can be are chance."""
    slope = Slope()
    for number in range(100):
        slope.add(100.0 if number % 2 else -100.0, 1.0)
    assert slope.sigmas == 0.0
    assert slope.slope == 0.0


def test_one_extreme_case_is_no_bias():
    """The scale is the sample's own: a single case reaches one sigma, 37 of one sign are needed for more than six."""
    pooled = Bias()
    pooled.add({("o", "v"): (1e9, 1.0)})
    assert pooled.slopes["o", "v"].sigmas == 1.0
    for count in (36, 37):
        pooled = Bias()
        for _ in range(count):
            pooled.add({("o", "v"): (0.5, 1.0)})
        assert len(pooled.findings()) == (count > SIGMAS**2)


def test_cases_without_information_are_left_out():
    """Where a direction changes nothing, or the error is not finite, there is no slope."""
    pooled = Bias()
    pooled.add({("o", "g"): (0.0, 0.0), ("o", "v"): (np.nan, 1.0), ("h", "v"): (np.inf, 1.0), ("h", "k"): (1.0, 2.0)})
    assert list(pooled.slopes) == [("h", "k")]


def test_a_finding_says_which_way(narrow):
    """A factor above one is reported as such."""
    pooled = run(narrow, DType.BF16, times("v", 1.004))
    message = next(finding.message for finding in pooled.findings() if finding.kind == "o along v")
    assert "-" in message.split(" σ")[0]
    assert float(message.rsplit(" ", 1)[1]) == pytest.approx(1.004, abs=1e-3)
