"""Systematic mutants planted in a path, as those of the catalogue are: an attribute here plants the one of that name.

A campaign has a process for each mutant and puts it in the way of all imports; this is for one path beside others.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

from gdn_verify.mutants.inputs import Run
from gdn_verify.mutants.sources import Kernels
from gdn_verify.mutants.systematic import Slip, mutants
from gdn_verify.paths.base import Path


def plant_of(slip: Slip) -> str:
    """Where it is planted, as "module:function"; the function's name has colons of its own."""
    return f"{__name__}:{slip.name}"


def __getattr__(name: str) -> Callable[[Path], Run]:
    if "::" not in name:
        raise AttributeError(f"no systematic mutant is called {name!r}")
    return partial(_planted, name)


@cache
def _kernels(name: str) -> Kernels:
    slip = next(slip for slip in mutants([name.partition("::")[0]]) if slip.name == name)
    return Kernels({slip.file: slip.text()})


def _planted(name: str, path: Path) -> Run:
    return _kernels(name).running(path)
