"""Paths that launch the toy kernels of tests/emulator/crosscompile, and the entry point by which workers find them."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path as File
from typing import Any

import fake_paths

from gdn_verify.paths import Launch, Outputs, Path

TOYS = File(__file__).parent / "emulator" / "crosscompile"
Launches = Callable[[Any, Launch], object]


class Toy(fake_paths.Fake):
    """Decode only; `launches` gets the module of toy kernels and the launch."""

    hosts = ("cuda", "rocm")

    def __init__(self, name: str, kernels: tuple[str, ...], launches: Launches) -> None:
        super().__init__(name)
        self.kernels = kernels
        self._launches = launches

    def load(self, host: str) -> str:
        self._toys = importlib.import_module("toys")
        return "1.0"

    def run(self, launch: Launch) -> Outputs:
        self._launches(self._toys, launch)
        return Outputs(o=launch["out"])


def _healthy(toys: Any, launch: Launch) -> None:
    toys.add[(1,)](launch["q"], launch["out"], launch["q"].numel(), 128)


def _second_bad(toys: Any, launch: Launch) -> None:
    toys.tuned[(1,)](launch["q"].float(), launch["out"])


def _crowded(toys: Any, launch: Launch) -> None:
    toys.crowded[(1,)](launch["q"], launch["out"], 4096, num_warps=1, maxnreg=32)


def _ours(toys: Any, launch: Launch) -> None:
    kernel = type(toys.crowded)(toys.crowded.fn)
    kernel.__module__ = "gdn_verify.kernels.toys"
    kernel[(1,)](launch["q"], launch["out"], 4096, num_warps=1, maxnreg=32)


def _insists(toys: Any, launch: Launch) -> None:
    assert launch["q"].is_cuda, "q must be on a CUDA device"


def _dies(toys: Any, launch: Launch) -> None:
    os._exit(7)


def paths() -> Iterable[Path]:
    """What the entry point gives."""
    return (
        Toy("toy-healthy", ("add",), _healthy),
        Toy("toy-second-bad", ("gathered",), _second_bad),
        Toy("toy-crowded", ("crowded",), _crowded),
        Toy("toy-ours", ("crowded",), _ours),
        Toy("toy-insists", ("add",), _insists),
        Toy("toy-lies", ("add", "gathered"), _healthy),
        Toy("toy-dies", ("add",), _dies),
    )


def install(folder: File) -> str:
    """Make `folder` a place from which the toys are installed; the PYTHONPATH that says so."""
    path = fake_paths.install(folder)
    points = folder / "gdn_fakes-1.0.dist-info" / "entry_points.txt"
    points.write_text(points.read_text(encoding="utf-8").replace("fake_paths:paths", "toy_paths:paths"))
    return os.pathsep.join((path, str(TOYS)))
