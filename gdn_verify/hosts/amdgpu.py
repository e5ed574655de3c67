"""AMD's chips without one: Triton kernels compiled for them, their machine code executed by `emulator.amdgpu`.

What it shows that the interpreter cannot is the compiler's work: layouts of registers and matrices, masks of buffers,
shared memory, barriers, waits. docs/amdgpu.md says what is not modelled.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

from gdn_verify.hosts.autotune import choose, place_of
from gdn_verify.hosts.base import SINGLE_THREAD, Host
from gdn_verify.hosts.circumstances import PROCESSOR, Circumstance

SEEDS = range(1, 4)
"""Of random schedules of waves and workgroups, beside the regular one."""

_for_good = ExitStack()
"""What a process is set up with, until it ends."""


@dataclass(frozen=True)
class Amdgpu(Host):
    """A processor that executes the machine code of the chip that it is called after."""

    def missing(self) -> str | None:
        return None if find_spec("triton") else "triton is not installed (pip install 'gdn-verify[amdgpu]')"

    def prepare(self) -> None:
        from gdn_verify.emulator.amdgpu.driver import executing
        from gdn_verify.emulator.crosscompile.targets import CHIPS

        _for_good.enter_context(executing(CHIPS[self.name], choose=place_of))

    def pin(self, place: int) -> None:
        choose(place)

    def describe(self) -> str:
        import triton

        return f"triton {triton.__version__}, {self.name} (emulated)"

    def circumstances(self) -> tuple[Circumstance, ...]:
        orders = (Circumstance(f"in random order {n} of waves", around=partial(_scheduled, n)) for n in SEEDS)
        return (*PROCESSOR, *orders)

    @contextmanager
    def launches(self) -> Iterator[list[str]]:
        from gdn_verify.emulator.amdgpu.launch import launches

        names: list[str] = []
        with launches() as ran:
            yield names
        names += [launch.kernel for launch in ran]


def _scheduled(seed: int) -> AbstractContextManager[None]:
    from gdn_verify.emulator.amdgpu.launch import Schedule, scheduled

    return scheduled(Schedule(resident=3, quantum=97, seed=seed))


_ENVIRONMENT = {**SINGLE_THREAD, "TRITON_INTERPRET": "0"}
GFX942 = Amdgpu(name="gfx942", device="cpu", environment=_ENVIRONMENT)
GFX950 = Amdgpu(name="gfx950", device="cpu", environment=_ENVIRONMENT)
