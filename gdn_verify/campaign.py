"""A campaign: every mutant on trial by the gate's own cases, several processes at once, and a row for each."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from multiprocessing.connection import wait
from typing import Any, TypeVar

from gdn_verify import gate
from gdn_verify.cases.contract import Kind
from gdn_verify.cases.topics import Series
from gdn_verify.corpus import corpus, planned
from gdn_verify.hosts import HOSTS
from gdn_verify.hosts.worker import Worker
from gdn_verify.mutants import in_cuda
from gdn_verify.mutants.in_cuda import Miswritten
from gdn_verify.mutants.known import Known
from gdn_verify.mutants.nursery import Begin, Look, Try
from gdn_verify.mutants.reached import Lines, passing
from gdn_verify.mutants.record import Row, argued, arguments
from gdn_verify.mutants.systematic import Slip
from gdn_verify.mutants.trial import Mutant, Places, Verdict
from gdn_verify.paths import find_subject
from gdn_verify.profiles import PROFILES, Profile
from gdn_verify.service import Job

NURSERY = "gdn_verify.mutants.nursery:serve"
RARE = "rare"
"""The saved cases that are tried: others show bugs of the catalogue, of which nothing is to be learnt from them."""
ON = ("cpu", "interpreter")
"""Hosts that every machine has."""
BEGINNING = 600.0
"""Seconds that a process may take to draw its cases."""
PATIENCE = 30.0
"""Seconds of silence that may be a hang: healthy kernels are asked for as long then (`nursery`)."""
LOOKED_AT, FEW_LOOKED_AT, FEW = 12, 4, 50
"""Cases of each job of which the lines are known; and of a campaign of few mutants, which looking would outlast."""
OWN = (
    "fallback", "fallback-stages", "fused-decode", "fused-decode-null", "fused-decode-o", "two-launch-decode",
    "fused-spec", "fused-spec-null", "chunk-delta", "chunk-delta-exact", "chunk-delta-long",
    "chunk-delta-checkpoints", "conv-chunk-delta", "prefill-null", "gated-norm", "dispatch", "dispatch-o",
    "dispatch-two-launch",
    "tables", "tables-null", "tables-blocks", "tables-buffers", "tables-buffers-null", "tables-feed",
)  # fmt: skip
"""Paths and builders that run this project's kernels. `gate.plan` adds their relays."""
Waiting = TypeVar("Waiting", tuple[str, str], Mutant)


def plan(profile: Profile = PROFILES["gate"], mutants: Sequence[Mutant] = ()) -> tuple[Job, ...]:
    """The gate's jobs of this project's own subjects, each in one piece, on the processor; rare cases among them.

    Subjects that mutants of the catalogue are planted in are among them; where there are no others, they alone. Mutants
    of the sources in CUDA C++ have the jobs of their paths where those are emulated.
    """
    whole = replace(profile, shard=1 << 20)
    kinds = [*Kind, *Series]
    if in_cuda_alone(mutants):
        subjects = [find_subject(name) for name in in_cuda.PATHS]
        on = [in_cuda.HOST]
        return (*gate.plan(subjects, on, kinds, whole), *planned(corpus(RARE), subjects, on, kinds))
    planted = [mutant.path for mutant in mutants if isinstance(mutant, Known)]
    own = [] if len(planted) == len(mutants) > 0 else OWN
    subjects = [find_subject(name) for name in dict.fromkeys((*own, *planted))]
    return (*gate.plan(subjects, ON, kinds, whole), *planned(corpus(RARE), subjects, ON, kinds))


def in_cuda_alone(mutants: Sequence[Mutant]) -> bool:
    """Whether these are mutants of the sources in CUDA C++, which a campaign has all of or none."""
    return bool(mutants) and all(isinstance(mutant, Miswritten) for mutant in mutants)


@dataclass
class Campaign:
    """Mutants that wait, processes that try them, and what is known of where the cases come by.

    `host` is that of the processes: it settles what they have in their environment.
    """

    jobs: tuple[Job, ...]
    limit: float = inf
    patience: float = PATIENCE
    shrink: float = 0.0
    host: str = "interpreter"
    workers: list[Worker] = field(default_factory=list)
    lines: dict[Job, Lines] = field(default_factory=dict)

    def run(self, mutants: Sequence[Mutant], count: int | None = None) -> Iterator[Row]:
        """A row for each mutant, in the order in which they are settled."""
        known = arguments()
        fates = {mutant.name: argued(mutant, known) for mutant in mutants}
        for mutant in mutants:
            if fate := fates[mutant.name]:
                yield Row.of(mutant, Verdict(fate[0]), fate[1])
        waiting = deque(mutant for mutant in mutants if not fates[mutant.name])
        if not waiting:
            return
        try:
            self._begin(count or len(os.sched_getaffinity(0)))
            if any(isinstance(mutant, Slip) for mutant in waiting):
                self._look(LOOKED_AT if len(waiting) > FEW else FEW_LOOKED_AT)
            yield from self._try(waiting)
        finally:
            for worker in self.workers:
                worker.close()

    def _begin(self, count: int) -> None:
        self.workers = [Worker(HOSTS[self.host], NURSERY, number) for number in range(count)]
        for worker in self.workers:
            worker.send(Begin(self.jobs))
        for worker in self.workers:
            worker.receive(BEGINNING)

    def _look(self, count: int) -> None:
        groups: dict[tuple[str, str], list[Job]] = {}  # whose kernels are imported once
        for job in self.jobs:
            if not (job.laws or job.files):
                groups.setdefault((job.path, job.host), []).append(job)
        for group, lines in self._spread(deque(groups), lambda group: Look(tuple(groups[group]), count)):
            self.lines |= zip(groups[group], lines, strict=True)

    def _try(self, waiting: deque[Mutant]) -> Iterator[Row]:
        def asked(mutant: Mutant) -> Try:
            return Try(mutant, *self._where(mutant), self.patience, self.limit, self.shrink)

        for mutant, verdict in self._spread(waiting, asked):
            yield Row.of(mutant, verdict)

    def _where(self, mutant: Mutant) -> tuple[Places, tuple[Job, ...]]:
        """Cases that are tried first, and all jobs that are."""
        if not isinstance(mutant, Slip):
            jobs = mutant.jobs(self.jobs)
            return {job: frozenset(range(job.count)) for job in jobs if mutant.comes_by(job)}, jobs
        places = passing(self.lines, mutant.file, mutant.first, mutant.last)
        return places, self._concerned(places)

    def _concerned(self, places: Mapping[Job, frozenset[int]]) -> tuple[Job, ...]:
        """All jobs of the subjects and hosts that come by."""
        found = {(job.path, job.host) for job in places}
        return tuple(job for job in self.jobs if (job.path, job.host) in found)

    def _spread(self, waiting: deque[Waiting], asked: Callable[[Waiting], object]) -> Iterator[tuple[Waiting, Any]]:
        """What waits, each with its answer, given to whichever process is free."""
        busy: dict[int, Waiting] = {}
        while waiting or busy:
            for number, worker in enumerate(self.workers):
                if waiting and number not in busy:
                    busy[number] = waiting.popleft()
                    worker.send(asked(busy[number]))
            ready = wait([self.workers[number].fileno() for number in busy])
            for number in [number for number in busy if self.workers[number].fileno() in ready]:
                yield busy.pop(number), self.workers[number].receive(BEGINNING)
