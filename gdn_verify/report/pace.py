"""How far a run is, said now and then: one that is ended from outside has then told what it knew."""

from __future__ import annotations

import time
from collections.abc import Callable

from gdn_verify.report.tally import Report

EVERY = 30.0
"""Seconds between two lines."""


class Pace:
    """Writes a line about a run of `total` cases once in `every` seconds, however often it is asked to."""

    def __init__(
        self,
        total: int,
        write: Callable[[str], object],
        every: float = EVERY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total, self._write, self._every, self._clock = total, write, every, clock
        self._started = self._said = clock()

    def tell(self, report: Report) -> None:
        """Write the line for `report` as it stands, if it is time."""
        now = self._clock()
        if now - self._said >= self._every:
            self._said = now
            self._write(line(report, self._total, now - self._started))


def line(report: Report, total: int, seconds: float) -> str:
    """Cases done and red so far, and the first thing that was wrong."""
    text = f"gdn-verify: {report.cases} of {total} cases, {report.red} red, {seconds:.0f} s"
    if not report.failures:
        return text
    first = report.failures[0]
    return f"{text}; first {first.path} on {first.host}, {first.kind}: {first.finding.check}/{first.finding.kind}"
