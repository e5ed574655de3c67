"""Is there a systematic error below the rounding? A regression over all cases of a run.

Rounding has no preferred sign. Over many cases the error of a right kernel is as often along a direction as
against it; β times 0.999 through bfloat16 is not. Per case the error is projected, in units of its budget, on
what a slightly wrong oracle would change; over the cases a self-normalised sum tells chance from bias.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import sqrt

import numpy as np

from gdn_verify.checks.power import Alternatives
from gdn_verify.oracles.compose import Array
from gdn_verify.oracles.noise import Expected
from gdn_verify.oracles.wrong import STEP
from gdn_verify.verdict import Check, Finding

SIGMAS = 6.0
"""For errors of random sign, P(|t| > 6) is below 2 e⁻¹⁸ whatever their sizes (a self-normalised sum)."""
SMALLEST = 0.02
"""Slopes below this, a factor off by 2·10⁻⁵, are float32 constants rounded the same way in every case."""


@dataclass
class Slope:
    """Sums over cases along one direction: of the projections, their squares, and slopes weighted by information."""

    cases: int = 0
    total: float = 0.0
    squares: float = 0.0
    along: float = 0.0
    information: float = 0.0

    def add(self, along: float, information: float) -> None:
        """One case: Σ error·direction / budget² and Σ direction² / budget²."""
        projection = along / sqrt(information)
        self.cases += 1
        self.total += projection
        self.squares += projection**2
        self.along += along
        self.information += information

    @property
    def sigmas(self) -> float:
        """How many standard deviations the sum of projections is from zero, its own squares being the scale."""
        return self.total / sqrt(self.squares) if self.squares else 0.0

    @property
    def slope(self) -> float:
        """The share of the direction (a factor off by 2⁻¹⁰) that the errors hold."""
        return self.along / self.information if self.information else 0.0


@dataclass
class Bias:
    """Slopes by (result, direction) over the cases of one path and kind."""

    slopes: dict[tuple[str, str], Slope] = field(default_factory=dict)

    def add(self, found: Mapping[tuple[str, str], tuple[float, float]]) -> None:
        """Pool one case."""
        for key, (along, information) in found.items():
            if information > 0.0 and np.isfinite(along) and np.isfinite(information):
                self.slopes.setdefault(key, Slope()).add(along, information)

    def findings(self) -> list[Finding]:
        """Directions in which the errors lean."""
        return [
            Finding(Check.BIAS, f"{result} along {direction}", _sentence(result, direction, slope), abs(slope.sigmas))
            for (result, direction), slope in self.slopes.items()
            if abs(slope.sigmas) > SIGMAS and abs(slope.slope) > SMALLEST
        ]


def _sentence(result: str, direction: str, slope: Slope) -> str:
    off = -slope.slope * STEP
    return (
        f"errors of {result} lean along '{direction}' by {slope.sigmas:+.1f} σ over {slope.cases} cases, "
        f"as if it were off by a factor of {1.0 + off:.6f}"
    )


def project(
    found: Alternatives, expected: Mapping[str, Expected], observed: Mapping[str, Array]
) -> dict[tuple[str, str], tuple[float, float]]:
    """Per result and direction: Σ error·direction / budget² and Σ direction² / budget² of one case."""
    sums = {}
    for name, got in observed.items():
        want = expected[name]
        weight = 1.0 / np.square(want.budget)[..., None]
        error = (got - want.value) * weight
        steps = {direction: made[name] - want.value for direction, made in found.slightly.items() if name in made}
        for direction, step in {**steps, "size": -STEP * want.value}.items():
            sums[name, direction] = float((error * step).sum()), float((step * step * weight).sum())
    return sums
