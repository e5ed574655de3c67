"""Triton kernels on a machine without a GPU, through the interpreter as `gdn_verify.emulator` mends it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from gdn_verify.hosts.autotune import choose, place_of
from gdn_verify.hosts.base import SINGLE_THREAD, Grids, Host

if TYPE_CHECKING:
    from gdn_verify.hosts.base import MemoryChecker


@dataclass(frozen=True)
class Interpreter(Host):
    """Triton's interpreter with bf16, loops, libdevice and the driver set right."""

    def missing(self) -> str | None:
        return None if find_spec("triton") else "triton is not installed (pip install 'gdn-verify[interpreter]')"

    def prepare(self) -> None:
        from gdn_verify.emulator import interpreter

        interpreter.install(choose_config=place_of)

    def pin(self, place: int) -> None:
        choose(place)

    def describe(self) -> str:
        import triton

        return f"triton {triton.__version__} interpreter"

    def memory_checker(self) -> MemoryChecker:
        from gdn_verify.emulator.memory_check import checked

        return checked

    @contextmanager
    def listing(self) -> Iterator[Grids]:
        from gdn_verify.emulator.launch import listed

        grids: Grids = []
        with listed() as made:
            yield grids
        grids += [(launch.kernel, launch.grid) for launch in made]

    @contextmanager
    def launches(self) -> Iterator[list[str]]:
        from gdn_verify.emulator import interpreter

        names: list[str] = []
        with interpreter.launches() as ran:
            yield names
        names += [launch.kernel for launch in ran]


INTERPRETER = Interpreter(name="interpreter", device="cpu", environment={**SINGLE_THREAD, "TRITON_INTERPRET": "1"})
