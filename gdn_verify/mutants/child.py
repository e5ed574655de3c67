"""Work in a forked process: whatever it does to itself, its parent lives on and learns how it ended."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

ROOM = 6 << 30
"""Bytes of memory that a child may take."""
ENDING = 30.0
"""Seconds that a process may take to end once its pipe is closed."""
_GONE, _HANG = "gone", "hang"
Beat = Callable[[object], None]
Work = Callable[[Beat], Any]


@dataclass(frozen=True)
class Outcome:
    """What work came to: its `answer`, or how the process died; the last that it told, and how often it did."""

    answer: Any = None
    death: str = ""
    beat: Any = None
    beats: int = 0

    @property
    def hung(self) -> bool:
        """Whether it was ended for its silence."""
        return self.death.startswith(_HANG)


def forked(work: Work, patience: float = 600.0) -> Outcome:
    """Call `work` in a child, with a function to tell its parent something; silence of `patience` seconds is a hang."""
    fork = get_context("fork")
    ours, theirs = fork.Pipe(duplex=False)
    process = fork.Process(target=_live, args=(work, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        outcome = _listen(ours, patience)
        if outcome.death == _GONE:
            process.join(ENDING)
            outcome = Outcome(None, _end(process.exitcode), outcome.beat, outcome.beats)
        return outcome
    finally:
        process.kill()
        process.join()
        process.close()
        ours.close()


def _listen(pipe: Connection, patience: float) -> Outcome:
    beat, beats = None, 0
    while pipe.poll(patience):
        try:
            told, what = pipe.recv()
        except EOFError:
            return Outcome(None, _GONE, beat, beats)
        if told == "answer":
            return Outcome(what, "", beat, beats)
        beat, beats = what, beats + 1
    return Outcome(None, f"{_HANG}: no answer for {patience:.0f} s", beat, beats)


def _end(code: int | None) -> str:
    if code is None:
        return "it closed its pipe and lives on"
    return signal.Signals(-code).name if code < 0 else f"exit status {code}"


def _live(work: Work, pipe: Connection) -> None:
    """A child's whole life."""
    resource.setrlimit(resource.RLIMIT_DATA, (ROOM, ROOM))
    pipe.send(("answer", work(lambda what: pipe.send(("beat", what)))))
