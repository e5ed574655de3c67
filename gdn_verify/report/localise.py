"""The words and the maps for where a launch goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path as File

import numpy as np
from rich.console import Console

from gdn_verify.located import Found, Localised, Raised, Touched
from gdn_verify.mutants.picture import PictureError
from gdn_verify.oracles.compose import Array

SHADES = " ░▒▓█"
"""By how far beyond one budget: up to 1, 10, 100, 1000, and more."""
WIDE, HIGH = 96, 32
"""Columns and lines of a map; larger ones show the worst of several places in one."""


def show(found: Found, console: Console) -> None:
    """Sentences, and the worst ratio of each place: value heads over tokens, or states and value heads over V.

    Of a launch whose values are right, or that raises, there are sentences alone.
    """

    def say(line: str) -> None:
        console.print(line, soft_wrap=True, markup=False, highlight=False)

    for sentence in sentences(found):
        say(sentence)
    if isinstance(found, Raised):
        say(traceback_of(found))
    if not isinstance(found, Localised):
        return
    down, across = _named(found.axes)
    say(f"by {down} (down) and {across} (across), in budgets: blank ≤ 1, ░ ≤ 10, ▒ ≤ 100, ▓ ≤ 1000, █ more")
    for line in _map(_flat(found.ratios)):
        say(f"|{line}|")


def traceback_of(found: Raised) -> str:
    """The frames nearest to what was raised."""
    return found.finding.message[found.finding.message.find("Traceback") :]


def sentences(found: Found) -> Iterator[str]:
    """What is wrong where; the stage; what it looks like; which wrong oracles give the same."""
    if isinstance(found, Touched):
        yield f"launch {found.launch}: values are right; {found.finding}"
        yield f"stage: {found.stage or 'not told by what this path gives'}"
        return
    if isinstance(found, Raised):
        raised, *_ = found.finding.message.splitlines()
        yield f"launch {found.launch}: {found.finding.kind}: {raised}"
        yield f"stage: {found.stage or 'not told by the stack'}"
        return
    yield f"launch {found.launch}: {found.result} is wrong in {', '.join(map(str, found.place))}"
    yield f"stage: {found.stage or 'not told by what this path gives'}"
    yield from (f"looks like {look}" for look in found.looks)
    yield from map(str, found.matches)


def _named(axes: tuple[str, ...]) -> tuple[str, str]:
    """What runs down and across in a map of results with these axes."""
    return (axes[1], axes[0]) if len(axes) == 2 else ("place", axes[-1])


def _flat(ratios: Array) -> Array:
    """Two axes, of which the last runs across: tokens, or V of a state."""
    if ratios.ndim == 1:
        return ratios[None]
    return ratios.T if ratios.ndim == 2 else ratios.reshape(-1, ratios.shape[-1])


def _map(ratios: Array) -> list[str]:
    shown = np.nan_to_num(_coarse(ratios), nan=np.inf)
    with np.errstate(divide="ignore"):
        level = np.clip(np.ceil(np.log10(shown)), 0, len(SHADES) - 1).astype(int)
    return ["".join(SHADES[i] for i in line) for line in level]


def _coarse(ratios: Array) -> Array:
    """At most so many lines and columns, each the worst of its places."""
    for axis, most in ((0, HIGH), (1, WIDE)):
        size = -(-ratios.shape[axis] // most)
        edges = np.arange(0, ratios.shape[axis], size)
        ratios = np.maximum.reduceat(ratios, edges, axis=axis)
    return ratios


def draw(found: Localised, file: File) -> None:
    """Heat maps to `file`: the ratios as `show` prints them, and the errors of the worst row's neighbours.

    Raises PictureError.
    """
    if not find_spec("matplotlib"):
        raise PictureError("matplotlib is not installed (pip install 'gdn-verify[bench]')")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.0, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    down, across = _named(found.axes)
    for axes, values, title, label in (
        (left, _flat(found.ratios), f"{found.result}: noise ratio", across),
        (right, _neighbours(found), f"{found.result}: absolute error around the worst row", "element"),
    ):
        with np.errstate(divide="ignore"):
            shown = np.log10(np.where(np.isfinite(values), values, np.nan))
        image = axes.imshow(shown, aspect="auto", interpolation="nearest")
        axes.set_title(title)
        axes.set_xlabel(label)
        figure.colorbar(image, ax=axes, label="log10")
    left.set_ylabel(down)
    right.set_ylabel(found.axes[-1])
    figure.savefig(file)


def _neighbours(found: Localised) -> Array:
    """Errors [rows along the last axis, elements] around the worst row."""
    worst = np.unravel_index(int(np.nan_to_num(found.ratios, nan=np.inf).argmax()), found.ratios.shape)
    errors: Array = found.errors[worst[:-1]]
    return errors
