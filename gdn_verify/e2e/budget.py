"""How far honest noise moves a step's log-probabilities: measured in the same engine, never chosen.

The float64 core runs again and again in the engine with every rounding site of the candidate's path perturbed (Monte
Carlo arithmetic, as `oracles.noise` does for one launch), following the baseline's tokens. The spread of these runs is
the budget of a step, and a candidate's distance over it its ratio. A step's own spread may be small by chance, above
all where logits are bfloat16 and mostly do not move at all: no step is held to less than the median of all.

Some runs ask the requests one by one, which moves what the rest of the engine rounds. They count in the median alone: a
request that an engine serves wrongly in one batch and rightly in another would else be its own excuse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot, isfinite, sqrt
from statistics import median

from gdn_verify.cases.contract import DType
from gdn_verify.e2e.difference import Place, distances
from gdn_verify.e2e.transcript import Transcript
from gdn_verify.oracles.noise import threshold

RUNS = 8
"""Noisy runs at first."""
RUNS_BEFORE_ACCUSATION = 32
"""Noisy runs before a difference is said to be unexplained: a rare event, such as another expert, shows in few."""


@dataclass(frozen=True)
class Budget:
    """The spread of each step over `runs` noisy runs (of each path that rounds), and the least that a step is held to,
    in log-probability."""

    spreads: dict[Place, float]
    floor: float
    runs: int

    def of(self, place: Place) -> float:
        """The budget of a step."""
        return sqrt(self.spreads.get(place, 0.0) ** 2 + self.floor**2)

    @property
    def limit(self) -> float:
        """The largest ratio that a healthy candidate may show, of all these steps."""
        return threshold(len(self.spreads))


def measured(
    exact: Transcript,
    noisy: Sequence[Transcript],
    dtype: str,
    apart: Sequence[Transcript] = (),
    base: Transcript | None = None,
    smaller: Sequence[Transcript] = (),
) -> Budget:
    """The budget of the core that said `exact`, by its runs under noise: `noisy` in its batches, `apart` in others.

    `smaller` are runs without noise of a baseline that said `base`, in other batches. Raises ValueError without any of
    `noisy`, and where one says what is not a number: everything could be explained.
    """
    if not noisy:
        raise ValueError("no noisy run was made; a budget is measured from some")
    if not all(isfinite(moved) for run in (*noisy, *apart) for moved in distances(exact, run).values()):
        raise ValueError("a noisy run says log-probabilities that are no numbers; its budget would explain anything")
    spreads = _spreads(exact, noisy)
    least = max(median(_spreads(exact, (*noisy, *apart)).values()), _ulp(exact, dtype))
    if base is not None and smaller:
        least = hypot(least, median(_spreads(base, smaller).values()))
    return Budget(spreads, least, len(noisy) + len(apart))


def in_quadrature(budgets: Sequence[Budget]) -> Budget:
    """The budget of independent noise: that of all, added by squares. Raises ValueError without any."""
    if not budgets:
        raise ValueError("no rounding was declared; a budget is measured from some")
    places = {place for budget in budgets for place in budget.spreads}
    spreads = {place: hypot(*(budget.spreads.get(place, 0.0) for budget in budgets)) for place in places}
    return Budget(spreads, hypot(*(budget.floor for budget in budgets)), min(budget.runs for budget in budgets))


def _spreads(base: Transcript, runs: Sequence[Transcript]) -> dict[Place, float]:
    squares: dict[Place, list[float]] = {}
    for run in runs:
        for place, moved in distances(base, run).items():
            squares.setdefault(place, []).append(moved * moved)
    return {place: sqrt(sum(found) / len(found)) for place, found in squares.items()}


def _ulp(base: Transcript, dtype: str) -> float:
    """Half a unit in the last place of a typical log-probability, in the type that logits have."""
    best = median(abs(step.ranked[0][1]) for request in base.requests for step in request.steps)
    return DType(dtype).unit_roundoff * max(best, 1.0)
