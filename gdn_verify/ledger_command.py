"""`gdn-verify ledger`: how many cases of healthy paths were judged in all recorded runs, and how many were accused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path as File
from typing import Annotated

import typer
from rich.table import Table

from gdn_verify.report.ledger import Entry, Line, read, totals
from gdn_verify.report.terminal import wide
from gdn_verify.words import refuse

SMALL = ("decode", "spec")
"""Kinds of decode size; the others but trajectories and tables are of prefill size."""


def ledger(
    file: Annotated[File, typer.Argument(help="A file that `gdn-verify gate --ledger FILE` wrote.", metavar="FILE")],
) -> None:
    """Sum up recorded runs of healthy paths: distinct cases by path and host; exit 1 if any was accused."""
    try:
        runs = read(file)
    except (OSError, ValueError) as error:
        raise refuse(str(error)) from None
    console, found = wide(), totals(runs)
    console.print(_table(found))
    for line in _sums(found):
        console.print(line)
    for run in runs:
        console.print(_told(run), soft_wrap=True, markup=False, highlight=False)
    if any(line.accused for line in found):
        raise typer.Exit(1)


def _table(found: Sequence[Line]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("path", "host", "kind", "cases", "accused"):
        table.add_column(heading, justify="right" if heading in ("cases", "accused") else "left", no_wrap=True)
    for line in found:
        table.add_row(line.path, line.host, line.kind, str(line.cases), str(line.accused))
    return table


def _sums(found: Sequence[Line]) -> list[str]:
    """A sentence for each host: cases of decode size, of prefill size, and the rest."""
    sentences = []
    for host in sorted({line.host for line in found}):
        of_host = [line for line in found if line.host == host]
        small = sum(line.cases for line in of_host if line.kind in SMALL)
        large = sum(line.cases for line in of_host if line.kind in ("prefill", "mixed"))
        rest, accused = sum(line.cases for line in of_host) - small - large, sum(line.accused for line in of_host)
        sentences.append(
            f"{host}: {small} decode-size and {large} prefill-size cases, {rest} others; {accused} accused"
        )
    return sentences


def _told(run: Entry) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in run.versions.items())
    cases = sum(line.cases for line in run.lines)
    return f"{run.date} {run.commit}: {cases} cases by `{run.command}`; {versions}; {', '.join(run.devices)}"
