"""`gdn-verify compare`: is another version of an implementation the same on this machine?"""

from __future__ import annotations

import subprocess
import tarfile
import tempfile
from io import BytesIO
from itertools import islice
from pathlib import Path as File
from typing import Annotated

import typer
from rich.console import Console

from gdn_verify.cases.codec import CaseFile
from gdn_verify.cases.shapes import drawn_cases
from gdn_verify.cases.sizes import SMALL
from gdn_verify.cases.strategies import cases
from gdn_verify.compare import Comparison, Install, NotLoadedError, compare
from gdn_verify.paths import Builder, Path
from gdn_verify.report.terminal import wide
from gdn_verify.words import case_of, host_of, refuse, subjects_of

DIFFERENT = 1
"""Exit status where a case moved by more than is allowed."""
SHOWN = 5
"""Cases that moved are told, the farthest first."""
INSTALL = "A Python, a folder (of packages, or a source tree), REPOSITORY@REVISION, or here."


def comparing(
    first: Annotated[str, typer.Argument(help=INSTALL, metavar="A")],
    second: Annotated[str, typer.Argument(help=INSTALL, metavar="B")],
    path: Annotated[str, typer.Option(help="The path whose implementation has two versions.")],
    host: Annotated[str, typer.Option(help="The host; by default the path's first that can run here.")] = "",
    count: Annotated[int, typer.Option("--cases", help="Cases of each kind that the path takes.", min=1)] = 20,
    seed: Annotated[int, typer.Option(help="Which cases are drawn.", min=0)] = 1,
    files: Annotated[list[File] | None, typer.Option("--case", help="Case files instead of drawn ones.")] = None,
    within: Annotated[
        float, typer.Option(help="Budgets of rounding that a row may move; 0 for the same bits.", min=0)
    ] = 0.0,
) -> None:
    """Run the same cases on two versions: bit for bit the same, or how far apart; exit 1 if any moved too far."""
    subject = subjects_of(path)[0]
    if isinstance(subject, Builder):
        raise refuse(f"{subject.name} builds tables; take a path that launches")
    chosen = host_of(subject, host)
    given = [case_of(file) for file in files] if files else drawn_for(subject, count, seed)
    with tempfile.TemporaryDirectory() as room:
        installs = _install(first, File(room) / "a"), _install(second, File(room) / "b")
        try:
            found = compare(subject.name, chosen, installs, given)
        except NotLoadedError as error:
            raise refuse(str(error)) from None
    _show(found, wide())
    if found.exceeds(within):
        raise typer.Exit(DIFFERENT)


def drawn_for(path: Path, count: int, seed: int) -> list[CaseFile]:
    """So many small cases of each kind that the path is judged on."""
    kinds = [kind for kind in path.capabilities.kinds if path.judged is None or kind in path.judged]
    strategies = [cases(path.capabilities, path.conventions, kind, size=SMALL) for kind in kinds]
    drawn = [fed for strategy in strategies for fed, _ in islice(drawn_cases(strategy, seed), count)]
    return [CaseFile(case, shown) for case, shown in drawn]


def _install(text: str, room: File) -> Install:
    """The version that a word names; of a revision the tree is unpacked in `room`."""
    place, at, revision = text.rpartition("@")
    if text == "here":
        return Install(text)
    if at and (File(place) / ".git").exists():
        return Install(text, folders=(str(_unpacked(place, revision, room)),))
    if File(text).is_dir():
        return Install(text, folders=(str(File(text).resolve()),))
    if File(text).is_file():
        return Install(text, python=text)
    raise refuse(f"{text}: neither a Python, nor a folder, nor a repository's REPOSITORY@REVISION, nor here")


def _unpacked(repository: str, revision: str, room: File) -> File:
    done = subprocess.run(["git", "-C", repository, "archive", revision], capture_output=True, check=False)
    if done.returncode:
        raise refuse(f"{repository}@{revision}: {done.stderr.decode().strip()}")
    with tarfile.open(fileobj=BytesIO(done.stdout)) as tree:
        tree.extractall(room, filter="data")
    return room


def _show(found: Comparison, console: Console) -> None:
    def say(line: str) -> None:
        console.print(line, soft_wrap=True, markup=False, highlight=False)

    moved, ran = found.moved, [case for case in found.cases if not case.trouble]
    say(f"A {found.versions[0]}, B {found.versions[1]}: {len(ran)} of {len(found.cases)} cases ran on both")
    say(f"{sum(case.same for case in ran)} bit for bit the same, {len(moved)} moved")
    for case in moved[:SHOWN]:
        say(f"{case.trouble or f'{case.result} moved by {case.ratio:.3g} budgets'}:\n{case.file}")
    if found.speed:
        say(f"B took {found.speed:.2f} times as long as A, in the median (launch and wait; small cases)")
