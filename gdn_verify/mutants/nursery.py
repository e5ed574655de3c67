"""Where mutants are tried: a process that has imported and drawn everything but the kernels, and forks for each one.

A child imports the kernels with the mutant in them. Whatever becomes of it, its parent lives on.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from multiprocessing.connection import Connection

from gdn_verify.hosts import HOSTS, Host
from gdn_verify.mutants.child import forked
from gdn_verify.mutants.reached import Lines, lines_of
from gdn_verify.mutants.trial import Drawn, Fate, Mutant, Places, Verdict, loaded, tried
from gdn_verify.paths import find_subject
from gdn_verify.report.tally import Report
from gdn_verify.service import Job, Trial, draw

MOST_PATIENCE = 600.0
"""Seconds of silence that are a hang whatever the healthy kernels do."""
MARGIN = 4.0
"""How much longer than a healthy kernel's a silence must be that is a hang."""


@dataclass(frozen=True)
class Begin:
    """The first message: the jobs that follow, to be drawn."""

    jobs: tuple[Job, ...]


@dataclass(frozen=True)
class Look:
    """Which lines do the first `count` cases of these jobs come by? The answer is `Lines` for each."""

    jobs: tuple[Job, ...]
    count: int


@dataclass(frozen=True)
class Try:
    """Put a mutant on trial for `limit` seconds; silence of `patience` seconds is a hang. The answer is a `Verdict`.

    For `shrink` seconds more a smaller case is sought that kills it.
    """

    mutant: Mutant
    passing: Places
    jobs: tuple[Job, ...]
    patience: float
    limit: float
    shrink: float = 0.0


def serve(host: Host, pipe: Connection) -> None:
    """Answer until the parent closes the pipe."""
    drawn: Drawn = {}
    while True:
        try:
            message = pipe.recv()
        except EOFError:
            return
        if isinstance(message, Begin):
            drawn = {job: draw(job, find_subject(job.path)) for job in message.jobs}
            pipe.send(len(drawn))
        elif isinstance(message, Look):
            pipe.send(_looked(message, drawn))
        else:
            pipe.send(_tried(message, drawn))


def _looked(message: Look, drawn: Drawn) -> list[Lines]:
    outcome = forked(lambda beat: [lines_of(job, drawn[job][: message.count]) for job in message.jobs])
    if outcome.death:
        raise RuntimeError(f"looking where cases come by: {outcome.death}")
    found: list[Lines] = outcome.answer
    return found


def _tried(message: Try, drawn: Drawn) -> Verdict:
    """The verdict. Where healthy kernels may be silent as long on the same case it is no hang, and patience grows."""
    started, patience = time.perf_counter(), message.patience
    what = (message.mutant, message.jobs, drawn, message.passing)
    while True:
        outcome = forked(lambda beat: tried(*what, beat, message.limit, message.shrink), patience)
        if isinstance(outcome.answer, Verdict):
            return outcome.answer
        if not outcome.hung or patience >= MOST_PATIENCE or _answers(message, drawn, outcome.beat, patience / MARGIN):
            break
        patience *= 2
    seconds = time.perf_counter() - started
    if outcome.beat is None:
        return Verdict(Fate.KILLED, "crash", outcome.death, seconds=seconds)
    job, number = outcome.beat
    case = Trial(job, find_subject(job.path), HOSTS[job.host], lambda told: None).file(drawn[job][number][0])
    return Verdict(Fate.KILLED, "crash", outcome.death, job.path, job.host, str(job.kind), outcome.beats, seconds, case)


def _answers(message: Try, drawn: Drawn, last: tuple[Job, int] | None, patience: float) -> bool:
    """Whether kernels without the mutant are loaded, and are through with the case, before this patience ends."""

    def healthy(beat: object) -> bool:
        subjects = {job.path: loaded(job, Report()) for job in message.jobs}
        if last is not None:
            job, number = last
            subjects[job.path].load(job.host)
            Trial(job, subjects[job.path], HOSTS[job.host], lambda told: None).run(drawn[job][number][0], number)
        return True

    return not forked(healthy, patience).death
