"""This project's CUDA sources on a machine without a card: compiled by its C++ compiler, a thread a fiber.

`kernels.cuda.emulate` says what that cannot show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from gdn_verify.hosts.base import SINGLE_THREAD, Host
from gdn_verify.hosts.circumstances import PROCESSOR, Circumstance
from gdn_verify.kernels.cuda import emulate
from gdn_verify.kernels.cuda.observe import observed

SEEDS = range(1, 6)
"""Of orders in which blocks and warps run, beside the first."""


def _in_order(seed: int) -> Circumstance:
    return Circumstance(f"in order {seed} of blocks and warps", around=partial(emulate.scheduled, seed))


@dataclass(frozen=True)
class EmulatedCuda(Host):
    """A processor that takes CUDA kernels of ours."""

    def missing(self) -> str | None:
        return emulate.compiler_missing()

    def describe(self) -> str:
        return emulate.describe()

    def capture(self, run: Callable[[], object]) -> Callable[[], object]:
        from gdn_verify.emulator.tape import note, recording

        with recording() as tape, observed(lambda _, again: note(again)):
            run()
        return tape.replay

    def circumstances(self) -> tuple[Circumstance, ...]:
        return (*PROCESSOR, *map(_in_order, SEEDS))

    @contextmanager
    def launches(self) -> Iterator[list[str]]:
        names: list[str] = []
        with observed(lambda name, _: names.append(name)):
            yield names


EMULATED_CUDA = EmulatedCuda(name="emulated-cuda", device="cpu", environment={**SINGLE_THREAD, emulate.VARIABLE: "1"})
