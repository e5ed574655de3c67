"""A chip that is not there: the driver that Triton asks, and what libraries ask torch about their device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import torch
from triton.runtime import driver

from gdn_verify.emulator.crosscompile.targets import MAX_THREADS, Chip
from gdn_verify.emulator.driver import FakeDriver


class StandInDriver(FakeDriver):
    """The driver of a chip. Triton keeps a kernel's target by device number, so every chip has its own number."""

    def __init__(self, chip: Chip) -> None:
        super().__init__(chip.backend, chip.arch)
        self.target = chip.target
        self._chip = chip

    def get_device_properties(self, device: int) -> dict[str, int]:
        return {
            "max_shared_mem": self._chip.shared_memory,
            "multiprocessor_count": self._chip.multiprocessors,
            "warpSize": self._chip.warp_size,
        }

    def get_current_device(self) -> int:
        return 1000 + int(str(self._chip.arch).removeprefix("gfx"))


@contextmanager
def stand_in(chip: Chip) -> Iterator[None]:
    """Let Triton and torch answer for `chip` inside the block. Tensors stay on the CPU."""
    with ExitStack() as stack:
        replace(stack, driver, "_active", StandInDriver(chip))
        replace(stack, torch.cpu, "device", _no_switch)
        for name, answer in _answers(chip).items():
            replace(stack, torch.cuda, name, answer)
        yield


def replace(stack: ExitStack, owner: Any, name: str, value: Any) -> None:
    """Set an attribute until `stack` closes."""
    if name in vars(owner):
        stack.callback(setattr, owner, name, vars(owner)[name])
    else:
        stack.callback(delattr, owner, name)
    setattr(owner, name, value)


def _no_switch(device: object = None) -> nullcontext[None]:
    return nullcontext()


def _answers(chip: Chip) -> dict[str, Any]:
    major, minor = _capability(chip)
    properties = SimpleNamespace(
        name=chip.product,
        major=major,
        minor=minor,
        gcnArchName=str(chip.arch),
        multi_processor_count=chip.multiprocessors,
        warp_size=chip.warp_size,
        max_threads_per_block=MAX_THREADS,
        shared_memory_per_block=chip.shared_memory,
        shared_memory_per_block_optin=chip.shared_memory,
    )
    return {
        "get_device_name": lambda device=None: chip.product,
        "get_device_capability": lambda device=None: (major, minor),
        "get_device_properties": lambda device=None: properties,
        "device": _no_switch,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
    }


def _capability(chip: Chip) -> tuple[int, int]:
    """9.0 of sm_90; on AMD, as ROCm's torch has it, the architecture without its stepping: 9.4 of gfx942."""
    number = int(chip.arch) if chip.backend == "cuda" else int(str(chip.arch)[len("gfx") : -1])
    return divmod(number, 10)
