"""A mutant on trial: the gate's cases, those first that come by its place, until one of them shows it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from hashlib import blake2b
from math import inf

from gdn_verify.cases.reach import reach
from gdn_verify.cases.strategies import Fed
from gdn_verify.hosts import HOSTS
from gdn_verify.mutants.in_cuda import Miswritten
from gdn_verify.mutants.known import Known
from gdn_verify.mutants.systematic import Slip
from gdn_verify.paths import Subject, find_subject
from gdn_verify.report.tally import STANDING, Failure, Report
from gdn_verify.service import Job, Ready, Trial

Mutant = Slip | Known | Miswritten
Drawn = Mapping[Job, Sequence[tuple[Fed, bytes]]]
Places = Mapping[Job, frozenset[int]]
"""Of each job, the numbers of the cases that come by a mutant's place."""


def sampled(mutants: Sequence[Mutant], size: int) -> list[Mutant]:
    """So many of them, by hashes of their names: one that is in stays in when others come and go."""
    return sorted(mutants, key=lambda mutant: blake2b(mutant.name.encode()).digest())[:size]


class Fate(StrEnum):
    """What became of a mutant."""

    KILLED = "killed"
    SURVIVED = "survived"
    STILLBORN = "stillborn"
    EQUIVALENT = "equivalent"
    ELSEWHERE = "elsewhere"
    """Not tried, and alive: it shows on a card or in what a compiler makes, and in no result of the interpreter."""
    OPEN = "open"
    """Alive when its time was up, with cases of the gate that it was not tried on."""


@dataclass(frozen=True)
class Verdict:
    """How a trial ended: by which check on which subject and host, in launches of which kind, after how many cases.

    `case` is the file's text of the case that showed it, "" where it was pooled over many; `smallest` that of the
    smallest one found that shows it too, "" where none was sought.
    """

    fate: Fate
    check: str = ""
    finding: str = ""
    path: str = ""
    host: str = ""
    kind: str = ""
    cases: int = 0
    seconds: float = 0.0
    case: str = ""
    smallest: str = ""


EARLY, SOON, LATER = 2, 10, 40
"""Cases of each job that are tried first and next, of those that pass the mutant's place; and before laws are."""


def order(jobs: Sequence[Job], drawn: Drawn, passing: Places) -> Iterator[tuple[Job, int]]:
    """Cases by number, no one twice: of each job in turn a few that pass the mutant's place, then more, then all.

    Saved cases come when two have been drawn of each job, those first of the subject that most of them pass by.
    """
    done: set[tuple[Job, int]] = set()
    judged = sorted((job for job in jobs if not (job.laws or job.files)), key=lambda job: -len(passing.get(job, ())))
    places = {(job.path, job.host): place for place, job in reversed([*enumerate(judged)])}
    saved = sorted((job for job in jobs if job.files), key=lambda job: places.get((job.path, job.host), len(places)))
    laws, everything = [job for job in jobs if job.laws], 1 << 30
    rounds = [(judged, EARLY, True), (saved, everything, False), (judged, SOON, True), (judged, LATER, False)]
    for chosen, most, only in [*rounds, (laws, everything, False), (judged, everything, False)]:
        for job in chosen:
            numbers = sorted(passing.get(job, ())) if only else range(len(drawn[job]))
            for number in numbers[:most]:
                if (job, number) not in done:
                    done.add((job, number))
                    yield job, number


def tried(
    mutant: Mutant,
    jobs: Sequence[Job],
    drawn: Drawn,
    passing: Places,
    beat: Callable[[object], None] = lambda told: None,
    limit: float = inf,
    shrink: float = 0.0,
) -> Verdict:
    """Put a mutant on trial in this process, which is of no use for anything else afterwards.

    `beat` is told of each case before it runs: its job, and its number there. After `limit` seconds no other
    begins. A mutant that no job comes by survives. For `shrink` seconds the smallest case that shows it is sought.
    """
    started, cases, report = time.perf_counter(), 0, Report()
    try:
        mutant.begin()
        subjects = {job.path: loaded(job, report) for job in jobs}
    except Exception as error:
        return Verdict(Fate.STILLBORN, finding=f"{type(error).__name__}: {error}")

    def verdict(fate: Fate, told: tuple[str, str, str, str, str] = ("",) * 5, case: str = "") -> Verdict:
        return Verdict(fate, *told, cases, time.perf_counter() - started, case)

    current: dict[str, str] = {}
    for job, number in order(jobs, drawn, passing):
        if time.perf_counter() - started > limit:
            return verdict(Fate.OPEN)
        if current.get(job.path) != job.host:  # one object serves all hosts here, and is what it was loaded for last
            subjects[job.path].load(job.host)
            current[job.path] = job.host
        planted = replace(job, plant=mutant.plant)
        trial = Trial(planted, subjects[job.path], HOSTS[job.host], lambda message: None)
        fed, choices = drawn[job][number]
        file, tell = trial.file(fed), partial(beat, (job, number))
        tell()
        cases += 1
        report.add(job, file, trial.run(fed, number))
        if report.failures:
            killed = verdict(Fate.KILLED, _told(report.failures[0]), file)
            return replace(killed, smallest=_smallest(trial, choices, number, shrink, tell))
    report.finish()
    if report.failures:
        return verdict(Fate.KILLED, _told(report.failures[0]))
    silent = next((row for row in report.rows if row.check in STANDING and not row.agrees), None)
    if silent is not None:  # the gate is red then
        return verdict(Fate.KILLED, (silent.check, "nothing agrees", silent.path, silent.host, silent.kind))
    return verdict(Fate.SURVIVED)


def _smallest(trial: Trial, choices: bytes, number: int, seconds: float, live: Callable[[], object]) -> str:
    """The file's text of the smallest failing case, sought for so long; `live` is called before each that is tried."""
    if not (seconds and choices):
        return ""

    def told(message: object) -> None:
        live()

    try:
        return trial.file(replace(trial, tell=told).shrunk(choices, number, seconds))
    except ValueError:  # it fails one time, and not the next
        return ""


def _told(failure: Failure) -> tuple[str, str, str, str, str]:
    finding = failure.finding
    return finding.check.value, finding.kind, failure.path, failure.host, str(failure.kind)


def loaded(job: Job, report: Report) -> Subject:
    """A job's subject, ready to be asked; the report knows what it takes."""
    subject = find_subject(job.path)
    version = subject.load(job.host)
    share = reach(subject.capabilities, subject.conventions, subject.refuses)
    report.open(job, Ready(version, "", share, subject.least_reach))
    return subject
