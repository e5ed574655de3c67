"""Saved cases, run before those that are drawn for a path: they have shown something once, and are small."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path as File

from gdn_verify import cases
from gdn_verify.cases.codec import CaseFile, dumps, load
from gdn_verify.cases.narrow import refuses
from gdn_verify.cases.topics import Topic
from gdn_verify.known import ledger, rules_of
from gdn_verify.paths import Builder, Subject
from gdn_verify.paths.relay import topics
from gdn_verify.service import Job

FOLDER = File(cases.__file__).parent / "corpus"
"""Cases that once made a right kernel look wrong, or a wrong one right; in `bugs` the smallest that show a bug, in
`rare` such as strategies draw never or seldom."""


@cache
def corpus(part: str = "") -> tuple[CaseFile, ...]:
    """This project's own saved cases, or those of a folder of theirs."""
    return tuple(load(file) for file in sorted((FOLDER / part).rglob("*.json")))


def planned(
    given: Sequence[CaseFile],
    subjects: Iterable[Subject],
    hosts: Collection[str],
    kinds: Collection[Topic] = (),
    plant: str | None = None,
) -> Iterator[Job]:
    """A job for each path, host and kind, of the cases that the path declares to take; every access is checked.

    With `kinds`, of these those that a gate judges the path on.
    """
    for subject in subjects:
        taken = [file for file in given if _takes(subject, file)]
        judged = [kind for kind in topics(subject) if kind in kinds]
        for host in (host for host in subject.hosts if host in hosts):
            for kind in dict.fromkeys(file.case.kind for file in taken):
                if not kinds or kind in judged:
                    yield _job(subject, host, kind, [file for file in taken if file.case.kind is kind], plant)


def proofs(subjects: Sequence[Subject], hosts: Collection[str], kinds: Collection[Topic]) -> Iterator[Job]:
    """A job for each rule of the ledger that speaks of these paths on these hosts: its own case, which must show it."""
    for rule, subject in product(ledger(), subjects):
        kind = rule.case.case.kind
        for host in rule.hosts if subject.name in rule.paths and kind in kinds else ():
            if host in hosts:
                files = (dumps(rule.case),)
                yield Job(
                    subject.name, host, kind, count=1, files=files, watches=1, replays=1, rules=(rule,), proves=True
                )


def ruled(jobs: Iterable[Job]) -> list[Job]:
    """The jobs, each with the rules of its path and host."""
    return [job if job.proves else replace(job, rules=rules_of(job.path, job.host)) for job in jobs]


def _job(subject: Subject, host: str, kind: Topic, given: Sequence[CaseFile], plant: str | None) -> Job:
    tables, files = isinstance(subject, Builder), tuple(map(dumps, given))
    watches = 0 if tables else len(files)
    return Job(subject.name, host, kind, count=len(files), files=files, plant=plant, watches=watches, tables=tables)


def _takes(subject: Subject, file: CaseFile) -> bool:
    if file.case.kind not in subject.capabilities.kinds:
        return False
    return refuses(subject.capabilities, subject.conventions, file.case, file.presentation) is None
