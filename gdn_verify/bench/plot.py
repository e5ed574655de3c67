"""Times, and shares of `touch`, over the number of rows as a picture; wants matplotlib, the extra `bench`."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path as File
from typing import Any

from gdn_verify.bench.record import NULL, Column, Run
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


def _timed(line: Line) -> list[Column]:
    return sorted(column for column, record in line.cells.items() if record.device_us)


def _places(panel: Panel, columns: Sequence[Column]) -> list[int]:
    """A decode's columns lie at their numbers of rows, a prefill's side by side."""
    return [column.rows if panel.problem[4] else panel.columns.index(column) for column in columns]


def _draw_times(axes: Any, panel: Panel) -> None:
    for line in panel.lines:
        if columns := _timed(line):
            spreads = [line.cells[column].device for column in columns]
            below = [spread.median - spread.low for spread in spreads]
            above = [spread.high - spread.median for spread in spreads]
            medians = [spread.median for spread in spreads]
            axes.errorbar(
                _places(panel, columns), medians, yerr=[below, above], label=line.name, capsize=2, **_style(line)
            )
    axes.set_yscale("log")
    axes.legend(fontsize=7)
    axes.set_ylabel("µs a layer")
    axes.set_title(_title(panel), fontsize=9, loc="left")
    _finish(axes, panel)


def _draw_shares(axes: Any, panel: Panel) -> None:
    for line in panel.lines:
        if line.name != NULL and (columns := [at for at in _timed(line) if at in panel.touch]):
            shares = [100 * (panel.share(line.cells[column]) or 0) for column in columns]
            axes.plot(_places(panel, columns), shares, label=line.name, **_style(line))
    axes.set_ylim(bottom=0)
    axes.set_ylabel("time of touch over time, %")
    _finish(axes, panel)


def _style(line: Line) -> dict[str, str]:
    """Yardsticks are grey; the others take the colours in turn, for both pictures the same."""
    if line.span:
        return {"marker": "."}
    return {"marker": ".", "color": "grey", "linestyle": ":" if line.name == NULL else "--"}


def _finish(axes: Any, panel: Panel) -> None:
    if panel.problem[4]:
        axes.set_xscale("log", base=2)
    axes.set_xticks(_places(panel, panel.columns), [column.label for column in panel.columns])
    axes.set_xlabel("rows" if panel.problem[4] else "rows x tokens")
    axes.grid(alpha=0.3)


def _title(panel: Panel) -> str:
    H, HV, K, V, S, state = panel.problem
    drafts = f", {S} tokens a row" if S > 1 else "" if S else ", prefill"
    warning = "" if panel.run.means_something else " (times mean nothing)"
    return f"{panel.run.machine.device}, {panel.run.date}: H {H}, HV {HV}, K {K}, V {V}{drafts}, {state} state{warning}"
