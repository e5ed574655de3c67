"""`gdn-verify localise`: where the launch of a failing case first goes wrong, and what its error looks like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path as File
from typing import Annotated

import typer

from gdn_verify.cases.codec import CaseFile, dumps, loads
from gdn_verify.facts import measured_carefully
from gdn_verify.hosts import Host
from gdn_verify.localise import localise
from gdn_verify.located import Found, Localised
from gdn_verify.mutants import NAMES, planter_of
from gdn_verify.paths import Builder, Path
from gdn_verify.paths.refusal import refusal_of
from gdn_verify.report.localise import PictureError, draw, show
from gdn_verify.report.terminal import wide
from gdn_verify.service import planter
from gdn_verify.words import case_of, host_of, refuse, subjects_of, words_of


@dataclass(frozen=True)
class Locating:
    """Asks a worker where the case of a file's text goes wrong; `plant` names a defect as a `Job` does.

    `careful` as of `localise`: it is what to ask when a worker has died of the case.
    """

    path: str
    host: str
    file: str
    plant: str | None = None
    careful: bool = False

    def measured(self, path: Path, host: Host) -> Sequence[Found | str]:
        """What is wrong with the first launch that is; nothing of a case that is right; why the path refuses it."""
        given, plant = loads(self.file), planter(self.plant)
        if reason := not_taken(path, given):
            return [reason]
        before = [(each.case, each.presentation) for each in given.before]
        run = None if plant is None else plant(path)
        found = localise(given.case, given.presentation, path, host, run, before, self.careful)
        return [] if found is None else [found]


def not_taken(path: Path, given: CaseFile) -> str:
    """Why a path does not take a case; "" if it does."""
    reason = refusal_of(path, given.case, given.presentation)
    return f"{path.name} does not take this case: {reason}" if reason else ""


def localising(
    file: Annotated[File, typer.Argument(help="A case file, as a failing gate prints it.", metavar="CASE.json")],
    path: Annotated[str, typer.Option(help="The path that fails on it.")],
    host: Annotated[str, typer.Option(help="The host; by default the path's first that can run here.")] = "",
    plot: Annotated[File | None, typer.Option(help="Draw where the error is to this file.")] = None,
    plant: Annotated[str, typer.Option(help="Plant this defect in a copy of the path.")] = "",
) -> None:
    """Tell where a failing case first leaves its budget: stage, row, token, head, and the defect that it is like."""
    given = case_of(file)
    subject = subjects_of(path)[0]
    if isinstance(subject, Builder):
        raise refuse(f"{subject.name} builds tables, and its findings name the entry; take a path that launches")
    chosen = host_of(subject, host)
    defect = planter_of(words_of(plant, NAMES, "defect")[0]) if plant else None
    found, absent = measured_carefully(partial(Locating, subject.name, chosen, dumps(given), defect))
    for reason in absent.values():
        raise refuse(reason)
    console = wide()
    if not found:
        console.print(f"{subject.name} on {chosen} is right in this case: nothing to localise")
        return
    wrong = found[0]
    if isinstance(wrong, str):
        raise refuse(wrong)
    show(wrong, console)
    if plot and not isinstance(wrong, Localised):
        raise refuse(f"--plot {plot}: all values are right, there is no error to draw")
    if plot and isinstance(wrong, Localised):
        try:
            draw(wrong, plot)
        except PictureError as error:
            raise refuse(str(error)) from None
