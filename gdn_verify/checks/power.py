"""Could this case have told? Its distance, in budgets, to what deliberately wrong kernels would return."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import exp, lgamma, log, log1p

from gdn_verify.checks.question import Written, states_of
from gdn_verify.oracles.compose import Array, Problem, Results
from gdn_verify.oracles.noise import Expected
from gdn_verify.oracles.wrong import WRONG_NAMES, from_delta, wrong_results
from gdn_verify.verdict import Check, Finding

ENOUGH = 10.0
"""A wrong oracle this many budgets away would have been seen: above every threshold a launch can have."""
SHARE = 0.6
"""The share of value cases in which each wrong oracle must be that far away."""
VACUOUS = 0.1
"""The largest share of value cases that may prove nothing, not even that the output is not zero."""
CHANCE = 1e-4
"""Drawn cases of a generator that keeps to these shares are beyond them so rarely; each path and kind is asked."""


@dataclass(frozen=True)
class Alternatives:
    """The delta stage's problem of one launch, and what wrong oracles make of it, h cut down to stored states."""

    right: Mapping[str, Array]
    wrong: Mapping[str, Mapping[str, Array]]
    slightly: Mapping[str, Mapping[str, Array]]


def alternatives(problem: Problem, expected: Mapping[str, Expected], stored: list[Written]) -> Alternatives:
    """Evaluate all wrong oracles of a launch; `expected` holds the right results."""
    right = {name: item.value[..., 0] if name in ("g", "beta") else item.value for name, item in expected.items()}
    wrong, slightly = wrong_results(from_delta(problem, right))
    return Alternatives(
        right,
        {name: _stored(made, stored) for name, made in wrong.items()},
        {name: _stored(made, stored) for name, made in slightly.items()},
    )


def _stored(made: Results, stored: list[Written]) -> Results:
    kept = {name: value for name, value in made.items() if name in ("o", "out", "h")}
    if "h" in kept:
        kept["h"] = states_of(kept["h"], stored)
    return kept


def powers(found: Alternatives, expected: Mapping[str, Expected], observed: Iterable[str]) -> dict[str, float]:
    """Per wrong oracle, the largest noise ratio that its results would have shown in what the path gives back."""
    names = tuple(observed)
    return {wrong: _distance(made, expected, names) for wrong, made in found.wrong.items()}


def of_a_case(launches: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """What a case can tell: per wrong oracle, the largest power of its launches.

    They share recipe and options, so that three launches with a scale of 0 are one case that proves nothing, not three.
    """
    each = list(launches)
    return {name: max(found[name] for found in each) for name in each[0]}


def _distance(made: Mapping[str, Array], expected: Mapping[str, Expected], names: tuple[str, ...]) -> float:
    ratios = [expected[name].ratios(made[name]).max(initial=0.0) for name in names if name in made]
    return float(max(ratios, default=0.0))


def beyond(count: int, cases: int, share: float) -> bool:
    """Whether `count` of so many cases are more than a `share`, 0 to 1, of them, and more than `CHANCE` makes of it."""
    if count <= share * cases:
        return False
    # The upper tail of the binomial distribution, its terms by logarithms: thousands of cases overflow otherwise.
    ways = lgamma(cases + 1)
    terms = (
        ways - lgamma(k + 1) - lgamma(cases - k + 1) + k * log(share) + (cases - k) * log1p(-share)
        for k in range(count, cases + 1)
    )
    return sum(map(exp, terms)) < CHANCE


@dataclass
class Power:
    """The powers of all value cases of one path and kind."""

    cases: int = 0
    vacuous: int = 0
    strong: dict[str, int] | None = None

    def add(self, found: Mapping[str, float]) -> None:
        """Count one value case."""
        self.strong = self.strong or dict.fromkeys(WRONG_NAMES, 0)
        self.cases += 1
        self.vacuous += found["zero output"] < ENOUGH
        for name, power in found.items():
            self.strong[name] += power >= ENOUGH

    def shares(self) -> dict[str, float]:
        """Per wrong oracle, the share of cases that would have seen it."""
        strong = self.strong or dict.fromkeys(WRONG_NAMES, 0)
        return {name: count / max(self.cases, 1) for name, count in strong.items()}

    def findings(self) -> list[Finding]:
        """Why this run's cases do not suffice; empty if they do. Of no cases nothing is known, and all is missing."""
        if not self.cases:
            return [Finding(Check.POWER, name, f"no case would see '{name}'") for name in WRONG_NAMES]
        weak = [
            Finding(Check.POWER, name, f"only {share:.0%} of {self.cases} cases would see '{name}'; {SHARE:.0%} must")
            for name, share in self.shares().items()
            if beyond(round((1.0 - share) * self.cases), self.cases, 1.0 - SHARE)
        ]
        if beyond(self.vacuous, self.cases, VACUOUS):
            text = f"{self.vacuous} of {self.cases} cases would not see a zero output; at most {VACUOUS:.0%} may"
            weak.append(Finding(Check.POWER, "vacuous", text))
        return weak
