"""Noisy runs of a session's baseline, made as they are wanted."""

from __future__ import annotations

from dataclasses import dataclass, field

from gdn_verify.e2e.budget import RUNS, Budget, in_quadrature, measured
from gdn_verify.e2e.scenario import Scenario, alone, cut
from gdn_verify.e2e.session import Session, SessionError
from gdn_verify.e2e.transcript import Transcript
from gdn_verify.e2e.variant import ORACLE, Variant

EXACT = Variant(ORACLE)
APART = 4
"""One run in so many asks its requests one by one."""


@dataclass
class Noise:
    """Budgets of one baseline in one scenario.

    The oracle is run along the baseline's tokens under the roundings of each path of `sites` ("": of a float32 kernel),
    and the spreads of all are added in quadrature: those of the candidate, and of a baseline `core` that is not the
    oracle itself. Every fourth run asks its requests one by one, so that what the rest of the engine rounds moves too.
    So do rounds of fewer requests, in which such a baseline is asked as well. `session` may be another one of the same
    engine by the time that more runs are wanted.
    """

    session: Session
    scenario: Scenario
    base: Transcript
    sites: tuple[str, ...] = ("",)
    core: Variant = EXACT
    guide: Transcript | None = None
    _runs: dict[str, list[Transcript]] = field(default_factory=dict)
    _exact: Transcript | None = None
    _smaller: tuple[Transcript, ...] | None = None

    def budget(self, runs: int = RUNS) -> Budget:
        """What that many runs for each path come to; those that were made before count. Raises SessionError."""
        return in_quadrature([self._by(sites, runs) for sites in self.sites])

    def _by(self, sites: str, runs: int) -> Budget:
        made = self._runs.setdefault(sites, [])
        while len(made) < runs:
            made.append(self._run(sites, len(made) + 1))
        together = [run for number, run in enumerate(made, 1) if number % APART]
        apart, dtype = made[APART - 1 :: APART], self.scenario.settings.dtype
        return measured(self._center(), together, dtype, apart, self.base, self._batches())

    def _run(self, sites: str, number: int) -> Transcript:
        asked = self.scenario if number % APART else alone(self.scenario)
        return self._said(asked, Variant(ORACLE, noise=number, sites=sites), f"noisy run {number}")

    def _center(self) -> Transcript:
        """What the oracle says along the baseline's tokens without noise."""
        if self.core == EXACT:
            return self.base
        if self._exact is None:
            self._exact = self._said(self.scenario, EXACT, "the oracle's run")
        return self._exact

    def _batches(self) -> tuple[Transcript, ...]:
        """A baseline that is not the oracle, in rounds of fewer requests than its own had."""
        if self.core == EXACT:
            return ()
        if self._smaller is None:
            largest = max(len(each.lengths) for each in self.scenario.rounds)
            sizes = range(1, min(largest, RUNS + 1))
            self._smaller = tuple(
                self._said(cut(self.scenario, size), self.core, f"the run in rounds of {size}") for size in sizes
            )
        return self._smaller

    def _said(self, asked: Scenario, core: Variant, what: str) -> Transcript:
        """Raises SessionError where it failed: it then says zeros, whose distance would explain anything."""
        said = self.session.transcript(asked, core, self.base if asked.forcible else None, self.guide)
        if said.failure:
            raise SessionError(f"{what} failed: {said.failure}")
        return said
