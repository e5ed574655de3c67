"""Paths with functions of this project's own code replaced while they run. No source file is touched."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from importlib import import_module
from typing import Any
from unittest.mock import patch

from gdn_verify.mutants.inputs import Run
from gdn_verify.paths.base import Launch, Outputs, Path

Function = Callable[..., Any]
Wrong = Callable[[Function, Launch], Function]
"""From the right function and the launch to the one that takes its place."""
KERNELS = "gdn_verify.kernels"


def replaced(path: Path, wrong: Mapping[str, Wrong]) -> Run:
    """The path with functions of `gdn_verify.kernels` replaced, each named as "module.function"."""

    def run(launch: Launch) -> Outputs:
        with ExitStack() as stack:
            for place, make in wrong.items():
                module, _, name = place.rpartition(".")
                home = import_module(f"{KERNELS}.{module}")
                stack.enter_context(patch.object(home, name, make(getattr(home, name), launch)))
            return path.run(launch)

    return run
