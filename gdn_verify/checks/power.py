"""Could this case have told? Its distance, in budgets, to what deliberately wrong kernels would return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gdn_verify.checks.question import Written
from gdn_verify.oracles.compose import Problem, Results, clean, evaluate
from gdn_verify.oracles.noise import Expected
from gdn_verify.oracles.wrong import WRONG, Wrong, from_delta
from gdn_verify.verdict import Check, Finding

ENOUGH = 10.0
"""A wrong oracle this many budgets away would have been seen: above every threshold a launch can have."""
SHARE = 0.6
"""The share of value cases in which each wrong oracle must be that far away."""
VACUOUS = 0.1
"""The largest share of value cases that may prove nothing, not even that the output is not zero."""


def delta_problem(problem: Problem) -> Problem:
    """The problem from the delta stage on, as wrong oracles take it."""
    return from_delta(problem, evaluate(problem, clean()))


def powers(delta: Problem, expected: Mapping[str, Expected], stored: list[Written]) -> dict[str, float]:
    """Per wrong oracle, the largest noise ratio that its results would have shown."""
    return {name: max(distances(wrong, delta, expected, stored).values(), default=0.0) for name, wrong in WRONG.items()}


def distances(
    wrong: Wrong, delta: Problem, expected: Mapping[str, Expected], stored: list[Written]
) -> dict[str, float]:
    """Per result, the largest noise ratio of one wrong oracle."""
    made = results(wrong, delta, stored)
    shared = [name for name in made if name in expected]
    return {name: float(expected[name].ratios(made[name]).max(initial=0.0)) for name in shared}


def results(wrong: Wrong, delta: Problem, stored: list[Written]) -> Results:
    """A wrong oracle's results without the run axis, h cut down to stored states."""
    made = {name: value[0] for name, value in wrong(delta).items() if name in ("o", "out", "h")}
    if "h" in made:
        made["h"] = made["h"][np.array([state.index for state in stored], np.int64)]
    return made


@dataclass
class Power:
    """The powers of all value cases of one path and kind."""

    cases: int = 0
    vacuous: int = 0
    strong: dict[str, int] | None = None

    def add(self, found: Mapping[str, float]) -> None:
        """Count one value case."""
        self.strong = self.strong or dict.fromkeys(WRONG, 0)
        self.cases += 1
        self.vacuous += found["zero output"] < ENOUGH
        for name, power in found.items():
            self.strong[name] += power >= ENOUGH

    def shares(self) -> dict[str, float]:
        """Per wrong oracle, the share of cases that would have seen it."""
        strong = self.strong or dict.fromkeys(WRONG, 0)
        return {name: count / max(self.cases, 1) for name, count in strong.items()}

    def findings(self) -> list[Finding]:
        """Why this run's cases do not suffice; empty if they do."""
        weak = [
            Finding(Check.POWER, name, f"only {share:.0%} of {self.cases} cases would see '{name}'; {SHARE:.0%} must")
            for name, share in self.shares().items()
            if share < SHARE
        ]
        if self.vacuous > VACUOUS * self.cases:
            text = f"{self.vacuous} of {self.cases} cases would not see a zero output; at most {VACUOUS:.0%} may"
            weak.append(Finding(Check.POWER, "vacuous", text))
        return weak
