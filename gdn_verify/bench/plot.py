"""Times, and shares of `touch`, over the number of rows as a picture; wants matplotlib, the extra `bench`."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path as File
from typing import Any

from gdn_verify.bench.record import NULL, Run
from gdn_verify.bench.summary import Line, Panel, panels

_WIDTH, _HEIGHT = 12.0, 4.5


class PlotError(RuntimeError):
    """Nothing can be drawn; the message says why and what helps."""


def draw(runs: Sequence[Run], file: File) -> None:
    """Two pictures a panel: medians with quartiles, and shares of `touch`. Raises PlotError where it cannot."""
    if not find_spec("matplotlib"):
        raise PlotError("matplotlib is not installed (pip install 'gdn-verify[bench]')")
    from matplotlib.figure import Figure

    found = [panel for panel in panels(runs) if any(_timed(line) for line in panel.lines)]
    if not found:
        raise PlotError(f"{file} is not drawn: no contender has a time")
    figure = Figure(figsize=(_WIDTH, _HEIGHT * len(found)), layout="constrained")
    for (left, right), panel in zip(figure.subplots(len(found), 2, squeeze=False), found, strict=True):
        _draw_times(left, panel)
        _draw_shares(right, panel)
    figure.savefig(file)


def _timed(line: Line) -> list[int]:
    return sorted(rows for rows, record in line.cells.items() if record.device_us)


def _draw_times(axes: Any, panel: Panel) -> None:
    for line in panel.lines:
        if rows := _timed(line):
            spreads = [line.cells[count].device for count in rows]
            below = [spread.median - spread.low for spread in spreads]
            above = [spread.high - spread.median for spread in spreads]
            medians = [spread.median for spread in spreads]
            axes.errorbar(rows, medians, yerr=[below, above], label=line.name, capsize=2, **_style(line))
    axes.set_yscale("log")
    axes.legend(fontsize=7)
    axes.set_ylabel("µs a layer")
    axes.set_title(_title(panel), fontsize=9, loc="left")
    _finish(axes, panel)


def _draw_shares(axes: Any, panel: Panel) -> None:
    for line in panel.lines:
        if line.name != NULL and (rows := [count for count in _timed(line) if count in panel.touch]):
            shares = [100 * (panel.share(line.cells[count]) or 0) for count in rows]
            axes.plot(rows, shares, label=line.name, **_style(line))
    axes.set_ylim(bottom=0)
    axes.set_ylabel("time of touch over time, %")
    _finish(axes, panel)


def _style(line: Line) -> dict[str, str]:
    """Yardsticks are grey; the others take the colours in turn, for both pictures the same."""
    if line.span:
        return {"marker": "."}
    return {"marker": ".", "color": "grey", "linestyle": ":" if line.name == NULL else "--"}


def _finish(axes: Any, panel: Panel) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(panel.rows, [str(rows) for rows in panel.rows])
    axes.set_xlabel("rows")
    axes.grid(alpha=0.3)


def _title(panel: Panel) -> str:
    H, HV, K, V, S, state = panel.problem
    drafts = f", {S} tokens a row" if S > 1 else ""
    warning = "" if panel.run.means_something else " (times mean nothing)"
    return f"{panel.run.machine.device}, {panel.run.date}: H {H}, HV {HV}, K {K}, V {V}{drafts}, {state} state{warning}"
