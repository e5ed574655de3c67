"""Mutants of the catalogue that are edits of source: an attribute of this module plants the mutant of that name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from gdn_verify.cases.catalogue import Edit, catalogue
from gdn_verify.mutants.edits import Change, edited
from gdn_verify.mutants.planted import Run
from gdn_verify.paths.base import Path

EDITS = {mutant.name: mutant.edits for bug in catalogue() for mutant in bug.mutants if mutant.edits}
"""What each of them changes."""


def changes(edits: tuple[Edit, ...]) -> Iterator[Change]:
    """The edits as `edits` takes them: its files are those of `kernels/triton`, the catalogue's those of `kernels`."""
    return ((edit.file.removeprefix("triton/"), edit.right, edit.wrong) for edit in edits)


def __getattr__(name: str) -> Callable[[Path], Run]:
    if name not in EDITS:
        raise AttributeError(f"no mutant of the catalogue that is called {name!r} is an edit of source")
    return partial(_planted, EDITS[name])


def _planted(edits: tuple[Edit, ...], path: Path) -> Run:
    return edited(path, *changes(edits))
