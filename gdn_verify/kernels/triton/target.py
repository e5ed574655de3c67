"""Which chip kernels are compiled for: Triton's own word for it, or the interpreter."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget


@dataclass(frozen=True)
class Target:
    """`vendor` is "cuda", "hip" or "interpreter"; `arch` a compute capability (90), a name (gfx942) or empty."""

    vendor: str
    arch: str = ""

    @property
    def amd(self) -> bool:
        """Whether kernels are compiled for AMD."""
        return self.vendor == "hip"

    @property
    def wavefront(self) -> int:
        """Threads of a warp: 64 on AMD's CDNA chips (gfx9), 32 elsewhere."""
        return 64 if self.arch.startswith("gfx9") else 32


INTERPRETER = Target("interpreter")


def current_target() -> Target:
    """The chip that a launch would be compiled for now; raises RuntimeError where Triton finds no driver."""
    if triton.knobs.runtime.interpret:
        return INTERPRETER
    return _of(triton.runtime.driver.active.get_current_target())


def check_join(target: Target, splits: int) -> None:
    """Raises ValueError where programs cannot hand parts of a head's output to each other (see `decode_kernel`)."""
    if target.amd:
        raise ValueError(f"splits={splits} before a norm on {target.arch}: V cannot be split there; use splits=1")


def on_device_of(tensor: Tensor) -> AbstractContextManager[object]:
    """Triton launches on the current device: make it the tensor's."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


@cache
def _of(target: GPUTarget) -> Target:
    return Target(target.backend, str(target.arch))
