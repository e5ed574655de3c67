"""Benchmark runs as a terminal shows them: one table a geometry, then what has no time and why, then the machines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gdn_verify.bench.record import Column, Record, Run, Verdict
from gdn_verify.bench.summary import Line, Panel, panels

_NOTES = {Verdict.DISAGREES: "red", Verdict.RAISED: "red", Verdict.REFUSED: "yellow"}


def show(runs: Sequence[Run], console: Console) -> None:
    """Print everything; times are µs a layer, median ± half the distance of the quartiles."""
    for geometry, group in groupby(panels(runs), key=lambda panel: panel.problem[:5]):
        console.print(_table(geometry, list(group)))
    for run in runs:
        console.print()
        _show_run(run, console)


def _table(geometry: tuple[int, ...], group: Sequence[Panel]) -> Table:
    H, HV, K, V, S = geometry
    title = f"H {H}, HV {HV}, K {K}, V {V}" + (f", {S} tokens a row" if S > 1 else "")
    what = "µs a layer by rows" if S else "prefill, µs a layer by rows x tokens"
    table = Table(title=f"{what}: {title}", title_justify="left", box=None, padding=(0, 1), pad_edge=False)
    for name in ("machine", "date", "state", "contender", "stages"):
        table.add_column(name, no_wrap=True)
    table.add_column("launches", justify="right")
    table.add_column("host", justify="right")
    columns = sorted({column for panel in group for column in panel.columns})
    for column in columns:
        table.add_column(column.label, justify="right", no_wrap=True)
    for panel in group:
        _add_panel(table, panel, columns)
    return table


def _add_panel(table: Table, panel: Panel, columns: Sequence[Column]) -> None:
    head = (panel.run.machine.device, panel.run.date[:16].replace("T", " "), panel.problem[5])
    floors = [f"{panel.floor_bytes[column] / 1e6:.2f} MB" if column in panel.columns else "" for column in columns]
    table.add_row(*head, "bytes at least", "", "", "", *floors, style="dim")
    for line in panel.lines:
        if all(record.verdict is Verdict.REFUSED for record in line.cells.values()):
            continue  # said below
        cells = [_cell(panel, line.cells.get(column)) for column in columns]
        table.add_row("", "", "", _name(line), line.span, _launches(line), _host(line), *cells)
    table.add_section()


def _name(line: Line) -> Text:
    return Text.assemble(line.name, (f" {line.version}", "dim")) if line.span else Text(line.name)


def _cell(panel: Panel, record: Record | None) -> Text:
    if record is None:
        return Text("")
    if not record.device_us:
        return Text(record.verdict, style=_NOTES[record.verdict])
    time, share = record.device, panel.share(record)
    spread = f"{time.median:.2f} ±{(time.high - time.low) / 2:.2f}"
    parts = [] if share is None else [f"{share:.0%} of touch"]
    parts += [f"{record.rate:.2f} TB/s"] if record.floor_bytes else []
    parts += [record.clock.partition(":")[0]] if record.clock else []
    return Text.assemble(spread, ("\n" + ", ".join(parts) if parts else "", "dim"))


def _launches(line: Line) -> str:
    """The real count of each captured graph; more than one where the numbers of rows differ in it."""
    counts = {record.launches for record in line.cells.values() if record.device_us}
    return ", ".join("unknown" if count is None else f"{count:g}" for count in counts)


def _host(line: Line) -> str:
    """The host's time for a launch at the fewest rows, where it matters most."""
    timed = [record for record in line.cells.values() if record.host_us]
    return f"{min(timed, key=lambda record: record.column).host.median:.0f}" if timed else ""


def _show_run(run: Run, console: Console) -> None:
    m = run.machine
    console.print(
        f"{m.device} ({m.arch}), {run.date}: gdn-verify {run.gdn_verify}, torch {m.torch}, triton {m.triton}, "
        f"Python {m.python}; clock: {run.clock}",
        soft_wrap=True,
        highlight=False,
    )
    if not run.means_something:
        console.print(
            Text("These times mean nothing: the flow was tried in Triton's interpreter.", style="bold yellow")
        )
    for line in run.missing:
        console.print(Text(f"missing: {line}", style="yellow"), soft_wrap=True)
    for line in run.stopped:
        console.print(Text(f"not measured: {line}", style="red"), soft_wrap=True)
    for note, style in dict.fromkeys((_note(record), _NOTES.get(record.verdict)) for record in run.records):
        if style:
            console.print(Text(note, style=style), soft_wrap=True)
    for aside in dict.fromkeys(aside for record in run.records for aside in _asides(record)):
        console.print(Text(aside, style="dim"), soft_wrap=True)


def _asides(record: Record) -> Iterator[str]:
    """What a reader of a time should know: that it was not taken by a graph, or that only some heads were judged."""
    where = f"{record.contender}, {record.lengths}"
    if ":" in record.clock:
        yield f"timed otherwise: {where}: {record.clock}"
    if record.judged_heads:
        yield f"judged on {record.judged_heads} of {record.HV} value heads: {where}"


def _note(record: Record) -> str:
    """Why there is no time; a refusal reads the same for all numbers of rows that it is about."""
    if record.verdict is Verdict.REFUSED:
        return f"refused: {record.contender}, {record.problem[5]} state: {record.words}"
    ratio = f", {record.ratio:.3g} budgets off (limit {record.limit:.2g})" if record.ratio else ""
    where = record.lengths or f"N={record.rows}"
    return f"{record.verdict}: {record.contender}, {where}, {record.problem[5]} state: {record.words}{ratio}"
