"""`gdn-verify bench`: measure decode, and put runs of several machines and days together."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path as File
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer
from rich.console import Console
from rich.text import Text

from gdn_verify.cases.contract import DType

if TYPE_CHECKING:
    from gdn_verify.bench.contender import Setting
    from gdn_verify.bench.record import Run

app = typer.Typer(no_args_is_help=True)

WRONG, USAGE = 1, 2
"""Exit statuses: 1 somebody is wrong or something was not measured, 2 the command cannot run here or be understood."""


class Usual(NamedTuple):
    """What is measured where nothing else is asked."""

    geometry: str
    rows: str


FULL, DRY = Usual("qwen3-next", "1,4,16,64,256"), Usual("1,2,16,16", "1,3")
"""On a card; and in an interpreter, where a launch takes seconds."""

Json = Annotated[File | None, typer.Option("--json", help="Write all records to this file.", metavar="FILE.json")]
Plot = Annotated[File | None, typer.Option(help="Draw the times into this file.", metavar="FILE.png")]


@app.callback()
def bench() -> None:
    """Time kernels on one problem, ours and every peer found; only those that are right get a time."""


def _refuse(message: str) -> typer.Exit:
    Console(stderr=True).print(Text(f"gdn-verify bench: {message}", style="red"), soft_wrap=True)
    return typer.Exit(USAGE)


@app.command()
def decode(
    rows: Annotated[str, typer.Option(help="Rows of a launch.", show_default=FULL.rows)] = "",
    geometry: Annotated[
        str,
        typer.Option(help="H,HV,K,V, or qwen3-next, qwen3.5, qwen3.5/4 (a shard of four).", show_default=FULL.geometry),
    ] = "",
    states: Annotated[str, typer.Option(help="Dtypes of the state.")] = "float32,bfloat16",
    spec: Annotated[int, typer.Option(help="Tokens a row; more than one are drafts to verify.", min=1, max=8)] = 1,
    only: Annotated[str, typer.Option(help="Bench only names that hold one of these words.")] = "",
    configurations: Annotated[bool, typer.Option(help="Every configuration of our one-launch kernel too.")] = False,
    opinion: Annotated[
        bool, typer.Option(help="Ask the gate's noise budget too, about those that are registered paths.")
    ] = True,
    rounds: Annotated[int, typer.Option(help="Rounds over all contenders, three replays each.", min=1)] = 7,
    json_file: Json = None,
    plot: Plot = None,
    dry_run: Annotated[
        bool, typer.Option(help="Show the flow without a card: tiny, in Triton's interpreter, times without meaning.")
    ] = False,
) -> None:
    """Time a layer's decode step at several batch sizes: µs a layer, share of `touch`, launches, host time."""
    from gdn_verify.bench import machine

    usual = DRY if dry_run else FULL
    try:
        settings = _settings(geometry or usual.geometry, rows or usual.rows, states, spec)
    except ValueError as error:
        raise _refuse(str(error)) from None
    if reason := machine.missing(dry_run):
        raise _refuse(reason)
    if dry_run:
        _interpret()
    from gdn_verify.bench import run as runner

    try:
        field = runner.choose(settings, only.split(",") if only else [], configurations)
    except runner.NobodyError as error:
        raise _refuse(str(error)) from None
    console = Console(stderr=True)
    here = runner.here(rounds, dry_run)
    here = runner.with_second_opinion(here) if opinion else here
    with console.status("") as status:
        run = runner.run(field, settings, here, status.update)
    _finish([run], json_file, plot)
    if not run.ok:
        raise typer.Exit(WRONG)


def _settings(geometry: str, rows: str, states: str, spec: int) -> list[Setting]:
    """Every number of rows with every dtype of the state. Raises ValueError for words that are none of these."""
    from gdn_verify.bench import presets
    from gdn_verify.bench.contender import Setting

    layer = replace(presets.geometry(geometry), num_spec=spec - 1)
    return [Setting(layer, int(N), DType(state)) for state in states.split(",") for N in rows.split(",")]


def _interpret() -> None:
    """Before Triton is imported: a kernel is bound to the interpreter where it is defined."""
    os.environ["TRITON_INTERPRET"] = "1"
    from gdn_verify.emulator import interpreter

    interpreter.install()


@app.command()
def merge(
    files: Annotated[list[File], typer.Argument(help="Files that --json wrote.", metavar="FILE.json…")],
    json_file: Json = None,
    plot: Plot = None,
) -> None:
    """One table of several runs; machine and date stay with each, and ratios are formed within a run only."""
    from gdn_verify.bench import record

    try:
        runs = record.merge(record.load(file) for file in files)
    except record.RunFileError as error:
        raise _refuse(str(error)) from None
    _finish(runs, json_file, plot)


def _finish(runs: Sequence[Run], json_file: File | None, plot: File | None) -> None:
    from gdn_verify.bench.plot import PlotError, draw
    from gdn_verify.bench.record import dumps
    from gdn_verify.bench.table import show

    console = Console()
    show(runs, console if console.is_terminal else Console(width=200))
    if json_file:
        json_file.write_text(dumps(runs), encoding="utf-8")
    if plot:
        try:
            draw(runs, plot)
        except PlotError as error:
            raise _refuse(str(error)) from None
