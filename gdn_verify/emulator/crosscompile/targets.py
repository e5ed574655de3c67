"""The chips that kernels are compiled for, and what each allows one block of threads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MAX_THREADS = 1024
"""Threads of one block on every chip here (CUDA programming guide, compute capabilities; HIP hardware limits)."""


@dataclass(frozen=True)
class Chip:
    """A target of Triton's compiler, and the limits of the hardware behind it.

    `shared_memory` is the most a block can be given, in bytes (AMD: LDS). `registers` is how many 32-bit vector
    registers one thread can name. `product` and `multiprocessors` are what a library that asks for them is told.
    """

    name: str
    backend: str
    arch: str | int
    warp_size: int
    shared_memory: int
    registers: int
    product: str
    multiprocessors: int

    @property
    def target(self) -> Any:
        """The `GPUTarget`; imports Triton."""
        from triton.backends.compiler import GPUTarget

        return GPUTarget(self.backend, self.arch, self.warp_size)

    @property
    def host(self) -> str:
        """The vendor's host: cuda or rocm."""
        return "cuda" if self.backend == "cuda" else "rocm"

    def __str__(self) -> str:
        return self.name


def _amd(arch: str, warp_size: int, lds: int, registers: int, product: str, units: int) -> Chip:
    return Chip(arch, "hip", arch, warp_size, lds * 1024, registers, product, units)


def _nvidia(arch: int, shared: int, product: str, multiprocessors: int) -> Chip:
    # 255 registers a thread: CUDA programming guide, technical specifications per compute capability.
    return Chip(f"sm_{arch}", "cuda", arch, 32, shared * 1024, 255, product, multiprocessors)


_ALL = (
    # LDS, wave size and compute units: ROCm's table of GPU specifications. A workgroup can be given 64 KiB of RDNA 4's
    # 128 KiB (LLVM's AMDGPU target: addressable local memory). Registers: LLVM's AMDGPU usage guide, 512 in one file of
    # VGPRs and AGPRs since gfx90a, 256 on gfx12. HIP counts RDNA's pairs of compute units as multiprocessors.
    _amd("gfx942", 64, 64, 512, "AMD Instinct MI300X", 304),
    _amd("gfx950", 64, 160, 512, "AMD Instinct MI355X", 256),
    _amd("gfx1201", 32, 64, 256, "AMD Radeon RX 9070 XT", 32),
    # Shared memory: CUDA programming guide, maximum for a block (all beyond 48 KiB by opting in, as Triton does).
    # Multiprocessors: NVIDIA's data sheets.
    _nvidia(80, 163, "NVIDIA A100-SXM4-80GB", 108),
    _nvidia(90, 227, "NVIDIA H100 80GB HBM3", 132),
    _nvidia(100, 227, "NVIDIA B200", 148),
    _nvidia(120, 99, "NVIDIA GeForce RTX 5090", 170),
)

CHIPS: dict[str, Chip] = {chip.name: chip for chip in _ALL}
"""Every chip by name, AMD's first."""
