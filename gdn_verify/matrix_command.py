"""`gdn-verify matrix`: what each implementation takes, where it agrees, and what it does beside; of one run or many."""

from __future__ import annotations

import json
import signal
from pathlib import Path as File
from typing import Annotated

import typer

from gdn_verify.cases.topics import TOPICS, topic
from gdn_verify.matrix.cells import Matrix, MatrixError, from_json
from gdn_verify.matrix.merge import merged
from gdn_verify.matrix.page import SUFFIXES, page
from gdn_verify.matrix.table import show
from gdn_verify.matrix_run import Extent, run
from gdn_verify.mutants import NAMES, planter_of
from gdn_verify.report.terminal import wide
from gdn_verify.runs import RED, progress
from gdn_verify.words import hosts_of, paths_of, refuse, words_of


def matrix(
    files: Annotated[
        list[File] | None, typer.Argument(help="With --merge: files that --json wrote.", metavar="FILE")
    ] = None,
    merge: Annotated[bool, typer.Option("--merge", help="Run nothing, and make one matrix of these files.")] = False,
    paths: Annotated[str, typer.Option(help="Paths, separated by commas; all by default.")] = "",
    hosts: Annotated[str, typer.Option(help="Hosts: cpu, interpreter, cuda, rocm; all by default.")] = "",
    kinds: Annotated[str, typer.Option(help="Kinds: decode, prefill, spec, mixed, trajectory; all by default.")] = "",
    cases: Annotated[int, typer.Option(help="Cases of each feature, by kind.", min=1)] = 1,
    workers: Annotated[int, typer.Option(help="Worker processes; 0 for one a core.", min=0)] = 0,
    json_file: Annotated[
        File | None, typer.Option("--json", help="Write the matrix to this file as JSON.", metavar="FILE")
    ] = None,
    page_file: Annotated[
        File | None, typer.Option("--page", help="Write it as a page too: .md or .html.", metavar="FILE")
    ] = None,
    plant: Annotated[str, typer.Option(help="Plant a defect in a copy of each path, to see it go red.")] = "",
) -> None:
    """Judge a few cases of every feature of every path, and tell what each supports; exit 1 if anything disagrees."""
    if page_file and page_file.suffix not in SUFFIXES:
        raise refuse(f"--page {page_file}: a page is {' or '.join(SUFFIXES)}")
    if bool(files) is not merge:
        raise refuse("--merge makes one matrix of the files that are named; without it there are none to name")
    if merge and (paths or hosts or kinds or plant):
        raise refuse("--merge runs nothing; leave --paths, --hosts, --kinds and --plant out")
    made = merged([_read(file) for file in files]) if files else _run(paths, hosts, kinds, cases, workers, plant)
    _give(made, json_file, page_file)


def _give(made: Matrix, json_file: File | None, page_file: File | None) -> None:
    """Write it, show it, and end the command with its status if that is not 0."""
    if json_file:
        json_file.write_text(json.dumps(made.as_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if page_file:
        page_file.write_text(page(made, page_file.suffix), encoding="utf-8")
    show(made, wide())
    if not made.ran:
        raise refuse("nothing ran; see `gdn-verify doctor`")
    if not made.ok:
        raise typer.Exit(RED)


def _run(paths: str, hosts: str, kinds: str, cases: int, workers: int, plant: str) -> Matrix:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    about = tuple(topic(kind) for kind in words_of(kinds, TOPICS, "kind"))
    defect = planter_of(words_of(plant, NAMES, "defect")[0]) if plant else None
    named, wanted = paths_of(paths), hosts_of(hosts)
    if not any(host in wanted for path in named for host in path.hosts):
        raise refuse("no path runs on these hosts; see `gdn-verify paths`")
    with progress() as bar:
        task = bar.add_task("matrix", total=None)
        extent = Extent(cases, about, workers or None, defect)
        return run(named, wanted, extent, lambda words: bar.update(task, description=words))


def _read(file: File) -> Matrix:
    try:
        return from_json(json.loads(file.read_text(encoding="utf-8")), str(file))
    except (OSError, ValueError, MatrixError) as error:
        raise refuse(str(error) if isinstance(error, MatrixError) else f"{file}: {error}") from None
