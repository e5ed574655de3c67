"""A campaign as a picture: for each class what became of its mutants, and how long a kill took; wants matplotlib."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path as File
from typing import Any

from gdn_verify.mutants.record import Row
from gdn_verify.mutants.trial import Fate

COLOURS = {
    Fate.KILLED: "tab:green",
    Fate.SURVIVED: "tab:red",
    Fate.OPEN: "tab:orange",
    Fate.ELSEWHERE: "gold",
    Fate.EQUIVALENT: "tab:gray",
    Fate.STILLBORN: "lightgray",
}
_WIDTH, _LINE, _ROOM = 11.0, 0.28, 1.2
"""Inches: of a picture, of a class in it, and around all of them."""


class PictureError(RuntimeError):
    """Nothing can be drawn; the message says why and what helps."""


def draw(rows: Sequence[Row], classes: Sequence[str], file: File) -> None:
    """Bars of fates on the left, seconds until each kill on the right; a line a class. Raises PictureError."""
    if not find_spec("matplotlib"):
        raise PictureError("matplotlib is not installed (pip install 'gdn-verify[bench]')")
    from matplotlib.figure import Figure

    shown = [each for each in classes if any(row.operator == each for row in rows)]
    if not shown:
        raise PictureError(f"{file} is not drawn: no mutant was tried")
    figure = Figure(figsize=(_WIDTH, _ROOM + _LINE * len(shown)), layout="constrained")
    fates, times = figure.subplots(1, 2, sharey=True)
    _draw_fates(fates, rows, shown)
    _draw_times(times, rows, shown)
    fates.set_yticks(range(len(shown)), shown)
    fates.invert_yaxis()
    figure.savefig(file)


def _draw_fates(axes: Any, rows: Sequence[Row], classes: Sequence[str]) -> None:
    counts = [Counter(row.fate for row in rows if row.operator == each) for each in classes]
    left = [0] * len(classes)
    for fate, colour in COLOURS.items():
        if any(count[fate] for count in counts):
            widths = [count[fate] for count in counts]
            axes.barh(range(len(classes)), widths, left=left, color=colour, label=fate.value)
            left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.set_xlabel("mutants")
    axes.legend(fontsize=7)


def _draw_times(axes: Any, rows: Sequence[Row], classes: Sequence[str]) -> None:
    places = {each: place for place, each in enumerate(classes)}
    killed = [row for row in rows if row.fate is Fate.KILLED]
    axes.plot([row.seconds for row in killed], [places[row.operator] for row in killed], "|", color="tab:green")
    axes.set_xscale("log")
    axes.set_xlabel("seconds until killed")
