"""A run: every part in an engine of its own, a few side by side, and what they came to."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

from gdn_verify.e2e.budget import RUNS_BEFORE_ACCUSATION
from gdn_verify.e2e.checkpoint import Checkpoint, Kind
from gdn_verify.e2e.judgement import Judgement, judge
from gdn_verify.e2e.messages import Seen
from gdn_verify.e2e.noise import Noise
from gdn_verify.e2e.pinpoint import Pinpointed
from gdn_verify.e2e.plan import FALLBACK, Part, Rule
from gdn_verify.e2e.scenario import Scenario
from gdn_verify.e2e.session import REFERENCE, Model, Session, SessionError
from gdn_verify.e2e.transcript import Transcript
from gdn_verify.e2e.variant import ORACLE, Variant, variant

REFERENCE_NAME = "transformers"
References = dict[tuple[Kind, str], "Future[dict[str, Transcript]]"]


@dataclass(frozen=True)
class Place:
    """Where models are kept, and whose packages engine and reference have."""

    root: str
    engine: str = sys.executable
    reference: str = sys.executable


@dataclass(frozen=True)
class Verdict:
    """A pair by its rule, both transcripts beside it; `pinpointed` where it is wrong and was looked into."""

    judgement: Judgement
    rule: Rule
    base: Transcript
    candidate: Transcript
    pinpointed: Pinpointed | None = None

    @property
    def ok(self) -> bool:
        """Whether the candidate gives what it owes."""
        return self.judgement.explained and (self.rule is Rule.EXPLAINED or self.judgement.equal)


@dataclass(frozen=True)
class Seeded:
    """A seeded fault: flagged or not, and the case that was made of it."""

    fault: str
    judgement: Judgement
    pinpointed: Pinpointed | None

    @property
    def flagged(self) -> bool:
        """Whether the run saw it: other words than noise explains, or a core that raised."""
        return bool(self.judgement.first or self.judgement.raised) and not self.judgement.problems

    @property
    def became_a_case(self) -> bool:
        """Whether the suite fails a case of it."""
        return self.pinpointed is not None and bool(self.pinpointed.case)


@dataclass(frozen=True)
class Result:
    """What one part came to; `trouble` where it did not get to an end."""

    name: str
    verdicts: tuple[Verdict, ...] = ()
    seeded: tuple[Seeded, ...] = ()
    lacking: tuple[str, ...] = ()
    events: tuple[tuple[str, int], ...] = ()
    version: str = ""
    seconds: float = 0.0
    trouble: str = ""

    @property
    def ok(self) -> bool:
        """Whether everything was shown that was to be, and every fault seen."""
        shown = bool(self.verdicts) and not self.lacking and not self.trouble
        return shown and all(v.ok for v in self.verdicts) and all(s.flagged for s in self.seeded)


Told = Callable[[str], None]


def run(parts: Sequence[Part], place: Place, workers: int = 2, told: Told = lambda line: None) -> list[Result]:
    """Run all parts; the reference of each model first, as others wait for it."""
    with ThreadPoolExecutor(workers) as pool:
        references: References = {}
        for part in parts:
            if part.reference and (key := _key(part)) not in references:
                references[key] = pool.submit(_referred, [p for p in parts if p.reference and _key(p) == key], place)
        futures = [pool.submit(_run, part, place, references, told) for part in parts]
        return [future.result() for future in futures]


def _key(part: Part) -> tuple[Kind, str]:
    return part.kind, part.scenario.settings.dtype


def _model(part: Part, place: Place) -> Model:
    return Model(place.root, Checkpoint(part.kind))


def _referred(parts: Sequence[Part], place: Place) -> dict[str, Transcript]:
    """What transformers says in the scenarios of one model."""
    first = parts[0]
    with Session(_model(first, place), first.scenario.settings, target=REFERENCE, python=place.reference) as session:
        asked = {_named(scenario): scenario for part in parts for scenario in part.scenarios}
        return {name: session.transcript(scenario) for name, scenario in asked.items()}


def _named(scenario: Scenario) -> str:
    """A scenario with its prompts."""
    return f"{scenario.name}, prompts {scenario.seed}"


def _run(part: Part, place: Place, references: References, told: Told) -> Result:
    started = time.perf_counter()
    try:
        result = _in_engine(part, place, references)
    except SessionError as error:
        result = Result(part.name, trouble=str(error))
    result = replace(result, seconds=time.perf_counter() - started)
    told(f"{part.name}: {'as it should be' if result.ok else 'NOT as it should be'}, {result.seconds:.0f} s")
    return result


def _in_engine(part: Part, place: Place, references: References) -> Result:
    with Session(_model(part, place), part.scenario.settings, host=part.host, python=place.engine) as session:
        verdicts = list[Verdict]()
        lacking: tuple[str, ...] = ()
        events = Counter[str]()
        for scenario in part.scenarios:
            desk = _desk(session, part, scenario)
            if part.reference:
                verdicts.append(desk.against_reference(references[_key(part)].result()[_named(scenario)]))
            verdicts += [desk.held(variant(word)) for word in part.candidates]
            lacking += desk.lacking
            events.update(desk.base.events)
        if part.faults and part.seeded_in is not None:
            desk = _desk(session, part, part.seeded_in)
            lacking += desk.lacking
        seeded = tuple(desk.seeded(fault) for fault in part.faults)
        return Result(part.name, tuple(verdicts), seeded, lacking, tuple(events.items()), session.opened.version)


def _desk(session: Session, part: Part, scenario: Scenario) -> _Desk:
    """The float64 core in a scenario: it runs in a process of any host, as it needs none of it."""
    base = guide = session.transcript(scenario, Variant(ORACLE))
    if scenario.settings.drafts:
        base = session.transcript(scenario, Variant(ORACLE), guide=guide)
    return _Desk(session, part, scenario, base, Noise(session, scenario, base, part.sites, guide=guide), guide)


@dataclass(frozen=True)
class _Desk:
    """One session, and the baseline that candidates are held to in a scenario; drafts are made of `guide`."""

    session: Session
    part: Part
    scenario: Scenario
    base: Transcript
    noise: Noise
    guide: Transcript

    @property
    def lacking(self) -> tuple[str, ...]:
        """What the scenario is for and has not happened."""
        return tuple(event for event in self.scenario.expects if not self.base.events.get(event))

    def against_reference(self, said: Transcript) -> Verdict:
        """The float64 core held to transformers."""
        judged = self._judged((REFERENCE_NAME, ORACLE), said, self.base, None)
        verdict = Verdict(judged, Rule.EQUAL, said, self.base)
        return verdict if verdict.ok else replace(verdict, pinpointed=self._looked_into(Variant(ORACLE)))

    def held(self, wanted: Variant) -> Verdict:
        """A candidate held to the float64 core; looked into where it does not give what it owes."""
        free = self.session.transcript(self.scenario, wanted, guide=self.guide)
        forced = self._forced(wanted, free)
        judged = self._judged((ORACLE, str(wanted)), self.base, free, forced)
        verdict = Verdict(judged, self.part.rule, self.base, free)
        return verdict if verdict.ok else replace(verdict, pinpointed=self._looked_into(wanted))

    def seeded(self, fault: str) -> Seeded:
        """A fault planted in this project's fallback; the budget is the healthy pair's."""
        wanted = Variant(FALLBACK, fault)
        free = self.session.transcript(self.scenario, wanted, guide=self.guide)
        names, budget = (ORACLE, str(wanted)), self.noise.budget()
        judged = judge(_named(self.scenario), names, self.base, free, None, budget)
        if judged.first is None and judged.parted and (forced := self._forced(wanted, free)) is not None:
            judged = judge(_named(self.scenario), names, self.base, free, forced, budget)
        return Seeded(fault, judged, None if judged.explained else self._looked_into(wanted))

    def _judged(
        self, names: tuple[str, str], base: Transcript, free: Transcript, forced: Transcript | None
    ) -> Judgement:
        """By a budget of few noisy runs, and of more before it is said that something is unexplained."""
        name = _named(self.scenario)
        judged = judge(name, names, base, free, forced, self.noise.budget())
        if judged.first is None:
            return judged
        return judge(name, names, base, free, forced, self.noise.budget(RUNS_BEFORE_ACCUSATION))

    def _forced(self, wanted: Variant, free: Transcript) -> Transcript | None:
        """The candidate along the baseline's tokens, where it went its own way and can be led."""
        same = all(a.tokens == b.tokens for a, b in zip(self.base.requests, free.requests, strict=True))
        if same or not self.scenario.forcible:
            return None
        return self.session.transcript(self.scenario, wanted, self.base)

    def _looked_into(self, wanted: Variant) -> Pinpointed | None:
        seen: Seen = self.session.watched(self.scenario, wanted, self.guide)
        return seen.wrong
