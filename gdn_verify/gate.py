"""The gate: every path on every host for every kind, in worker processes, and one report at the end."""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from multiprocessing.connection import wait

from gdn_verify.cases.contract import Kind
from gdn_verify.cases.topics import Topic
from gdn_verify.checks.sanitizer import Heard
from gdn_verify.hosts import GPUS, HOSTS
from gdn_verify.hosts.worker import Worker, WorkerDiedError
from gdn_verify.planning import plan, plan_for
from gdn_verify.probe import absence_of
from gdn_verify.profiles import Profile
from gdn_verify.report.tally import Report
from gdn_verify.runner import CaseResult
from gdn_verify.service import Absent, Begun, Broken, Ended, Job, Launching, Ready, Unloadable
from gdn_verify.verdict import Finding
from gdn_verify.watched import Watched

__all__ = ["Crew", "Job", "Progress", "plan", "plan_for", "run"]
SERVICE = "gdn_verify.service:serve"
Progress = Callable[[Job | None, Report], None]
"""Told of the report so far after each case, with the case's job, and about every second, without one."""


@dataclass
class _Seat:
    """A place for one worker, and what it is doing."""

    worker: Worker
    host: str
    watched: Watched | None = None
    job: Job | None = None
    latest: Job | None = None
    begun: Begun | None = None
    heard: float = 0.0
    jobs: int = 0
    ready: bool = False
    started: bool = False
    launching: bool = False
    between: bool = True

    def take(self, job: Job) -> None:
        """Hand the worker a job; raises WorkerDiedError if it is gone."""
        self.job, self.latest, self.begun, self.ready, self.launching = job, job, None, False, False
        self.heard, self.jobs = time.monotonic(), self.jobs + 1
        self.worker.send(job)

    def serves(self, job: Job) -> bool:
        """Whether it is free, and its worker one for such a job."""
        under = self.watched.sanitizer if self.watched else None
        return self.job is None and (self.host, under) == (job.host, job.sanitizer)

    def rest(self) -> Job:
        """What has not ended of its job."""
        assert self.job is not None
        ended = 0 if self.begun is None else self.begun.index + self.between
        return replace(self.job, skip=max(self.job.skip, ended))

    def patience(self, profile: Profile) -> float:
        """Seconds of silence that become a hang: short within a path's launch, unless it is the worker's first."""
        compiles = self.host in GPUS  # any launch may be the first of its compile key
        return profile.deadline if self.started and self.launching and not compiles else profile.patience

    def deadline(self, profile: Profile) -> float:
        """When its silence becomes a hang."""
        return self.heard + self.patience(profile)


@dataclass
class Crew:
    """Workers that outlive a run, for the next to go on with; `close` ends them."""

    seats: list[_Seat] = field(default_factory=list)

    def close(self) -> None:
        """End all, at once, so that their ends are not waited for one after the other."""
        for seat in self.seats:
            seat.worker.end()
        for seat in self.seats:
            seat.worker.close()
        self.seats.clear()


def run(
    jobs: Iterable[Job],
    profile: Profile,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    crew: Crew | None = None,
    report: Report | None = None,
) -> Report:
    """Run `jobs` and report. A worker that dies or hangs costs one case; the rest of its job goes on in a new one.

    The report is a new one, or that given. Workers end with the run, but for those that a `crew` keeps. A path that
    does not load, or that has killed `profile.deaths` workers with one kind of launch, is given up, and the report says
    so, as it does where the suite, not a path, is at fault. An interrupted run reports what ran, and how many cases did
    not: it is red.
    """
    going = _Run(profile, deque(_by_host(jobs)), workers or len(os.sched_getaffinity(0)), progress, report or Report())
    if crew:
        going.seats, crew.seats = crew.seats, []
        going.opened = len(going.seats)
    try:
        while going.goes_on:
            going.fill()
            for seat in going.ready():
                going.listen(seat)
            if progress:
                progress(None, going.report)
        for seat in going.seats:
            going.part(seat)
    except KeyboardInterrupt:
        going.stop()
    finally:
        kept = [seat for seat in going.seats if crew and seat.job is None and not seat.watched]
        Crew([seat for seat in going.seats if seat not in kept]).close()
        if crew:
            crew.seats = kept
    return going.report


def _by_host(jobs: Iterable[Job]) -> list[Job]:
    """Long jobs first, so that none is left alone at the end; hosts together, so that workers are reused."""
    order = {"interpreter": 0, "cuda": 1, "rocm": 2, "emulated-cuda": 3, "cpu": 4}

    def place(job: Job) -> tuple[object, ...]:
        return order.get(job.host, 5), str(job.sanitizer), job.kind in (Kind.DECODE, Kind.SPEC), job.path

    return sorted(jobs, key=place)


@dataclass
class _Run:
    """A run under way: what waits, who works, and which paths are out of it."""

    profile: Profile
    queue: deque[Job]
    limit: int
    progress: Progress | None
    report: Report = field(default_factory=Report)
    seats: list[_Seat] = field(default_factory=list)
    absent: set[tuple[str, str]] = field(default_factory=set)
    unloadable: set[tuple[str, str]] = field(default_factory=set)
    deaths: Counter[tuple[str, str, Topic]] = field(default_factory=Counter)
    opened: int = 0

    @property
    def goes_on(self) -> bool:
        return bool(self.queue) or any(seat.job for seat in self.seats)

    def fill(self) -> None:
        """Give every idle seat a job, of its own host if there is one, and open seats up to the limit."""
        while self.queue and (len(self.seats) < self.limit or any(seat.job is None for seat in self.seats)):
            job = self._next()
            if not self._is_out(job):
                seat = self._seat_for(job)
                try:
                    seat.take(job)
                except WorkerDiedError as death:
                    self._bury(seat, str(death))

    def _next(self) -> Job:
        """The first job in the queue; on a GPU, of a path that no other worker runs, if there is one.

        Two that run one path at the same time compile the same kernels twice: none is kept before it is ready.
        """
        host = self.queue[0].host
        busy = {seat.job.path for seat in self.seats if seat.job and seat.host in GPUS}
        places = (n for n, job in enumerate(self.queue) if job.host == host and job.path not in busy)
        place = next(places, 0) if host in GPUS else 0
        job = self.queue[place]
        del self.queue[place]
        return job

    def _is_out(self, job: Job) -> bool:
        """Whether nothing of this job can run, which the report then knows."""
        if (job.path, job.host) in self.absent:
            self.report.count_absent(job)
            return True
        if reason := _unwatchable(job):
            self.absent.add((job.path, job.host))
            self.report.add_absent(job, reason)
            return True
        if (job.path, job.host) in self.unloadable:
            self.report.add_lost(job, f"{_left(job)} cases not run: the path does not load")
            return True
        if (deaths := self.deaths[job.path, job.host, job.kind]) >= self.profile.deaths:
            self.report.add_lost(job, f"{_left(job)} cases not run: {deaths} cases before them ended a worker")
            return True
        return False

    def _seat_for(self, job: Job) -> _Seat:
        for seat in self.seats:
            if seat.serves(job):
                return seat
        if len(self.seats) >= self.limit:
            idle = next(seat for seat in self.seats if seat.job is None)
            self.part(idle)
            self._dismiss(idle)
        number, self.opened = self.opened, self.opened + 1
        host, tool = HOSTS[job.host], job.sanitizer
        worker = Worker(tool.around(host) if tool else host, SERVICE, number)
        seat = _Seat(worker, job.host, Watched(worker, tool) if tool else None)
        self.seats.append(seat)
        return seat

    def part(self, seat: _Seat, *, told: bool = False) -> None:
        """Let a tool that watched cases sum up. Unless it has `told` something, one that does not has proved nothing.

        What it tells so late is the path's that ran last, whichever it was: the kernel's name tells more.
        """
        if seat.watched and seat.started and seat.latest:
            last, lacking = seat.watched.end()
            self.report.add_told(seat.latest, "", last, stray=True)
            if lacking and not told:
                self.report.add_lost(seat.latest, f"{seat.watched.sanitizer.tool}: {lacking}")

    def _dismiss(self, seat: _Seat) -> None:
        seat.worker.close()
        self.seats.remove(seat)

    def ready(self) -> list[_Seat]:
        """Seats with something to say, or whose time is up."""
        busy = [seat for seat in self.seats if seat.job]
        talking = wait([seat.worker.fileno() for seat in busy], timeout=1.0) if busy else []
        now = time.monotonic()
        return [seat for seat in busy if seat.worker.fileno() in talking or now > seat.deadline(self.profile)]

    def listen(self, seat: _Seat) -> None:
        """Take one message from a seat, or bury its worker."""
        try:
            silence = time.monotonic() - seat.heard
            message = seat.worker.receive(timeout=seat.patience(self.profile) - silence, silence=silence)
        except WorkerDiedError as death:
            self._bury(seat, str(death))
            return
        seat.heard = time.monotonic()
        assert seat.job is not None
        self._heed(seat, seat.job, message)

    def _heed(self, seat: _Seat, job: Job, message: object) -> None:
        if isinstance(message, Ready):
            seat.ready = True
            self.report.open(job, message)
        elif isinstance(message, Begun):
            seat.begun, seat.launching, seat.between = message, False, False
        elif isinstance(message, Launching):
            seat.launching = message.entered
        elif isinstance(message, Ended):
            self._count(seat, job, message)
        else:
            self._close(job, message)
            seat.job = None
            if isinstance(message, Broken) and seat.host in GPUS:
                self._dismiss(seat)  # what failed may be the device, which would fail other paths' jobs too

    def stop(self) -> None:
        """Report as lost all that has not ended."""
        lost: Counter[Job] = Counter()
        for job in (*self.queue, *(seat.rest() for seat in self.seats if seat.job)):
            lost[Job(job.path, job.host, job.kind)] += _left(job)
        for kind, cases in lost.items():
            if cases:
                self.report.add_lost(kind, f"{cases} cases not run: the run was interrupted")

    def _count(self, seat: _Seat, job: Job, message: Ended) -> None:
        assert seat.begun is not None
        seat.started = True
        told = self._hear_tool(seat, job, message.result)
        self.report.add(job, message.file or seat.begun.file, message.result)
        seat.between = True
        if self.progress:
            self.progress(job, self.report)
        if told or (message.result.raised and seat.host in GPUS):
            self._retire(seat, job, message.index)

    def _hear_tool(self, seat: _Seat, job: Job, result: CaseResult) -> bool:
        """Add what the tool that watches has told of a case to its findings; whether there was any."""
        heard = seat.watched.case() if seat.watched else Heard()
        result.findings += heard.case
        self.report.add_told(job, "", heard.outside, stray=True)
        return bool(heard.case)

    def _retire(self, seat: _Seat, job: Job, index: int) -> None:
        """After an error a device may be unusable for its process: the rest of the job is run by another."""
        self.part(seat, told=True)
        self._dismiss(seat)
        if _left(left := replace(job, skip=index + 1)):
            self.queue.appendleft(left)

    def _close(self, job: Job, message: object) -> None:
        """The last word on a job: done, or not to be done here."""
        if isinstance(message, Absent):
            self.absent.add((job.path, job.host))
            self.report.add_absent(job, message.reason)
        elif isinstance(message, Unloadable):
            self._refuse_to_load(job, message.reason)
        elif isinstance(message, Broken):
            self.report.add_broken(job, message.traceback)

    def _refuse_to_load(self, job: Job, reason: str) -> None:
        self.unloadable.add((job.path, job.host))
        self.report.add_crash(job, "", f"the path does not load: {reason}")

    def _bury(self, seat: _Seat, death: str) -> None:
        """A worker died: its case has crashed, the rest of its job is run by another."""
        job, begun = seat.job, seat.begun
        assert job is not None
        self._dismiss(seat)
        self.report.add_told(job, begun.file if begun else "", _last_told(seat))
        if begun is not None:
            after = "after this case had ended: " if seat.between else ""
            self.report.add_crash(job, begun.file, after + death)
            self.deaths[job.path, job.host, job.kind] += 1
            if _left(left := replace(job, skip=begun.index + 1)):
                self.queue.appendleft(left)
        elif seat.jobs > 1:
            self.queue.appendleft(job)  # whatever ran in this worker before may have killed it: judged in a new one
        elif seat.ready:
            self.report.add_crash(job, "", f"before its first case: {death}")
        else:
            self._refuse_to_load(job, death)


def _unwatchable(job: Job) -> str | None:
    """Why the job's tool cannot watch it here. The host is asked without the tool, which needs a driver to start."""
    if job.sanitizer is None:
        return None
    return absence_of(job.host) or job.sanitizer.missing(job.host)


def _last_told(seat: _Seat) -> tuple[Finding, ...]:
    last = seat.watched.rest() if seat.watched else Heard()
    return (*last.outside, *last.case)


def _left(job: Job) -> int:
    """Cases of a job that have not run."""
    return (len(job.files) or job.count) - job.skip
