"""A worker under a tool that prints what it sees: its output is read case by case, and to the end."""

from __future__ import annotations

from gdn_verify.checks.sanitizer import Heard, Mark, heard, lacking
from gdn_verify.hosts.sanitizer import Sanitizer
from gdn_verify.hosts.worker import Worker
from gdn_verify.verdict import Check, Finding

PARTING = 180.0
"""Seconds for a worker to end by itself: the tool sums up only then."""


class Watched:
    """What the tool has told of a worker's cases."""

    def __init__(self, worker: Worker, sanitizer: Sanitizer) -> None:
        self.sanitizer = sanitizer
        self._worker, self._check = worker, Check(sanitizer.tool)
        self._unread, self._reports = "", 0

    def case(self) -> Heard:
        """What was told up to the end of the case that has ended; the worker may be in the next already."""
        self._unread += self._worker.printed()
        text, _, self._unread = self._unread.partition(Mark.ENDED)
        return self._hear(text)

    def rest(self) -> Heard:
        """What was told since, by a worker that is dead or between two cases."""
        text, self._unread = self._unread + self._worker.printed(), ""
        return self._hear(text)

    def end(self) -> tuple[tuple[Finding, ...], str | None]:
        """Let the worker end: what was told since its last case, and what is lacking to trust the tool's silence."""
        self._worker.finish(PARTING)
        text = self._unread + self._worker.printed()
        return self._hear(text).outside, lacking(text, self._reports)

    def _hear(self, text: str) -> Heard:
        found = heard(text, self._check)
        self._reports += found.reports
        return found
