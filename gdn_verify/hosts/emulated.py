"""This project's CUDA sources on a machine without a card: compiled by its C++ compiler, a thread a fiber.

`kernels.cuda.emulate` says what that cannot show. It is imported where it is used: a path's kernels are not to be there
before the path is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial

from gdn_verify.hosts.base import SINGLE_THREAD, Host
from gdn_verify.hosts.circumstances import PROCESSOR, Circumstance

SEEDS = range(1, 6)
"""Of orders in which blocks and warps run, beside the first."""


@dataclass(frozen=True)
class EmulatedCuda(Host):
    """A processor that takes CUDA kernels of ours."""

    def missing(self) -> str | None:
        from gdn_verify.kernels.cuda.emulate import compiler_missing

        return compiler_missing()

    def describe(self) -> str:
        from gdn_verify.kernels.cuda.emulate import describe

        return describe()

    def capture(self, run: Callable[[], object]) -> Callable[[], object]:
        from gdn_verify.emulator.tape import note, recording
        from gdn_verify.kernels.cuda.observe import observed

        with recording() as tape, observed(lambda _, again: note(again)):
            run()
        return tape.replay

    def circumstances(self) -> tuple[Circumstance, ...]:
        orders = (Circumstance(f"in order {n} of blocks and warps", around=partial(_scheduled, n)) for n in SEEDS)
        return (*PROCESSOR, *orders)

    @contextmanager
    def launches(self) -> Iterator[list[str]]:
        from gdn_verify.kernels.cuda.observe import observed

        names: list[str] = []
        with observed(lambda name, _: names.append(name)):
            yield names


def _scheduled(seed: int) -> AbstractContextManager[None]:
    from gdn_verify.kernels.cuda.emulate import scheduled

    return scheduled(seed)


EMULATED_CUDA = EmulatedCuda(name="emulated-cuda", device="cpu", environment={**SINGLE_THREAD, "GDN_EMULATE_CUDA": "1"})
