"""How far a run is, said now and then: one that is ended from outside has then told what it knew."""

from __future__ import annotations

import time
from collections.abc import Callable

from gdn_verify.report.table import describe, kind_of
from gdn_verify.report.tally import Report

EVERY = 30.0
"""Seconds between two lines."""


class Pace:
    """Writes a line about a run of `total` cases once in `every` seconds, however often it is asked to.

    The first failure of each kind is written whole and at once, with its case: it is what a lost run must not lose.
    """

    def __init__(
        self,
        total: int,
        write: Callable[[str], object],
        every: float = EVERY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total, self._write, self._every, self._clock = total, write, every, clock
        self._started = self._said = clock()
        self._failures = 0
        self._kinds: set[tuple[str, ...]] = set()

    def tell(self, report: Report) -> None:
        """Write the line for `report` as it stands, if it is time, and what has failed since."""
        self._tell_failures(report)
        now = self._clock()
        if now - self._said >= self._every:
            self._said = now
            self._write(line(report, self._total, now - self._started))

    def _tell_failures(self, report: Report) -> None:
        fresh, self._failures = report.failures[self._failures :], len(report.failures)
        for failure in fresh:
            if kind_of(failure) not in self._kinds:
                self._kinds.add(kind_of(failure))
                self._write(describe(failure))


def line(report: Report, total: int, seconds: float) -> str:
    """Cases done and red so far, and the first thing that was wrong."""
    text = f"gdn-verify: {report.cases} of {total} cases, {report.red} red, {seconds:.0f} s"
    if not report.failures:
        return text
    first = report.failures[0]
    return f"{text}; first {first.path} on {first.host}, {first.kind}: {first.finding.check}/{first.finding.kind}"
