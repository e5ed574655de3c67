"""`gdn-verify shrink`: the simplest case that still shows what a saved one shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path as File
from typing import Annotated, TypeVar

import typer
from rich.console import Console

from gdn_verify.cases.codec import CaseFile, dumps, loads, save
from gdn_verify.cases.narrow import stored
from gdn_verify.cases.strategies import Fed
from gdn_verify.cases.variants import features
from gdn_verify.checks.laws import NAMES as LAWS
from gdn_verify.earlier import Behind, Seeking
from gdn_verify.explain import explain
from gdn_verify.facts import measure
from gdn_verify.hosts import GPUS
from gdn_verify.mutants import NAMES, planter_of
from gdn_verify.paths import Builder, Subject
from gdn_verify.report.shrink import show, size, tell
from gdn_verify.report.terminal import wide
from gdn_verify.service import Job
from gdn_verify.shrink import TRIALS, NotShownError, Shrunk, order, repeats, shrink
from gdn_verify.suspect import Suspect, UnaskableError
from gdn_verify.words import case_of, host_of, refuse, subjects_of, words_of

T = TypeVar("T")
HINT = "--earlier 60 asks whether it fails behind another launch of its process"


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
    explaining: Annotated[
        float, typer.Option("--explain", help="Seconds to vary its features one by one; 0 for none.", min=0)
    ] = 60.0,
    patience: Annotated[
        float, typer.Option(help="Seconds of silence that are a hang; a GPU may compile for that long.", min=1)
    ] = 120.0,
    earlier: Annotated[
        float,
        typer.Option(help="Seconds to seek what its process must launch before, where it shows nothing alone.", min=0),
    ] = 0.0,
    laws: Annotated[str, typer.Option(help="Hold the case to these laws, and to no oracle.")] = "",
    plant: Annotated[str, typer.Option(help="Plant this defect in a copy of the path.")] = "",
) -> None:  # fmt: skip
    """Make a failing case simple: fewer launches, rows, tokens, heads, plainer numbers; the same finding throughout.

    What is kept is always a case that fails. Run it again on what it kept to go on. Then each feature of the case is
    varied alone: which of them does the finding need?
    """
    kept, console = output or file.with_suffix(".small.json"), wide()
    given = _copied(file, kept)
    subject = _one(subjects_of(path), "--path", path)
    job, fed = _job(subject, host, given, laws, plant), (given.case, given.presentation)

    def keep(found: Shrunk) -> None:
        save(kept, replace(given, case=found.fed[0], presentation=found.fed[1]))

    with Suspect(job, patience) as suspect:
        try:
            target = _target(suspect, fed, finding, f"; {HINT}" * (not earlier and _may_be_behind(job)))
            suspect.cheapen(fed, target)
            console.print(f"{target} on {job.path}, {job.host}", markup=False, highlight=False)
            found = _sought(suspect, fed, target, seconds, keep)
            show(found, str(kept), console)
            varied = features(() if isinstance(subject, Builder) else stored(subject.capabilities.span))
            ask = partial(suspect.shows, target, repeats(found.rate))
            needs = [*explain(found.fed, ask, varied, seconds=explaining)]
        except (UnaskableError, NotShownError) as error:
            behind = _behind(job, given, finding, earlier) if isinstance(error, _AgreesError) else None
            if behind is None:
                raise refuse(str(error)) from None
            _tell_behind(behind, kept, given.notes, console)
            return
    tell(needs, console)
    typer.echo(dumps(CaseFile(*found.fed, notes=given.notes)))


def _copied(file: File, kept: File) -> CaseFile:
    """The case of `file`, which stands in `kept` from the first."""
    given = case_of(file)
    try:
        save(kept, given)
    except OSError as error:
        raise refuse(f"--output {kept}: {error.strerror}; name a file in a folder that exists") from None
    return given


def _job(subject: Subject, host: str, given: CaseFile, laws: str, plant: str) -> Job:
    chosen = host_of(subject, host)
    held = tuple(words_of(laws, LAWS, "law")) if laws else ()
    defect = planter_of(_one(words_of(plant, NAMES, "defect"), "--plant", plant)) if plant else None
    job = Job(subject.name, chosen, given.case.kind, plant=defect, laws=held, tables=isinstance(subject, Builder))
    return job if held or job.tables else replace(job, watches=1, replays=1, repeats=1)


def _one(found: Sequence[T], option: str, given: str) -> T:
    """The one that was named."""
    if len(found) != 1:
        raise refuse(f"{option} {given}: names {len(found)}; name one")
    return found[0]


class _AgreesError(NotShownError):
    """The case shows nothing by itself."""


def _may_be_behind(job: Job) -> bool:
    return not (job.laws or job.tables or job.host in GPUS)


def _behind(job: Job, given: CaseFile, finding: str, seconds: float) -> Behind | None:
    """What the case fails behind, both made simple; None where nothing is found, or sought."""
    if not (seconds and _may_be_behind(job)):
        return None
    found, _ = measure([Seeking(job.path, job.host, dumps(given), finding, job.plant, seconds)])
    return found[0] if found else None


def _tell_behind(behind: Behind, kept: File, notes: str, console: Console) -> None:
    save(kept, replace(loads(behind.file), notes=notes))
    console.print(str(behind), soft_wrap=True, markup=False, highlight=False)
    typer.echo(behind.file)


def _target(suspect: Suspect, fed: Fed, wanted: str, hint: str) -> str:
    """What must be shown: asked as often as a case is that fails at times."""
    seen: dict[str, None] = {}
    for _ in range(TRIALS):
        answer = suspect.ask(fed)
        if answer.refused:
            raise refuse(f"{suspect.job.path} does not take this case: {answer.refused}")
        seen |= dict.fromkeys(answer.shown)
        if wanted in seen or (seen and not wanted):
            return wanted or next(iter(seen))
    if seen:
        raise refuse(f"--finding {wanted}: in {TRIALS} runs the case shows {', '.join(seen)}")
    raise _AgreesError(f"the case shows nothing on {suspect.job.path} in {TRIALS} runs: it agrees{hint}")


def _sought(suspect: Suspect, fed: Fed, target: str, seconds: float, keep: Callable[[Shrunk], None]) -> Shrunk:
    """The simplest case, a line telling how far it has come; each that is taken is kept."""
    with Console(stderr=True).status("running the case again and again") as line:

        def taken(found: Shrunk) -> None:
            keep(found)
            line.update(f"{found.runs} tried, {found.seconds:.0f} s: {size(found.fed)}")

        def shows(other: Fed) -> bool:
            return target in suspect.shown(other)

        found = shrink(fed, shows, seconds=seconds, passes=order(suspect.job.host in GPUS), progress=taken)
        keep(found)
        return found
