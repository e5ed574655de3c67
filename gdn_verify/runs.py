"""A run as the command line shows it: how far it is, its report, and its exit status."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path as File

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gdn_verify import gate as gates
from gdn_verify.profiles import Profile
from gdn_verify.report.pace import Pace
from gdn_verify.report.table import show
from gdn_verify.report.tally import STANDING, Report
from gdn_verify.report.terminal import wide
from gdn_verify.service import Job
from gdn_verify.words import refuse

RED, BROKEN = 1, 3
"""Exit statuses: 0 the gate is green, 1 it is red, 3 it failed itself; 2, a command not understood, is in `words`."""


def judged(jobs: Sequence[Job], profile: Profile, workers: int, *, place: str = "") -> Report:
    """Run the jobs, and say how far they are. Ends the command where there are none; `place` says which were sought."""
    if not jobs:
        raise refuse(f"no path{place} runs any of these kinds on these hosts; see `gdn-verify paths`")
    total = sum(job.count for job in jobs)
    with progress() as bar:
        task, pace = bar.add_task("cases", total=total), Pace(total, _say)

        def advance(job: Job | None, report: Report) -> None:
            if job:
                bar.update(task, completed=report.cases, description=f"{job.path} {job.kind}")
            if not bar.console.is_terminal:  # there a bar would show at the end only
                pace.tell(report)

        return gates.run(jobs, profile, workers=workers or None, progress=advance)


def _say(line: str) -> None:
    Console(stderr=True, markup=False, highlight=False, soft_wrap=True).print(line)


def progress() -> Progress:
    """A bar that vanishes when it is done; on standard error, where it disturbs no report."""
    columns = (TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def plain_console() -> Console:
    """For lines to copy: markup would swallow the extra of `pip install 'gdn-verify[fla]'`, wrapping would break it."""
    return Console(markup=False, highlight=False, soft_wrap=True)


def finish(report: Report, json_file: File | None, verbose: bool, require: Iterable[str] = ()) -> None:
    """Show the report, write it where that is asked, and end the command with its status if that is not 0.

    On a host that is required, every path that names it must have run.
    """
    report.finish()
    show(report, wide(), verbose=verbose)
    if json_file:
        json_file.write_text(json.dumps(report.as_json(), indent=1) + "\n", encoding="utf-8")
    if report.broken:
        raise typer.Exit(BROKEN)
    if unmet := [line for host in require for line in _unmet(report, host)]:
        plain_console().print("\n".join(unmet), style="bold red")
        raise typer.Exit(RED)
    if not report.ok:
        raise typer.Exit(RED)


def _unmet(report: Report, host: str) -> list[str]:
    """What a required host owes: every path that names it must have run there."""
    missing = [f"required: {path} on {host}: {why}" for (path, there), why in report.absent.items() if there == host]
    ran = any(row.host == host and row.check in STANDING and row.agrees for row in report.rows)
    return missing if missing or ran else [f"required: nothing ran on {host}"]
