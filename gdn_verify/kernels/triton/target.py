"""Which chip kernels are compiled for: Triton's own word for it, or the interpreter."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import triton
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


INTERPRETER = Target("interpreter")


def current_target() -> Target:
    """The chip that a launch would be compiled for now; raises RuntimeError where Triton finds no driver."""
    if triton.knobs.runtime.interpret:
        return INTERPRETER
    return _of(triton.runtime.driver.active.get_current_target())


@cache
def _of(target: GPUTarget) -> Target:
    return Target(target.backend, str(target.arch))
