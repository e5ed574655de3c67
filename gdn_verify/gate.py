"""The gate: every path on every host for every kind, in worker processes, and one report at the end."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import wait

from gdn_verify.cases.contract import Kind
from gdn_verify.hosts import HOSTS
from gdn_verify.hosts.worker import Worker, WorkerDiedError
from gdn_verify.paths import Path
from gdn_verify.profiles import Profile
from gdn_verify.report.tally import Report
from gdn_verify.service import Absent, Begun, Broken, Done, Ended, Job, Ready

SERVICE = "gdn_verify.service:serve"
Progress = Callable[[Job, int], None]


class SuiteError(RuntimeError):
    """The suite itself failed in a worker; the message holds the worker's traceback."""


def plan(
    paths: Iterable[Path], hosts: Iterable[str], kinds: Iterable[Kind], profile: Profile, plant: str | None = None
) -> list[Job]:
    """The jobs of a run, split into shards so that workers stay busy to the end."""
    hosts, kinds = tuple(hosts), frozenset(kinds)
    return [
        job
        for path in paths
        for host in path.hosts
        if host in hosts
        for kind in path.capabilities.kinds
        if kind in kinds
        for job in _shards(path, host, kind, profile, plant)
    ]


def _shards(path: Path, host: str, kind: Kind, profile: Profile, plant: str | None) -> Iterator[Job]:
    total = profile.cases(host, kind)
    on_gpu = host in ("cuda", "rocm")
    size = ("wide" if on_gpu else "small") if kind in (Kind.DECODE, Kind.SPEC) else ("wide" if on_gpu else "prefill")
    shapes = profile.shapes if on_gpu and path.kernels else None
    for number, start in enumerate(range(0, total, profile.shard)):
        count = min(profile.shard, total - start)
        seed = profile.seed + number
        yield Job(path.name, host, kind, size, count, seed, shapes=shapes, plant=plant)


@dataclass
class _Seat:
    """A place for one worker, and what it is doing."""

    worker: Worker
    host: str
    job: Job | None = None
    begun: Begun | None = None
    heard: float = 0.0
    started: bool = False

    def deadline(self, profile: Profile) -> float:
        """When its silence becomes a hang."""
        return self.heard + (profile.deadline if self.started else profile.patience)


def run(
    jobs: Iterable[Job], profile: Profile, *, workers: int | None = None, progress: Progress | None = None
) -> Report:
    """Run `jobs` and report. A worker that dies or hangs costs one case; the rest of its job goes on in a new one.

    Raises SuiteError where the suite, not a path, is at fault.
    """
    report, queue = Report(), deque(_by_host(jobs))
    seats: list[_Seat] = []
    absent: set[tuple[str, str]] = set()
    try:
        while queue or any(seat.job for seat in seats):
            _fill(seats, queue, workers or os.cpu_count() or 1, report, absent)
            for seat in _ready(seats, profile):
                _listen(seat, queue, report, profile, absent, progress)
            seats = [seat for seat in seats if seat.job or queue]
    finally:
        for seat in seats:
            seat.worker.close()
    return report


def _by_host(jobs: Iterable[Job]) -> list[Job]:
    """Long jobs first, so that none is left alone at the end; hosts together, so that workers are reused."""
    order = {"interpreter": 0, "cuda": 1, "rocm": 2, "cpu": 3}
    return sorted(jobs, key=lambda job: (order.get(job.host, 4), job.kind in (Kind.DECODE, Kind.SPEC), job.path))


def _fill(seats: list[_Seat], queue: deque[Job], limit: int, report: Report, absent: set[tuple[str, str]]) -> None:
    """Give every idle seat a job, of its own host if there is one, and open seats up to `limit`."""
    while queue and (len(seats) < limit or any(seat.job is None for seat in seats)):
        job = queue.popleft()
        if (job.path, job.host) in absent:
            report.count_absent(job)
            continue
        seat = _seat_for(job, seats, limit)
        seat.job, seat.begun, seat.heard = job, None, time.monotonic()
        seat.worker.send(job)


def _seat_for(job: Job, seats: list[_Seat], limit: int) -> _Seat:
    for seat in seats:
        if seat.job is None and seat.host == job.host:
            return seat
    if len(seats) >= limit:
        idle = next(seat for seat in seats if seat.job is None)
        idle.worker.close()
        seats.remove(idle)
    seat = _Seat(Worker(HOSTS[job.host], SERVICE), job.host)
    seats.append(seat)
    return seat


def _ready(seats: list[_Seat], profile: Profile) -> list[_Seat]:
    """Seats with something to say, or whose time is up."""
    busy = [seat for seat in seats if seat.job]
    talking = wait([seat.worker.fileno() for seat in busy], timeout=1.0)
    now = time.monotonic()
    return [seat for seat in busy if seat.worker.fileno() in talking or now > seat.deadline(profile)]


def _listen(
    seat: _Seat,
    queue: deque[Job],
    report: Report,
    profile: Profile,
    absent: set[tuple[str, str]],
    progress: Progress | None,
) -> None:
    """Take one message from a seat, or bury its worker."""
    assert seat.job is not None
    job = seat.job
    try:
        message = seat.worker.receive(timeout=max(0.0, seat.deadline(profile) - time.monotonic()))
    except WorkerDiedError as death:
        _bury(seat, queue, report, str(death))
        return
    seat.heard = time.monotonic()
    if isinstance(message, Broken):
        raise SuiteError(f"{job.path} on {job.host}, {job.kind}: the suite failed\n{message.traceback}")
    if isinstance(message, Ready):
        report.open(job, message)
    elif isinstance(message, Absent):
        absent.add((job.path, job.host))
        report.add_absent(job, message.reason)
        seat.job = None
    elif isinstance(message, Begun):
        seat.begun = message
    elif isinstance(message, Ended):
        assert seat.begun is not None
        seat.started = True
        report.add(job, seat.begun.file, message.result)
        if progress:
            progress(job, 1)
    elif isinstance(message, Done):
        seat.job = None


def _bury(seat: _Seat, queue: deque[Job], report: Report, death: str) -> None:
    """A worker died: its case has crashed, the rest of its job is run by another."""
    job, begun = seat.job, seat.begun
    assert job is not None
    seat.worker.close()
    if begun is None:
        report.add_crash(job, "", f"before its first case: {death}")
        seat.job = None
    else:
        report.add_crash(job, begun.file, death)
        left = replace(job, skip=begun.index + 1)
        seat.job = None
        if left.skip < (len(job.files) or job.count):
            queue.appendleft(left)
    seat.worker = Worker(HOSTS[seat.host], SERVICE)
    seat.started, seat.begun = False, None
