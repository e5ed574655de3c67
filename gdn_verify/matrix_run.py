"""The run behind a matrix: the gate's jobs of chosen cases, doubts asked again, then facts that no case can show alone.

Nothing is judged here: a case is the gate's, the bits of a row are those of `invariance`, and a state handed over is
judged by the values check.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from gdn_verify import gate
from gdn_verify.cases.codec import CaseFile, dumps
from gdn_verify.cases.contract import ContractError, Kind
from gdn_verify.cases.strategies import Fed
from gdn_verify.cases.topics import TOPICS, Topic
from gdn_verify.corpus import ruled
from gdn_verify.matrix import handover, invariant, padding
from gdn_verify.matrix.asked import measure
from gdn_verify.matrix.cells import Cell, Key, Matrix, Row, Run
from gdn_verify.matrix.choose import Chosen, choose, put
from gdn_verify.matrix.features import NotMadeError, every
from gdn_verify.matrix.record import Recorder, Where
from gdn_verify.paths import Path
from gdn_verify.paths.refusal import refusal_of
from gdn_verify.probe import absence_of
from gdn_verify.profiles import PROFILES
from gdn_verify.service import Job

PROFILE = PROFILES["gate"]
AGAIN = 2
"""Launches of each kind that are made again, bit for bit; one in the interpreter."""
Placed = tuple[Path, str]
Told = Callable[[str], None]


@dataclass(frozen=True)
class Extent:
    """How much a run does: cases of each feature, kinds, workers; and whether a defect is planted in each path."""

    cases: int = 1
    topics: tuple[Topic, ...] = TOPICS
    workers: int | None = None
    plant: str | None = None
    facts: bool = True


def run(paths: Iterable[Path], hosts: Iterable[str], extent: Extent, tell: Told = lambda words: None) -> Matrix:
    """The matrix of these paths on these hosts."""
    begun, date, hosts = time.perf_counter(), _now(), tuple(hosts)
    every_place = [(path, host) for path in paths for host in path.hosts if host in hosts]
    away = {(path.name, host): why for path, host in every_place if (why := _absence(path, host))}
    placed = [(path, host) for path, host in every_place if (path.name, host) not in away]
    tell("choosing cases")
    chosen = {(p.name, h, t): choose(p, h, t, extent.cases) for p, h in placed for t in extent.topics}
    recorder = Recorder()
    _judge(list(_jobs(chosen, extent)), recorder, extent, tell)
    _judge(list(_doubts(placed, recorder, extent)), recorder, extent, tell)
    away |= recorder.absent
    ran = [(path, host) for path, host in placed if (path.name, host) in recorder.ready]
    facts = _facts(ran, extent, tell) if extent.facts else {}
    rows = []
    for path, host in every_place:
        cells = {k: c for t in extent.topics for k, c in _of_kind(recorder, chosen, (path.name, host, t)).items()}
        cells |= facts.get((path.name, host), {})
        rows.append(_row(path, host, date, recorder, away, cells))
    seconds = time.perf_counter() - begun
    devices = tuple(dict.fromkeys(row.device for row in rows if row.device))
    made = Run(date, f"gdn-verify {' '.join(sys.argv[1:])}", devices, round(seconds, 1), recorder.cases)
    return Matrix(tuple(rows), (made,))


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _absence(path: Path, host: str) -> str:
    """Why a path cannot run on a host here, and what would install it, or ""."""
    return absence_of(host) or str(path.missing(host) or "")


def _of_kind(recorder: Recorder, chosen: dict[Where, Chosen], where: Where) -> dict[Key, Cell]:
    return recorder.cells(where, chosen[where]) if where in chosen else {}


def _row(
    path: Path, host: str, date: str, recorder: Recorder, away: dict[tuple[str, str], str], cells: dict[Key, Cell]
) -> Row:
    span, ready = str(path.capabilities.span), recorder.ready.get((path.name, host))
    if why := away.get((path.name, host)):
        return Row(path.name, span, host, date=date, missing=why)
    version, device, reach = (ready.version, ready.device, ready.reach) if ready else ("", "", 0.0)
    return Row(path.name, span, host, version, device, date, reach, cells=cells)


def _jobs(chosen: dict[Where, Chosen], extent: Extent) -> Iterator[Job]:
    for (path, host, topic), of_kind in chosen.items():
        if of_kind.files:
            yield _job((path, host, topic), of_kind.files, extent)


def _job(where: Where, feds: Sequence[Fed], extent: Extent, again: bool = True) -> Job:
    path, host, topic = where
    files = tuple(dumps(CaseFile(*fed)) for fed in feds)
    repeats = (1 if host == "interpreter" else AGAIN) if again and isinstance(topic, Kind) else 0
    return Job(path, host, topic, count=len(files), files=files, plant=extent.plant, repeats=repeats)


def _judge(jobs: list[Job], recorder: Recorder, extent: Extent, tell: Told) -> None:
    if not jobs:
        return
    total = recorder.cases + sum(job.count for job in jobs)

    def advance(job: Job | None, report: object) -> None:
        if job:
            tell(f"{recorder.cases} of {total} cases: {job.path} on {job.host}, {job.kind}")

    gate.run(ruled(jobs), PROFILE, workers=extent.workers, progress=advance, report=recorder)


def _doubts(placed: Iterable[Placed], recorder: Recorder, extent: Extent) -> Iterator[Job]:
    """A case for each feature that is suspected beside others: one that agrees, with that feature put in."""
    named = {each.name: each for each in every()}
    for path, host in placed:
        for topic in extent.topics:
            where, feds = (path.name, host, topic), []
            for base, name in recorder.doubts(where):
                try:
                    fed = put(named[name], base, path, topic)
                except (NotMadeError, ContractError):
                    continue
                feds += [fed] if refusal_of(path, *fed) is None and fed not in feds else []
            if feds:
                yield _job(where, feds, extent, again=False)


def _facts(placed: Sequence[Placed], extent: Extent, tell: Told) -> dict[tuple[str, str], dict[Key, Cell]]:
    """Batch invariance, padding, and states handed over."""
    tell("batch invariance, padding, hand-over")
    invariance = invariant.questions(placed, extent.topics, extent.cases)
    handed = handover.questions(placed, extent.cases)
    return measure([*invariance, *padding.questions(placed, extent.topics), *handed], extent.workers)
