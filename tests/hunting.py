"""Hunting a planted defect: the gate's cases in small shards, until a finding of an expected check comes up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from gdn_verify import gate
from gdn_verify.cases.topics import Topic
from gdn_verify.hosts import HOSTS
from gdn_verify.hosts.worker import Worker
from gdn_verify.mutants import planter_of
from gdn_verify.paths import Subject
from gdn_verify.profiles import PROFILES, Profile
from gdn_verify.report.tally import Report
from gdn_verify.service import Absent, Begun, Broken, Done, Ended, Job, Ready, Unloadable
from gdn_verify.verdict import Check, Finding

SHARD = 10


@dataclass(frozen=True)
class Catch:
    """A defect that was found: by which check, after how many cases; `finding` is None where it was not."""

    cases: int
    finding: Finding | None = None

    def __str__(self) -> str:
        return f"{self.finding.check}/{self.finding.kind} @{self.cases}" if self.finding else f"NOT in {self.cases}"


@dataclass
class Hunter:
    """A gate for one defect at a time: workers stay alive between hunts, one a host."""

    shard: int = SHARD
    workers: dict[str, Worker] = field(default_factory=dict)

    def hunt(
        self,
        path: Subject,
        host: str,
        kind: Topic,
        defect: str,
        expected: frozenset[Check],
        profile: Profile | None = None,
    ) -> Catch:
        """Run the profile's cases on a defective copy of `path`, shard by shard, and stop at an expected finding."""
        small = replace(profile or PROFILES["gate"], shard=self.shard)
        report, ran = Report(), 0
        for job in gate.plan([path], [host], [kind], small, planter_of(defect)):
            ran += self._shard(job, report, expected)
            if found := _first(report, expected):
                return Catch(ran, found)
        report.finish()
        return Catch(ran, _first(report, expected))

    def _shard(self, job: Job, report: Report, expected: frozenset[Check]) -> int:
        """Cases until an expected finding; the worker finishes its shard in any case."""
        ran, begun = 0, ""
        for message in self._answers(job):
            if isinstance(message, Ready):
                report.open(job, message)
            elif isinstance(message, Begun):
                ran, begun = ran + (_first(report, expected) is None), message.file
            elif isinstance(message, Ended):
                report.add(job, begun, message.result)
        return ran

    def _answers(self, job: Job) -> Iterator[object]:
        if job.host not in self.workers:
            self.workers[job.host] = Worker(HOSTS[job.host], gate.SERVICE)
        worker = self.workers[job.host]
        worker.send(job)
        while not isinstance(message := worker.receive(PROFILES["gate"].patience), Done):
            assert not isinstance(message, (Absent, Unloadable, Broken)), message
            yield message

    def close(self) -> None:
        """End all workers."""
        for worker in self.workers.values():
            worker.close()


def _first(report: Report, expected: frozenset[Check]) -> Finding | None:
    return next((f.finding for f in report.failures if f.finding.check in expected), None)
