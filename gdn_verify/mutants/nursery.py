"""Where mutants are tried: a process that has imported and drawn everything but the kernels, and forks for each one.

A child imports the kernels with the mutant in them. Whatever becomes of it, its parent lives on.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from multiprocessing.connection import Connection

from gdn_verify.hosts import Host
from gdn_verify.mutants.child import forked
from gdn_verify.mutants.reached import Lines, lines_of
from gdn_verify.mutants.trial import Drawn, Fate, Mutant, Places, Verdict, tried
from gdn_verify.paths import find_subject
from gdn_verify.service import Job, draw


@dataclass(frozen=True)
class Begin:
    """The first message: the jobs that follow, to be drawn."""

    jobs: tuple[Job, ...]


@dataclass(frozen=True)
class Look:
    """Which lines do these jobs' cases come by? The answer is `Lines` for each."""

    jobs: tuple[Job, ...]


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
    outcome = forked(lambda beat: [lines_of(job, drawn[job]) for job in message.jobs])
    if outcome.death:
        raise RuntimeError(f"looking where cases come by: {outcome.death}")
    found: list[Lines] = outcome.answer
    return found


def _tried(message: Try, drawn: Drawn) -> Verdict:
    started = time.perf_counter()
    what = (message.mutant, message.jobs, drawn, message.passing)
    outcome = forked(lambda beat: tried(*what, beat, message.limit, message.shrink), message.patience)
    if isinstance(outcome.answer, Verdict):
        return outcome.answer
    path, host, kind, case = outcome.beat or ("", "", "", "")
    seconds = time.perf_counter() - started
    return Verdict(Fate.KILLED, "crash", outcome.death, path, host, kind, outcome.beats, seconds, case)
