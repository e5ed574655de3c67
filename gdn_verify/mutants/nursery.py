"""Where mutants are tried: a process that has imported and drawn everything but the kernels, and forks for each one.

A child imports the kernels with the mutant in them. Whatever becomes of it, its parent lives on.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, NoReturn

from gdn_verify.hosts import Host
from gdn_verify.mutants.reached import Lines, lines_of
from gdn_verify.mutants.systematic import Mutant
from gdn_verify.mutants.trial import Drawn, Fate, Places, Verdict, tried
from gdn_verify.paths import find_subject
from gdn_verify.service import Job, draw

ROOM = 6 << 30
"""Bytes of memory that a mutant may take."""


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
    """Put a mutant on trial for `limit` seconds; silence of `patience` seconds is a hang. The answer is a `Verdict`."""

    mutant: Mutant
    passing: Places
    jobs: tuple[Job, ...]
    patience: float
    limit: float


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
    child = _Child(lambda beat: [lines_of(job, drawn[job]) for job in message.jobs])
    if child.death:
        raise RuntimeError(f"looking where cases come by: {child.death}")
    return child.answer


def _tried(message: Try, drawn: Drawn) -> Verdict:
    what = (message.mutant, message.jobs, drawn, message.passing)
    child = _Child(lambda beat: tried(*what, beat, message.limit), message.patience)
    if not child.death:
        return child.answer
    job, file = child.beat or (None, "")
    where: tuple[str, str, str] = (job.path, job.host, str(job.kind)) if job else ("", "", "")
    return Verdict(Fate.KILLED, "crash", child.death, *where, child.beats, child.seconds, file)


class _Child:
    """A forked process that calls a function and ends. `death` is how, if it was not by returning an `answer`.

    `beat` is the last thing it told, `beats` how many there were.
    """

    def __init__(self, work: Callable[[Callable[[object], None]], Any], patience: float = 600.0) -> None:
        self.answer: Any = None
        self.death = ""
        self.beat: Any = None
        self.beats = 0
        started = time.perf_counter()
        ours, theirs = Pipe(duplex=False)
        pid = os.fork()
        if not pid:
            ours.close()
            _live(work, theirs)
        theirs.close()
        try:
            self._listen(ours, patience)
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            ours.close()
        self.seconds = time.perf_counter() - started
        if self.death == "died":
            code = os.waitstatus_to_exitcode(status)
            self.death = signal.Signals(-code).name if code < 0 else f"exit status {code}"

    def _listen(self, pipe: Connection, patience: float) -> None:
        while True:
            if not pipe.poll(patience):
                self.death = f"hang: no answer for {patience:.0f} s"
                return
            try:
                told, what = pipe.recv()
            except EOFError:
                self.death = "died"
                return
            if told == "answer":
                self.answer = what
                return
            self.beat, self.beats = what, self.beats + 1


def _live(work: Callable[[Callable[[object], None]], Any], pipe: Connection) -> NoReturn:
    """A child's whole life. It ends without any of the parent's business at exit."""
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (ROOM, ROOM))
        pipe.send(("answer", work(lambda what: pipe.send(("beat", what)))))
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
