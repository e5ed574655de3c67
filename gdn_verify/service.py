"""The worker's side of a run: draw a job's cases, run them one by one, say before each what is about to run.

The parent learns of a case before it is launched, so a worker that dies or hangs leaves its case behind.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from itertools import islice
from multiprocessing.connection import Connection
from typing import Any

from hypothesis.strategies import SearchStrategy

from gdn_verify.cases.codec import CaseFile, dumps, loads
from gdn_verify.cases.reach import reach
from gdn_verify.cases.shapes import drawn_cases, shape_pool, table_shapes
from gdn_verify.cases.sizes import AGAIN, BRIEF, LONG, PREFILL_SMALL, SMALL, TINY, WATCHED, WIDE
from gdn_verify.cases.spare import spared
from gdn_verify.cases.strategies import Fed, cases
from gdn_verify.cases.topics import Series, Topic
from gdn_verify.cases.trajectories import trajectories
from gdn_verify.checks.sanitizer import Mark
from gdn_verify.hosts import Host
from gdn_verify.hosts.sanitizer import Sanitizer
from gdn_verify.known import Rule, mended, misled, set_aside
from gdn_verify.oracles.ready import load
from gdn_verify.paths import Builder, Subject, find_subject
from gdn_verify.runner import CaseResult, Effort, run_case, run_laws, run_tables
from gdn_verify.smallest import SECONDS, smallest
from gdn_verify.verdict import Check, Finding

SIZES = {
    "tiny": TINY,
    "brief": BRIEF,
    "again": AGAIN,
    "small": SMALL,
    "prefill": PREFILL_SMALL,
    "watched": WATCHED,
    "wide": WIDE,
    "long": LONG,
}
SETTLING = 0.2
"""Seconds from a device's last kernel until its tool, another process, has written what it saw."""


@dataclass(frozen=True)
class Job:
    """Cases of one path on one host: `count` of one kind drawn from `seed`, or the given files.

    `skip` cases are left out at the start: those that ran before a worker died. `shapes` bounds the number of
    geometries (compile keys); None leaves them free. `plant` names "module:function", which makes a defective copy of
    the path, for tests of the suite itself. Every access of a kernel is checked in the first `watches` cases, where the
    host can. The launches of the first `replays` cases are captured and replayed on other rows, those of the first
    `repeats` made again. With `laws` the cases are held to laws of these names, and to no oracle. `tables` says that
    the path is a table builder. With `sanitizer` the worker runs under that tool. Findings that `rules` explain are set
    aside; with `proves` the cases are a rule's own, and must show what it says.
    """

    path: str
    host: str
    kind: Topic
    size: str = "small"
    count: int = 0
    seed: int = 0
    skip: int = 0
    shapes: int | None = None
    files: tuple[str, ...] = ()
    plant: str | None = None
    watches: int = 0
    replays: int = 0
    repeats: int = 0
    laws: tuple[str, ...] = ()
    tables: bool = False
    sanitizer: Sanitizer | None = None
    rules: tuple[Rule, ...] = ()
    proves: bool = False

    @property
    def check(self) -> Check:
        """The check that stands for the job in a report."""
        if self.sanitizer:
            return Check(self.sanitizer.tool)
        return Check.LAWS if self.laws else Check.TABLES if self.tables else Check.VALUES


@dataclass(frozen=True)
class Ready:
    """First word on a job: the version loaded, the share of the probe set that the path accepts, and must accept."""

    version: str
    device: str
    reach: float
    least_reach: float = 0.0


@dataclass(frozen=True)
class Absent:
    """The job cannot run here: why, and what would change it."""

    reason: str


@dataclass(frozen=True)
class Unloadable:
    """The path should run here, but its implementation does not import: what it raised."""

    reason: str


@dataclass(frozen=True)
class Begun:
    """A case is about to run; its file, should it be the last."""

    index: int
    file: str


@dataclass(frozen=True)
class Launching:
    """The path's own code is entered, or left again. Only silence within it is the path's."""

    entered: bool


@dataclass(frozen=True)
class Ended:
    """A case has run. Where a smaller one was sought that fails too, `file` is that, and the findings are its own."""

    index: int
    result: CaseResult
    file: str = ""


@dataclass(frozen=True)
class Done:
    """The job is over."""

    cases: int = 0


@dataclass(frozen=True)
class Broken:
    """The suite itself failed; the job ends here."""

    traceback: str


@dataclass
class _Loaded:
    """Paths loaded in this worker, with their versions."""

    versions: dict[str, str] = field(default_factory=dict)


def ready() -> None:
    """What all workers need, once for all of them (`hosts.zygote`): these imports, and the oracles' machine code."""
    load()


def serve(host: Host, pipe: Connection) -> None:
    """Answer jobs until the parent closes the pipe."""
    loaded = _Loaded()
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        tell = pipe.send if job.sanitizer is None else _marking(pipe.send, host)
        try:
            for event in _answer(job, host, loaded, tell):
                tell(event)
        except Exception:
            # Not the path's doing (`run_case` holds what a path raises): the suite itself is wrong, and says so.
            pipe.send(Broken(traceback.format_exc()))


def _marking(send: Callable[[object], None], host: Host) -> Callable[[object], None]:
    """`send`, with a mark in the worker's output where what a tool prints is somebody else's from there on."""

    def tell(event: object) -> None:
        mark = _mark(event)
        if mark is Mark.LEFT:
            time.sleep(SETTLING)
        for line in host.dispatches() if mark is Mark.ENDED else ():
            _print(f"{Mark.DISPATCH}{line}")
        if mark is not None:
            _print(mark)
        send(event)

    return tell


def _print(line: str) -> None:
    """A line of its own, whatever was printed before; past Python's buffer, which may hold earlier lines."""
    os.write(1, f"\n{line}\n".encode())


def _mark(event: object) -> Mark | None:
    if isinstance(event, Launching):
        return Mark.ENTERED if event.entered else Mark.LEFT
    return Mark.BEGUN if isinstance(event, Begun) else Mark.ENDED if isinstance(event, Ended) else None


def _answer(job: Job, host: Host, loaded: _Loaded, tell: Callable[[object], None]) -> Iterator[object]:
    path = find_subject(job.path)
    if reason := absence(path, host):
        yield Absent(reason)
        return
    if path.name not in loaded.versions:
        try:
            loaded.versions[path.name] = path.load(host.name)
        except Exception:
            yield Unloadable(traceback.format_exc(limit=-4).strip())
            return
    host.pin(0 if isinstance(path, Builder) else path.configuration or 0)
    share = reach(path.capabilities, path.conventions, path.refuses)
    yield Ready(loaded.versions[path.name], host.describe(), share, path.least_reach)
    trial = Trial(job, path, host, tell, loaded.versions[path.name])
    drawn = draw(job, path)
    for index, (fed, choices) in enumerate(drawn):
        if index < job.skip:
            continue
        yield Begun(index, trial.file(fed))
        yield trial.smallest(choices, Ended(index, trial.run(fed, index)))
    yield Done(len(drawn))


@dataclass
class Trial:
    """A job's cases, one by one. Of trajectories that fail, the first is made smaller: its launches are many."""

    job: Job
    path: Subject
    host: Host
    tell: Callable[[object], None]
    version: str = ""
    sought: bool = False

    def run(self, fed: Fed, index: int, effort: Effort | None = None) -> CaseResult:
        """Run a case as that of this number is run, without the findings that the job's rules explain."""
        result = self._run(fed, index, effort)
        judged = set_aside(self.job.rules, self.version, fed, result.findings)
        gone: Iterable[Finding] = ()
        if self.job.proves:
            (rule,) = self.job.rules
            gone = mended(rule, self.job.path, self.version, judged, result.refused)
        result.findings, result.known = [*judged.findings, *gone], judged.known
        return result

    def _run(self, fed: Fed, index: int, effort: Effort | None) -> CaseResult:
        """The parent knows when the path's own code is entered."""
        few = self.job.kind is Series.TRAJECTORY or self.job.sanitizer is not None
        effort = effort or (Effort.LONE if few else Effort.FULL)
        plant = planter(self.job.plant)
        if isinstance(self.path, Builder):
            return run_tables(*fed, self.path, plant=plant, launching=lambda on: self.tell(Launching(on)))
        if self.job.laws:
            return run_laws(
                *fed,
                self.path,
                self.host,
                self.job.laws,
                plant=plant,
                launching=lambda on: self.tell(Launching(on)),
                misled=partial(misled, self.job.rules, self.version),
            )
        return run_case(
            *fed,
            self.path,
            self.host,
            plant=plant,
            effort=effort,
            launching=lambda on: self.tell(Launching(on)),
            watch=index < self.job.watches,
            replay=index < self.job.replays,
            repeat=index < self.job.repeats,
        )

    def file(self, fed: Fed) -> str:
        """The case as a file's text."""
        return dumps(CaseFile(*fed, notes=f"{self.job.path} on {self.job.host}, {self.job.kind}"))

    def smallest(self, choices: bytes, ended: Ended) -> Ended:
        """The same with the smallest trajectory that fails too, or as it is where none is sought."""
        result = ended.result
        if self.sought or not (choices and result.findings) or self.job.kind is not Series.TRAJECTORY:
            return ended
        self.sought = True
        least = self.shrunk(choices, ended.index)
        findings = self.run(least, ended.index).findings
        return replace(ended, result=replace(result, findings=findings), file=self.file(least)) if findings else ended

    def shrunk(self, choices: bytes, index: int, seconds: float = SECONDS) -> Fed:
        """The smallest case found that fails as the one of these choices does, run as that of this number is.

        Raises ValueError where that one does not fail.
        """
        strategy = _strategy(self.path, self.job.kind, self.job.size, self.job.shapes)
        return smallest(
            strategy, choices, lambda fed: bool(self.run(fed, index, Effort.HASTY).findings), seconds=seconds
        )


def absence(path: Subject, host: Host) -> str | None:
    """Why `path` cannot run on `host` here, or None."""
    if reason := host.missing():
        return reason
    missing = path.missing(host.name)
    return None if missing is None else str(missing)


def planter(name: str | None) -> Callable[[Any], Any] | None:
    """The function that "module:function" names: of a path it makes a defective `Run`, of a builder a `Begin`."""
    if name is None:
        return None
    from importlib import import_module

    module, _, function = name.partition(":")
    found: Callable[[Any], Any] = getattr(import_module(module), function)
    return found


def draw(job: Job, path: Subject) -> list[tuple[Fed, bytes]]:
    """A job's cases, those that it skips included, each with the bytes that it was drawn from, if it was."""
    if job.files:
        files = [each for text in job.files for file in [loads(text)] for each in (*file.before, file)]
        return [(_roomy(path, (file.case, file.presentation)), b"") for file in files]
    return [*islice(drawn_cases(_strategy(path, job.kind, job.size, job.shapes), job.seed), job.count)]


@lru_cache(maxsize=64)
def _strategy(path: Subject, kind: Topic, size: str, count: int | None) -> SearchStrategy[Fed]:
    bounds = SIZES[size]
    pool = None if count is None else shape_pool(path.capabilities, count, size=bounds)
    pool = table_shapes(path.capabilities) if isinstance(path, Builder) else pool
    if isinstance(kind, Series):
        drawn = trajectories(path.capabilities, path.conventions, shapes=pool)
    else:
        drawn = cases(path.capabilities, path.conventions, kind, size=bounds, shapes=pool)
    return drawn.map(partial(_roomy, path))


def _roomy(path: Subject, fed: Fed) -> Fed:
    """The case, on the one pool of its geometry where the path's kernels know no other."""
    one = not isinstance(path, Builder) and path.one_pool(fed[1])
    return spared(fed, path.conventions) if one else fed
