"""A run: every part in an engine of its own, a few side by side, and what they came to."""

from __future__ import annotations

import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from gdn_verify.e2e.budget import RUNS_BEFORE_ACCUSATION
from gdn_verify.e2e.checkpoint import Checkpoint, Kind
from gdn_verify.e2e.faults import Fault, fault_of
from gdn_verify.e2e.judgement import Judgement, judge
from gdn_verify.e2e.noise import Noise
from gdn_verify.e2e.pinpoint import Pinpointed
from gdn_verify.e2e.plan import FALLBACK, Part, Question, Rule
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
class Looked:
    """A run looked at launch by launch: how many, and of how many rows nobody knows what their state was to be.

    `wrong` is the first launch that is not right, if one was found; `trouble` is why the look itself came to no end.
    """

    launches: int = 0
    unknown: int = 0
    wrong: Pinpointed | None = None
    trouble: str = ""


@dataclass(frozen=True)
class Verdict:
    """A pair by its rule, both transcripts beside it; `looked` where it is wrong."""

    judgement: Judgement
    rule: Rule
    base: Transcript
    candidate: Transcript
    looked: Looked | None = None

    @property
    def ok(self) -> bool:
        """Whether the candidate gives what it owes."""
        return self.judgement.explained and (self.rule is Rule.EXPLAINED or self.judgement.equal)

    @property
    def pinpointed(self) -> Pinpointed | None:
        """The launch that went wrong, if one was found."""
        return self.looked.wrong if self.looked else None


@dataclass(frozen=True)
class Seeded:
    """A seeded fault: flagged or not, and the case that was made of it."""

    fault: Fault
    judgement: Judgement
    looked: Looked | None

    @property
    def flagged(self) -> bool:
        """Whether the run saw it: other words than noise explains.

        A core that raised gave zeros, which no noise explains either: that is the fault seen only where it is one that
        raises. Of any other it says that the planting is broken.
        """
        judged = self.judgement
        if judged.problems:
            return False
        return bool(judged.raised) if self.fault.raises else judged.first is not None and not judged.raised

    @property
    def pinpointed(self) -> Pinpointed | None:
        """The launch that went wrong, if one was found."""
        return self.looked.wrong if self.looked else None

    @property
    def became_a_case(self) -> bool:
        """Whether it was flagged, and the suite fails a case of it."""
        return self.flagged and self.pinpointed is not None and bool(self.pinpointed.case)


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
    return Model(place.root, Checkpoint(part.kind, mtp=part.scenario.settings.mtp))


def _referred(parts: Sequence[Part], place: Place) -> dict[str, Transcript]:
    """What transformers says in the scenarios of one model."""
    first = parts[0]
    # A layer that drafts is none of transformers', and the weights beside it are the same.
    model = Model(place.root, Checkpoint(first.kind))
    with Session(model, first.scenario.settings, target=REFERENCE, python=place.reference) as session:
        asked = {_named(q.scenario): q.scenario for part in parts for q in part.questions if q.reference}
        return {name: session.transcript(scenario) for name, scenario in asked.items()}


def _named(scenario: Scenario) -> str:
    """A scenario with its prompts."""
    return f"{scenario.name}, prompts {scenario.seed}"


@dataclass
class _Found:
    """What a part has come to so far: an engine that dies takes nothing of it along."""

    verdicts: list[Verdict] = field(default_factory=list)
    seeded: list[Seeded] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)
    events: Counter[str] = field(default_factory=Counter)
    version: str = ""

    def result(self, name: str, trouble: str, seconds: float) -> Result:
        made = (tuple(self.verdicts), tuple(self.seeded), tuple(self.lacking), tuple(self.events.items()))
        return Result(name, *made, self.version, seconds, trouble)


def _run(part: Part, place: Place, references: References, told: Told) -> Result:
    started, found, trouble = time.perf_counter(), _Found(), ""
    try:
        _in_engine(part, place, references, found)
    except SessionError as error:
        trouble = str(error)
    except Exception:  # one of the suite's own: the other parts are asked all the same
        trouble = traceback.format_exc(limit=-4).strip()
    result = found.result(part.name, trouble, time.perf_counter() - started)
    told(f"{part.name}: {'as it should be' if result.ok else 'NOT as it should be'}, {result.seconds:.0f} s")
    return result


def _in_engine(part: Part, place: Place, references: References, found: _Found) -> None:
    with Session(_model(part, place), part.scenario.settings, host=part.host, python=place.engine) as session:
        found.version = session.opened.version
        for question in part.questions:
            desk = _desk(session, part, question)
            found.lacking += desk.lacking
            found.events.update(desk.base.events)
            if question.reference:
                said = references[_key(part)].result()[_named(question.scenario)]
                found.verdicts.append(desk.against_reference(said))
            for word in question.candidates:
                found.verdicts.append(desk.held(variant(word)))
            for name in question.faults:
                found.seeded.append(desk.seeded(fault_of(name)))


def _desk(session: Session, part: Part, question: Question) -> _Desk:
    """The float64 core in a scenario: it runs in a process of any host, as it needs none of it."""
    scenario = question.scenario
    base = guide = session.transcript(scenario, Variant(ORACLE))
    if scenario.settings.drafts:
        base = session.transcript(scenario, Variant(ORACLE), guide=guide)
    return _Desk(session, part, scenario, base, Noise(session, scenario, base, (question.sites,), guide=guide), guide)


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
        return verdict if verdict.ok else replace(verdict, looked=self._looked_into(Variant(ORACLE)))

    def held(self, wanted: Variant) -> Verdict:
        """A candidate held to the float64 core; looked into where it does not give what it owes."""
        free = self.session.transcript(self.scenario, wanted, guide=self.guide)
        forced = self._forced(wanted, free)
        judged = self._judged((ORACLE, str(wanted)), self.base, free, forced)
        verdict = Verdict(judged, self.part.rule, self.base, free)
        return verdict if verdict.ok else replace(verdict, looked=self._looked_into(wanted))

    def seeded(self, fault: Fault) -> Seeded:
        """A fault planted in this project's fallback; the budget is the healthy pair's."""
        wanted = Variant(FALLBACK, fault.name)
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

    def _looked_into(self, wanted: Variant) -> Looked:
        return look(self.session, self.scenario, wanted, self.guide)


def look(session: Session, scenario: Scenario, wanted: Variant, guide: Transcript | None = None) -> Looked:
    """The run again, every launch looked at; an engine that does not outlive it has still told what was judged."""
    try:
        seen = session.watched(scenario, wanted, guide)
    except SessionError as error:
        return Looked(trouble=str(error))
    return Looked(seen.launches, seen.unknown, seen.wrong, seen.failure)
