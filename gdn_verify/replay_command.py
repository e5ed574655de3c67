"""`gdn-verify replay`: saved cases again, on every path that takes them."""

from __future__ import annotations

from pathlib import Path as File
from typing import Annotated

import typer

from gdn_verify.corpus import FOLDER, planned
from gdn_verify.hosts import HOSTS
from gdn_verify.profiles import PROFILES
from gdn_verify.runs import finish, judged
from gdn_verify.words import case_of, hosts_of, refuse, subjects_of, words_of


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
    given = [case_of(file) for place in places or [FOLDER] for file in _files(place)]
    jobs = [*planned(given, subjects_of(paths), hosts_of(hosts))]
    report = judged(jobs, PROFILES["gate"], workers, place=" takes any of these cases:")
    finish(report, json_file, verbose, words_of(require, HOSTS, "host") if require else [])


def _files(place: File) -> list[File]:
    """The file, or those of the folder."""
    found = sorted(place.rglob("*.json")) if place.is_dir() else [place]
    if not found:
        raise refuse(f"{place}: no case files (*.json) in it")
    return found
