"""`gdn-verify repro`: a failing case as a file that runs without this project, and the text of an issue about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path as File
from typing import Annotated

import typer

from gdn_verify.calls import NoEntryError
from gdn_verify.cases.codec import CaseFile, dumps, loads
from gdn_verify.cases.narrow import stored
from gdn_verify.cases.variants import features
from gdn_verify.explain import Ingredient, explain
from gdn_verify.facts import measured_carefully
from gdn_verify.hosts import Host
from gdn_verify.localise import localise, reads_outside
from gdn_verify.localise_command import not_taken
from gdn_verify.located import Found, Localised, Raised
from gdn_verify.paths import Builder, Path
from gdn_verify.report.issue import issue
from gdn_verify.report.localise import sentences
from gdn_verify.report.terminal import wide
from gdn_verify.repro import Show, repro, showing
from gdn_verify.service import Job, planter
from gdn_verify.shrink import TRIALS, repeats
from gdn_verify.suspect import Suspect, UnaskableError
from gdn_verify.words import case_of, host_of, refuse, subjects_of


@dataclass(frozen=True)
class Reproduced:
    """A script, what is wrong with the launch it makes, and the device it was made on."""

    script: str
    found: Found | None
    device: str


@dataclass(frozen=True)
class Reproducing:
    """Asks a worker for the script of the case of a file's text; `careful` as of `Locating`."""

    path: str
    host: str
    file: str
    plant: str | None = None
    careful: bool = False

    def measured(self, path: Path, host: Host) -> Sequence[Reproduced | str]:
        """The script of the first launch that is wrong, or of the last; or why there is none.

        A planted defect says which launch that is; the calls are the path's own.
        """
        given, plant = loads(self.file), planter(self.plant)
        if reason := not_taken(path, given):
            return [reason]
        if given.before:
            return ["the case fails behind another of its process alone; a script makes the launch of one case"]
        if path.configuration and type(path).configurations is Path.configurations:
            return [f"{path.name}: a script does not pin what is autotuned; reproduce it by its own choice"]
        try:
            run = None if plant is None else plant(path)
            before = [(each.case, each.presentation) for each in given.before]
            found = localise(given.case, given.presentation, path, host, run, before, self.careful)
            launch = found.launch if found else len(given.case.batches) - 1
            title = f"{path.name}: {next(sentences(found)) if found else 'see what is wrong below'}"
            outside = isinstance(found, Localised) and reads_outside(
                given.case, given.presentation, path, host, launch, run
            )
            script = repro(given.case, given.presentation, path, host, launch, title, showing(found, outside))
        except NoEntryError as error:
            return [str(error)]
        return [Reproduced(script, found, host.describe())]


def _needs(path: Path, host: str, given: CaseFile, wrong: bool, seconds: float) -> list[Ingredient]:
    """What the case's first finding needs, of values if some are `wrong`; nothing where it shows none."""
    fed, job = (given.case, given.presentation), Job(path.name, host, given.case.kind, watches=1, replays=1, repeats=1)
    try:
        with Suspect(job) as suspect:
            runs = [suspect.shown(fed) for _ in range(TRIALS)]
            seen = dict.fromkeys(target for run in runs for target in run)
            target = next((each for each in seen if not wrong or each.startswith("values/")), None)
            if target is None:
                return []
            suspect.cheapen(fed, target)
            ask = partial(suspect.shows, target, repeats(sum(target in run for run in runs) / len(runs)))
            return [*explain(fed, ask, features(stored(path.capabilities.span)), seconds=seconds)]
    except (UnaskableError, RuntimeError):  # an issue without a table is better than none
        return []


def _write(target: File, content: str) -> None:
    try:
        target.write_text(content, encoding="utf-8")
    except OSError as error:
        raise refuse(f"{target}: {error.strerror}; name a file in a folder that exists") from None


def reproducing(
    file: Annotated[File, typer.Argument(help="A case file; shrink it first.", metavar="CASE.json")],
    path: Annotated[str, typer.Option(help="The path that fails on it.")],
    host: Annotated[str, typer.Option(help="The host; by default the path's first that can run here.")] = "",
    output: Annotated[
        File | None, typer.Option("--output", "-o", help="Where the script goes; the terminal by default.")
    ] = None,
    text: Annotated[File | None, typer.Option("--issue", help="Write an issue's text here too.")] = None,
    explaining: Annotated[
        float, typer.Option("--explain", help="Seconds to find what the bug needs, for the issue; 0 for none.", min=0)
    ] = 30.0,
) -> None:
    """Make a failing case a file that needs torch and the kernel's package alone, and exits 1 while the bug lives."""
    given = case_of(file)
    subject = subjects_of(path)[0]
    if isinstance(subject, Builder):
        raise refuse(f"{subject.name} builds tables, which a script would have to build too; take a path that launches")
    chosen = host_of(subject, host)
    found, absent = measured_carefully(partial(Reproducing, subject.name, chosen, dumps(given)))
    for reason in absent.values():
        raise refuse(reason)
    (made,) = found
    if isinstance(made, str):
        raise refuse(made)
    if output is not None:
        _write(output, made.script)
    if text is not None:
        needs = _needs(subject, chosen, given, isinstance(made.found, Localised), explaining) if explaining else []
        _write(text, issue(made.script, made.found, subject.name, made.device, needs))
    if output is None:
        typer.echo(made.script)
    else:
        wide().print(f"{output}: {_promise(made.found, output)}", markup=False, highlight=False)


def _promise(found: Found | None, output: File) -> str:
    """What running the script will tell."""
    if isinstance(found, (Localised, Raised)) or showing(found) is Show.SCRATCH:
        return f"python {output} exits with 1 while the bug lives"
    seen = f"the launch is right here but for {found.finding}" if found else "nothing is wrong with the launch here"
    return f"{seen}; the script looks at values, copies, padding and slots of nobody, and may not show it"
