"""`gdn-verify bench`: measure decode and prefill, and put runs of several machines and days together."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path as File
from typing import TYPE_CHECKING, Annotated, NamedTuple, TypeVar

import typer
from rich.console import Console
from rich.text import Text

from gdn_verify.cases.contract import DType

if TYPE_CHECKING:
    from gdn_verify.bench.contender import Contender, Missing, Setting
    from gdn_verify.bench.measure import Bench
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

FULL_PREFILL, DRY_PREFILL = Usual("qwen3-next", "1x1024,1x8192,8x1024,4x8192"), Usual("1,2,16,16", "1x70,3+17")

GEOMETRY_HELP = "H,HV,K,V, or qwen3-next, qwen3.5, qwen3.5/4 (a shard of four)."
Geometry_ = Annotated[str, typer.Option("--geometry", help=GEOMETRY_HELP, show_default=FULL.geometry)]
Only = Annotated[str, typer.Option(help="Bench only names that hold one of these words.")]
Opinion = Annotated[bool, typer.Option(help="Ask the gate's noise budget too, about those that are registered paths.")]
Rounds = Annotated[int, typer.Option(help="Rounds over all contenders, three replays each.", min=1)]
DryRun = Annotated[
    bool, typer.Option(help="Show the flow without a card: tiny, in Triton's interpreter, times without meaning.")
]
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
    geometry: Geometry_ = "",
    states: Annotated[str, typer.Option(help="Dtypes of the state.")] = "float32,bfloat16",
    spec: Annotated[int, typer.Option(help="Tokens a row; more than one are drafts to verify.", min=1, max=8)] = 1,
    only: Only = "",
    configurations: Annotated[bool, typer.Option(help="Every configuration of our one-launch kernel too.")] = False,
    opinion: Opinion = True,
    rounds: Rounds = 7,
    json_file: Json = None,
    plot: Plot = None,
    dry_run: DryRun = False,
) -> None:
    """Time a layer's decode step at several batch sizes: µs a layer, share of `touch`, launches, host time."""
    usual = DRY if dry_run else FULL
    settings = _understood(lambda: _settings(geometry or usual.geometry, rows or usual.rows, states, spec))
    _prepare(dry_run)
    from gdn_verify.bench import run as runner

    field = _understood(lambda: runner.choose(settings, _words(only), configurations))
    _measure(field, settings, runner.here(rounds, dry_run), opinion, json_file, plot)


@app.command()
def prefill(
    rows: Annotated[
        str,
        typer.Option(
            help="ROWSxTOKENS, sums as 17+64+2000, or mix32: one launch each.", show_default=FULL_PREFILL.rows
        ),
    ] = "",
    geometry: Geometry_ = "",
    grid: Annotated[str, typer.Option(help="The shapes of a published benchmark instead: fla or flashinfer.")] = "",
    most_tokens: Annotated[int, typer.Option(help="Leave out launches of more tokens.", show_default="none")] = 0,
    most_judged: Annotated[
        int,
        typer.Option(help="Tokens times value heads to compare with float64, two heads at least.", show_default="2^20"),
    ] = 0,
    states: Annotated[str, typer.Option(help="Dtypes of the state.")] = "float32",
    fresh: Annotated[bool, typer.Option("--fresh", help="No row has a state yet.")] = False,
    only: Only = "",
    opinion: Opinion = True,
    rounds: Rounds = 7,
    json_file: Json = None,
    plot: Plot = None,
    dry_run: DryRun = False,
) -> None:
    """Time a layer's chunked prefill: q, k, v and gates in, o and the rows' last states out."""
    usual = DRY_PREFILL if dry_run else FULL_PREFILL
    asked = (geometry, rows) if grid else (geometry or usual.geometry, rows or usual.rows)
    settings = _understood(lambda: _prefills(*asked, grid, states, fresh, most_tokens))
    _prepare(dry_run)
    from gdn_verify.bench import run as runner
    from gdn_verify.bench.prefill.reference import MOST
    from gdn_verify.bench.task import prefill_task

    field = _understood(lambda: runner.choose_prefill(_words(only)))
    _measure(field, settings, runner.here(rounds, dry_run, prefill_task(most_judged or MOST)), opinion, json_file, plot)


Made = TypeVar("Made")


def _understood(make: Callable[[], Made]) -> Made:
    """What `make` makes of the words of the command line, or the exit status for words that are not understood."""
    try:
        return make()
    except ValueError as error:
        raise _refuse(str(error)) from None


def _words(only: str) -> list[str]:
    return only.split(",") if only else []


def _prepare(dry_run: bool) -> None:
    """Before any kernel is imported. Exits where nothing can be measured."""
    from gdn_verify.bench import machine

    if reason := machine.missing(dry_run):
        raise _refuse(reason)
    if dry_run:
        _interpret()


def _measure(
    field: Sequence[Contender | Missing],
    settings: Sequence[Setting],
    here: Bench,
    opinion: bool,
    json_file: File | None,
    plot: File | None,
) -> None:
    from gdn_verify.bench import run as runner

    here = runner.with_second_opinion(here) if opinion else here
    with _progress() as say:
        run = runner.run(field, settings, here, say, lambda run: _write([run], json_file))
    _finish([run], json_file, plot)
    if not run.ok:
        raise typer.Exit(WRONG)


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Says what a run is at: a line that changes on a terminal, lines with the time in a log."""
    console, began = Console(stderr=True), time.monotonic()
    if console.is_terminal:
        with console.status("") as status:
            yield status.update
    else:
        yield lambda words: console.print(Text(f"[{time.monotonic() - began:4.0f} s] {words}"), soft_wrap=True)


def _settings(geometry: str, rows: str, states: str, spec: int) -> list[Setting]:
    """Every number of rows with every dtype of the state. Raises ValueError for words that are none of these."""
    from gdn_verify.bench import presets
    from gdn_verify.bench.contender import Setting

    layer = replace(presets.geometry(geometry), num_spec=spec - 1)
    return [Setting(layer, int(N), DType(state)) for state in states.split(",") for N in rows.split(",")]


def _prefills(geometry: str, rows: str, grid: str, states: str, fresh: bool, most_tokens: int) -> list[Setting]:
    """Every launch with every dtype of the state; with a grid its own, of one geometry if one is given."""
    from gdn_verify.bench import presets
    from gdn_verify.bench.contender import Setting
    from gdn_verify.bench.prefill import rows as launches

    if grid and rows:
        raise ValueError(f"rows={rows!r}: the grid {grid} has its own")
    layer = presets.geometry(geometry) if geometry else None
    points = launches.grid(grid) if grid else [(layer, lengths) for lengths in launches.lengths(rows)]
    made = [
        Setting.prefill(of, lengths, DType(state), fresh)
        for state in states.split(",")
        for of, lengths in points
        if of and layer in (None, of) and (not most_tokens or sum(lengths) <= most_tokens)
    ]
    if not made:
        raise ValueError("no launch is left of those asked for")
    return made


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


_FILE_WIDTH = 400
"""Of a report that goes to a file: no cell is cut for want of a terminal."""


def _finish(runs: Sequence[Run], json_file: File | None, plot: File | None) -> None:
    from gdn_verify.bench.plot import PlotError, draw
    from gdn_verify.bench.table import show

    console = Console()
    show(runs, console if console.is_terminal else Console(width=_FILE_WIDTH))
    _write(runs, json_file)
    if plot:
        try:
            draw(runs, plot)
        except PlotError as error:
            raise _refuse(str(error)) from None


def _write(runs: Sequence[Run], json_file: File | None) -> None:
    """Whole or not at all: who kills a run while it is writing keeps the file of the setting before."""
    from gdn_verify.bench.record import dumps

    if json_file:
        part = json_file.with_name(json_file.name + ".part")
        part.write_text(dumps(runs), encoding="utf-8")
        part.replace(json_file)
