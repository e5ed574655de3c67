"""A candidate against a baseline: which differences honest noise explains, and which it does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gdn_verify.e2e.budget import Budget
from gdn_verify.e2e.difference import Parting, Place, distances, equal_tokens, partings
from gdn_verify.e2e.transcript import Transcript


@dataclass(frozen=True)
class Leaving:
    """The step where a candidate is farthest out of its budget."""

    place: Place
    distance: float
    budget: float

    @property
    def ratio(self) -> float:
        """The distance in budgets."""
        return self.distance / self.budget


@dataclass(frozen=True)
class Judgement:
    """What a pair came to in one scenario.

    `parted` are the first tokens that differ, `worst` the step with the largest ratio, `first` the earliest one beyond
    `limit`, None where all are explained. `problems` say that the run proves nothing; `raised` what the
    candidate raised.
    """

    scenario: str
    baseline: str
    candidate: str
    same: int
    generated: int
    parted: tuple[Parting, ...] = ()
    worst: Leaving | None = None
    first: Leaving | None = None
    limit: float = 0.0
    beyond: int = 0
    runs: int = 0
    problems: tuple[str, ...] = ()
    raised: str = ""

    @property
    def equal(self) -> bool:
        """Token for token the same."""
        return not self.parted

    @property
    def explained(self) -> bool:
        """Whether noise explains whatever differs, and the run counts at all."""
        return self.first is None and not self.problems and not self.raised


def judge(
    scenario: str,
    names: tuple[str, str],
    base: Transcript,
    free: Transcript,
    forced: Transcript | None,
    budget: Budget,
) -> Judgement:
    """Hold a candidate's `free` run to the baseline's, and its log-probabilities to the budget.

    `forced` is its run along the baseline's tokens; None where it was free and the same, or cannot be forced. Steps
    that both runs came to in the baseline's context count by the larger distance: neither run excuses the other.
    """
    found = [Leaving(place, moved, budget.of(place)) for place, moved in _compared(base, free, forced).items()]
    out = [leaving for leaving in found if not leaving.ratio <= budget.limit]
    same, generated = equal_tokens(base, free)
    return Judgement(
        scenario, *names, same, generated, partings(base, free),
        worst=max(found, key=lambda leaving: leaving.ratio), limit=budget.limit,
        first=min(out, key=lambda leaving: (leaving.place.step, leaving.place.request), default=None),
        beyond=len(out), runs=budget.runs, problems=tuple(_problems(base, free, forced)),
        raised=free.raised or (forced.raised if forced else ""),
    )  # fmt: skip


def _compared(base: Transcript, free: Transcript, forced: Transcript | None) -> dict[Place, float]:
    found = distances(base, free)
    for place, moved in distances(base, forced).items() if forced else ():
        found[place] = max(moved, found.get(place, 0.0))
    return found


def _problems(base: Transcript, free: Transcript, forced: Transcript | None) -> Iterator[str]:
    """What keeps the runs from proving anything. A baseline that raised gave zeros, and accuses nobody."""
    yield from base.problems
    if base.raised:
        yield f"the baseline's core: {base.raised}"
    yield from free.problems
    if forced is not None:
        yield from (f"led along the baseline: {problem}" for problem in forced.problems)
        if partings(base, forced):
            yield "led along the baseline, the candidate did not say its tokens"
