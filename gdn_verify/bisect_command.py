"""`gdn-verify bisect`: which commit of a kernel's repository moved its results?"""

from __future__ import annotations

from pathlib import Path as File
from typing import Annotated

import typer

from gdn_verify.bisect import BisectError, Question, bisect
from gdn_verify.cases.codec import dumps
from gdn_verify.compare_command import drawn_for
from gdn_verify.paths import Builder
from gdn_verify.report.terminal import wide
from gdn_verify.words import case_of, host_of, refuse, subjects_of

UNTOLD = 1
"""Exit status where git could not tell which commit it was."""


def bisecting(
    repository: Annotated[File, typer.Argument(help="A clone of the kernels' repository.", metavar="REPOSITORY")],
    good: Annotated[str, typer.Argument(help="A revision whose results are the measure.", metavar="GOOD")],
    bad: Annotated[str, typer.Argument(help="A later one whose results moved.", metavar="BAD")],
    path: Annotated[str, typer.Option(help="The path whose implementation the repository has.")],
    host: Annotated[str, typer.Option(help="The host; by default the path's first that can run here.")] = "",
    files: Annotated[list[File] | None, typer.Option("--case", help="Case files instead of drawn ones.")] = None,
    count: Annotated[int, typer.Option("--cases", help="Cases of each kind that the path takes.", min=1)] = 5,
    seed: Annotated[int, typer.Option(help="Which cases are drawn.", min=0)] = 1,
    within: Annotated[
        float, typer.Option(help="Budgets of rounding that a row may move; 0 for the same bits.", min=0)
    ] = 0.0,
    inside: Annotated[str, typer.Option(help="The folder of the repository that its packages are in.")] = "",
    python: Annotated[str, typer.Option(help="A Python with what the packages need; this one by default.")] = "",
) -> None:
    """Search a history with `git bisect` for the first commit that gives other results; exit 1 if git cannot tell.

    The repository is left as it is. A failing case's file is the best measure; the packages are taken from the tree, so
    what has to be built first cannot be searched.
    """
    subject = subjects_of(path)[0]
    if isinstance(subject, Builder):
        raise refuse(f"{subject.name} builds tables; take a path that launches")
    chosen = host_of(subject, host)
    given = [case_of(file) for file in files] if files else drawn_for(subject, count, seed)
    # not resolved: a virtual environment's Python is a link
    other = str(File(python).absolute()) if python else ""
    question = Question(subject.name, chosen, tuple(map(dumps, given)), within, inside, other)
    try:
        found = bisect(repository, good, bad, question)
    except BisectError as error:
        raise refuse(str(error)) from None
    said = f"the first that moved: {found.says}\n{found.commit}" if found.commit else f"not told:\n{found.says}"
    wide().print(said, soft_wrap=True, markup=False, highlight=False)
    if not found.commit:
        raise typer.Exit(UNTOLD)
