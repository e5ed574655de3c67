"""A stand-in for a process with an engine in it: the same questions, answered by the stand-in engine right here."""

from __future__ import annotations

from typing import Any

from toy_engine import VOCABULARY, ToyEngine

from gdn_verify.e2e.cores import core_of
from gdn_verify.e2e.messages import Opened, Seen
from gdn_verify.e2e.pinpoint import pinpoint
from gdn_verify.e2e.scenario import Scenario
from gdn_verify.e2e.seam import Core, Watcher
from gdn_verify.e2e.session import REFERENCES, asking
from gdn_verify.e2e.transcript import Transcript
from gdn_verify.e2e.variant import ORACLE, Variant, path_of
from gdn_verify.e2e.watch import Watch
from gdn_verify.hosts import HOSTS

CPU = HOSTS["cpu"]


class ToySession:
    """As `session.Session`; a reference is the float64 core."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.engine = ToyEngine()
        self.opened = Opened("a stand-in", 1, VOCABULARY, "")

    def transcript(
        self,
        scenario: Scenario,
        wanted: Variant = REFERENCES,
        forced: Transcript | None = None,
        guide: Transcript | None = None,
    ) -> Transcript:
        wanted = Variant(ORACLE) if wanted == REFERENCES else wanted
        return self._said(scenario, wanted, core_of(wanted, CPU), forced)

    def watched(self, scenario: Scenario, wanted: Variant, guide: Transcript | None = None) -> Seen:
        watch = Watch(path_of(wanted.core), CPU)
        said = self._said(scenario, wanted, core_of(wanted, CPU, watch.given), None, watch)
        wrong = None if watch.wrong is None else pinpoint(watch.wrong, wanted, CPU)
        return Seen(watch.launches, watch.unknown, wrong, "" if wrong else said.failure)

    def _said(
        self, scenario: Scenario, wanted: Variant, core: Core, forced: Transcript | None, watcher: Watcher | None = None
    ) -> Transcript:
        asked, seam = asking(scenario, wanted, VOCABULARY, forced), self.engine.seam
        seam.begin(core, watcher, 1)
        made = []
        for number, prompts in enumerate(asked.rounds):
            follow = asked.forced[number] if asked.forced else None
            made += self.engine.round(prompts, asked.lengths[number], follow)
        problems = tuple(seam.shortcomings(1, wanted.leaves))
        return Transcript(tuple(made), {n: c for n, c in seam.account.events.items() if c}, problems, seam.raised)

    def __enter__(self) -> ToySession:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is to be ended."""
