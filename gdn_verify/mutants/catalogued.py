"""Mutants of the catalogue that are edits of source: an attribute of this module plants the mutant of that name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial

from gdn_verify.cases.catalogue import Edit, catalogue
from gdn_verify.mutants.inputs import Run
from gdn_verify.mutants.sources import Change, Kernels, changed
from gdn_verify.paths.base import Path

EDITS = {mutant.name: mutant.edits for bug in catalogue() for mutant in bug.mutants if mutant.edits}
"""What each of them changes."""


def changes(edits: tuple[Edit, ...]) -> Iterator[Change]:
    """The edits as changes of the kernels' files."""
    return ((edit.file, edit.right, edit.wrong) for edit in edits)


def __getattr__(name: str) -> Callable[[Path], Run]:
    if name not in EDITS:
        raise AttributeError(f"no mutant of the catalogue that is called {name!r} is an edit of source")
    return partial(_planted, name)


@cache
def _kernels(name: str) -> Kernels:
    """Imported once: kernels that remember launches remember those of the mutant."""
    return Kernels(changed(*changes(EDITS[name])))


def _planted(name: str, path: Path) -> Run:
    return _kernels(name).running(path)
