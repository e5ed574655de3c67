"""A path under suspicion: asked about one case after another, in a worker that is replaced when a case ends it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from gdn_verify.cases.codec import CaseFile, dumps
from gdn_verify.cases.strategies import Fed
from gdn_verify.hosts import GPUS, HOSTS
from gdn_verify.hosts.worker import Worker, WorkerDiedError
from gdn_verify.runner import CaseResult
from gdn_verify.service import Absent, Begun, Broken, Done, Ended, Job, Unloadable

SERVICE = "gdn_verify.service:serve"
CRASH = "crash"
"""What a case is said to show that ends its worker, beside the kinds of findings."""


@dataclass(frozen=True)
class Answer:
    """What a case shows, as "check/kind", each once; or why the path does not take it."""

    shown: tuple[str, ...] = ()
    refused: str = ""


class UnaskableError(Exception):
    """The path cannot be asked here: why."""


class _NotItsDoingError(Exception):
    """A worker died between two cases."""


@dataclass
class Suspect:
    """The path, host and extras of `job`, which has no cases of its own. Use as a context manager.

    `patience` is how many seconds of silence are a hang: a GPU may compile for that long.
    """

    job: Job
    patience: float = 120.0
    _worker: Worker | None = field(default=None, init=False)
    _served: bool = field(default=False, init=False)

    def shown(self, fed: Fed) -> tuple[str, ...]:
        """What a case shows; nothing of one that the path refuses. Raises what `ask` does."""
        return self.ask(fed).shown

    def shows(self, target: str, times: int, fed: Fed) -> bool | None:
        """Whether a case shows a finding in one of so many runs; None where the path refuses it."""
        for _ in range(times):
            answer = self.ask(fed)
            if answer.refused:
                return None
            if target in answer.shown:
                return True
        return False

    def cheapen(self, fed: Fed, target: str) -> None:
        """Leave out what a finding does not need: accesses checked, launches captured, launches made again."""
        job = self.job
        for less in (replace(job, watches=0, replays=0, repeats=0), replace(job, replays=0, repeats=0)):
            self.job = less
            if target in self.shown(fed):
                return
        self.job = job

    def ask(self, fed: Fed) -> Answer:
        """Run a case.

        Raises UnaskableError where the path cannot run, and RuntimeError where the suite itself fails.
        """
        try:
            try:
                result = self._result(fed)
            except _NotItsDoingError:  # an earlier case has killed the worker: this one is asked of another
                result = self._result(fed)
        except WorkerDiedError as death:
            self.close()
            return Answer((f"{CRASH}/{str(death).splitlines()[0]}",))
        return Answer(tuple(dict.fromkeys(f"{f.check}/{f.kind}" for f in result.findings)), result.refused)

    def _result(self, fed: Fed) -> CaseResult:
        if self._worker is None:
            self._worker, self._served = Worker(HOSTS[self.job.host], SERVICE), False
        result = CaseResult()
        for message in self._messages(self._worker, replace(self.job, files=(dumps(CaseFile(*fed)),))):
            if isinstance(message, Ended):
                result = message.result
                if result.raised and self.job.host in GPUS:
                    self.close()  # after an error a device may be unusable for its process
                    break
        return result

    def _messages(self, worker: Worker, job: Job) -> Iterator[object]:
        """All about one case, to its end."""
        begun = sent = False
        while True:
            try:
                if not sent:
                    worker.send(job)
                    sent = True
                message = worker.receive(self.patience)
            except WorkerDiedError as death:
                if begun:
                    raise
                if self._served:
                    self.close()
                    raise _NotItsDoingError from None
                raise UnaskableError(f"the path does not load: {death}") from None
            if isinstance(message, (Absent, Unloadable)):
                raise UnaskableError(message.reason)
            if isinstance(message, Broken):
                raise RuntimeError(message.traceback)
            if isinstance(message, Done):
                self._served = True
                return
            begun = begun or isinstance(message, Begun)
            yield message

    def close(self) -> None:
        """End the worker; the next case has another."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def __enter__(self) -> Suspect:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
