"""Noisy runs of a session's baseline, made as they are wanted."""

from __future__ import annotations

from dataclasses import dataclass, field

from gdn_verify.e2e.budget import RUNS, Budget, measured
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

    The oracle is run under the roundings of the path `sites` ("": of a float32 kernel); every fourth run asks its
    requests one by one, so that what the rest of the engine rounds moves too. Of another `core` batches are all that
    can move: its requests are asked one by one, and in rounds of other sizes.
    """

    session: Session
    scenario: Scenario
    base: Transcript
    sites: str = ""
    core: Variant = EXACT
    guide: Transcript | None = None
    _runs: list[Transcript] = field(default_factory=list)

    def budget(self, runs: int = RUNS) -> Budget:
        """What that many runs come to; those that were made before count."""
        while len(self._runs) < runs:
            self._runs.append(self._run(len(self._runs) + 1))
        dtype = self.scenario.settings.dtype
        if self.core.core != ORACLE:
            return measured(self.base, self._runs, dtype)
        together = [run for number, run in enumerate(self._runs, 1) if number % APART]
        return measured(self.base, together, dtype, self._runs[APART - 1 :: APART])

    def _run(self, number: int) -> Transcript:
        """Raises SessionError where it failed: it then says zeros, whose distance would explain anything."""
        said = self._said(number)
        if said.failure:
            raise SessionError(f"noisy run {number} failed: {said.failure}")
        return said

    def _said(self, number: int) -> Transcript:
        forced = self.base if self.scenario.forcible else None
        if self.core.core != ORACLE:
            return self.session.transcript(cut(self.scenario, number), self.core, forced, self.guide)
        asked = self.scenario if number % APART else alone(self.scenario)
        return self.session.transcript(asked, Variant(ORACLE, noise=number, sites=self.sites), forced, self.guide)
