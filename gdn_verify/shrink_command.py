"""`gdn-verify shrink`: the simplest case that still shows what a saved one shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path as File
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from gdn_verify.cases.codec import CaseFile, CaseFileError, dumps, load, save
from gdn_verify.cases.simpler import Fed
from gdn_verify.checks.laws import NAMES as LAWS
from gdn_verify.mutants import NAMES, planter_of
from gdn_verify.paths import Builder, Subject
from gdn_verify.probe import absence_of
from gdn_verify.report.terminal import wide
from gdn_verify.service import Job
from gdn_verify.shrink import Shrunk, order, shrink
from gdn_verify.suspect import Suspect, UnaskableError
from gdn_verify.words import refuse, subjects_of, words_of

GPUS = ("cuda", "rocm")


def shrinking(
    file: Annotated[File, typer.Argument(help="A case file, as a failing gate prints it.", metavar="CASE.json")],
    path: Annotated[str, typer.Option(help="The path that fails on it.")],
    host: Annotated[str, typer.Option(help="The host; by default the path's first that can run here.")] = "",
    finding: Annotated[
        str, typer.Option(help="What must be shown, as check/kind; by default what is told first.")
    ] = "",
    output: Annotated[
        File | None,
        typer.Option(
            "--output", "-o", help="Where the simplest is kept, as it is found; CASE.small.json by default.",
            metavar="FILE",
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(help="For how long it is sought.", min=1)] = 120.0,
    laws: Annotated[str, typer.Option(help="Hold the case to these laws, and to no oracle.")] = "",
    plant: Annotated[str, typer.Option(help="Plant this defect in a copy of the path.")] = "",
) -> None:  # fmt: skip
    """Make a failing case simple: fewer launches, rows, tokens, heads, plainer numbers; the same finding throughout.

    What is kept is always a case that fails. Run it again on what it kept to go on.
    """
    try:
        given = load(file)
    except CaseFileError as error:
        raise refuse(str(error)) from None
    job = _job(subjects_of(path)[0], host, given, laws, plant)
    kept, console = output or file.with_suffix(".small.json"), wide()
    fed = (given.case, given.presentation)
    with Suspect(job) as suspect:
        try:
            target = _target(suspect, fed, finding)
            suspect.job = _cheapest(suspect, fed, target)
            console.print(f"{target} on {job.path}, {job.host}: sought for {seconds:g} s", markup=False)
            found = shrink(
                fed, lambda other: target in suspect.shown(other), seconds=seconds, passes=order(job.host in GPUS),
                progress=lambda so_far: _keep(so_far, given, kept, console),
            )  # fmt: skip
        except (UnaskableError, ValueError) as error:
            raise refuse(str(error)) from None
    _keep(found, given, kept, console)
    _show(found, kept, console)


def _job(subject: Subject, host: str, given: CaseFile, laws: str, plant: str) -> Job:
    hosts = words_of(host, subject.hosts, f"host of {subject.name}")
    chosen = next((name for name in hosts if absence_of(name) is None), hosts[0])
    held = tuple(words_of(laws, LAWS, "law")) if laws else ()
    defect = planter_of(words_of(plant, NAMES, "defect")[0]) if plant else None
    job = Job(subject.name, chosen, given.case.kind, plant=defect, laws=held, tables=isinstance(subject, Builder))
    return job if held or job.tables else replace(job, watches=1, replays=1, repeats=1)


def _target(suspect: Suspect, fed: Fed, wanted: str) -> str:
    """What must be shown."""
    shown = suspect.shown(fed)
    if not shown:
        raise refuse("the case shows nothing on this path: it agrees, or is refused (`gdn-verify check`)")
    if wanted and wanted not in shown:
        raise refuse(f"--finding {wanted}: the case shows {', '.join(shown)}")
    return wanted or shown[0]


def _cheapest(suspect: Suspect, fed: Fed, target: str) -> Job:
    """The job without what the finding does not need: accesses checked, launches captured, launches made again."""
    job = suspect.job
    for less in (replace(job, watches=0, replays=0, repeats=0), replace(job, replays=0, repeats=0)):
        suspect.job = less
        if target in suspect.shown(fed):
            return less
    return job


def _keep(found: Shrunk, given: CaseFile, kept: File, console: Console) -> None:
    save(kept, replace(given, case=found.fed[0], presentation=found.fed[1]))
    console.print(f"{found.runs} tried: {_size(found.fed)}", markup=False, highlight=False)


def _size(fed: Fed) -> str:
    case, g = fed[0], fed[0].geometry
    rows, tokens = (sum(f(batch) for batch in case.batches) for f in (lambda b: len(b.rows), lambda b: b.tokens))
    return f"{len(case.batches)} launches, {rows} rows, {tokens} tokens, H={g.H} HV={g.HV} K={g.K} V={g.V}"


def _show(found: Shrunk, kept: File, console: Console) -> None:
    """What each pass came to, and the case."""
    table = Table(box=None, pad_edge=False)
    for heading in ("pass", "tried", "taken"):
        table.add_column(heading, justify="left" if heading == "pass" else "right")
    for name, count in found.counts.items():
        table.add_row(name, str(count.tried), str(count.taken))
    console.print(table)
    if found.flaky:
        console.print(f"the case fails in {found.rate:.0%} of its runs: each other was run until it failed, or often")
    how = "nothing simpler shows it" if found.finished else "time was up: run it again on this file to go on"
    console.print(f"{kept} after {found.seconds:.0f} s; {how}", soft_wrap=True, markup=False, highlight=False)
    typer.echo(dumps(CaseFile(*found.fed)))
