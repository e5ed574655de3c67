"""`gdn-verify replay`: saved cases again, on every path that takes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path as File
from typing import Annotated

import typer

from gdn_verify import cases
from gdn_verify.cases.codec import CaseFile, dumps
from gdn_verify.cases.narrow import refuses
from gdn_verify.hosts import HOSTS
from gdn_verify.paths import Builder, Subject
from gdn_verify.profiles import PROFILES
from gdn_verify.runs import finish, judged
from gdn_verify.service import Job
from gdn_verify.words import case_of, refuse, subjects_of, words_of

CORPUS = File(cases.__file__).parent / "corpus"
"""Cases that once made a right kernel look wrong, or a wrong one right."""


def replay(
    places: Annotated[
        list[File] | None,
        typer.Argument(help="Case files, or folders of them; this project's own corpus by default.", metavar="CASE..."),
    ] = None,
    paths: Annotated[str, typer.Option(help="Paths, separated by commas; all by default.")] = "",
    hosts: Annotated[str, typer.Option(help="Hosts: cpu, interpreter, cuda, rocm; all by default.")] = "",
    require: Annotated[str, typer.Option(help="Hosts on which every chosen path must run.")] = "",
    workers: Annotated[int, typer.Option(help="Worker processes; 0 for one a core.", min=0)] = 0,
    json_file: Annotated[File | None, typer.Option("--json", help="Write the report to this file as JSON.")] = None,
    verbose: Annotated[bool, typer.Option(help="Show every kind of failure.")] = False,
) -> None:
    """Run saved cases on every path that takes them; exit 1 if any disagrees or crashes."""
    given = [case_of(file) for place in places or [CORPUS] for file in _files(place)]
    jobs = [*planned(given, subjects_of(paths), words_of(hosts, HOSTS, "host"))]
    report = judged(jobs, PROFILES["gate"], workers, place=" takes any of these cases:")
    finish(report, json_file, verbose, words_of(require, HOSTS, "host") if require else [])


def _files(place: File) -> list[File]:
    """The file, or those of the folder."""
    found = sorted(place.rglob("*.json")) if place.is_dir() else [place]
    if not found:
        raise refuse(f"{place}: no case files (*.json) in it")
    return found


def planned(given: Sequence[CaseFile], subjects: Iterable[Subject], hosts: Sequence[str]) -> Iterator[Job]:
    """A job for each path, host and kind, of the cases that the path declares to take; every access is checked."""
    for subject in subjects:
        taken = [file for file in given if _takes(subject, file)]
        for host in (host for host in subject.hosts if host in hosts):
            for kind in dict.fromkeys(file.case.kind for file in taken):
                files = tuple(dumps(file) for file in taken if file.case.kind is kind)
                tables = isinstance(subject, Builder)
                watches = 0 if tables else len(files)
                yield Job(subject.name, host, kind, count=len(files), files=files, watches=watches, tables=tables)


def _takes(subject: Subject, file: CaseFile) -> bool:
    if file.case.kind not in subject.capabilities.kinds:
        return False
    return refuses(subject.capabilities, subject.conventions, file.case, file.presentation) is None
