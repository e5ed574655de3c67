"""One wave in a laboratory: instructions that LLVM assembles, executed on registers that a test fills."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import cache

import numpy as np
from numpy.typing import NDArray

from gdn_verify.emulator.amdgpu import state as st
from gdn_verify.emulator.amdgpu.codeobject import CodeObject
from gdn_verify.emulator.amdgpu.encoding import Instruction, decode
from gdn_verify.emulator.amdgpu.faults import Fault
from gdn_verify.emulator.amdgpu.lower import lower
from gdn_verify.emulator.amdgpu.schedule import Setup, run_launch
from gdn_verify.emulator.amdgpu.state import make_state

LANES = range(64)
ALL = (1 << 64) - 1
WINDOW = (1 << st.WINDOW) + (1 << (st.WINDOW - 1))
"""Where the laboratory's global memory begins."""
SHARED = 65536


def _assemble(text: str, arch: str) -> bytes:
    from triton._C.libtriton import amd, llvm

    llvm.init_targets()
    return bytes(amd.assemble_amdgcn(text, arch, ""))


@cache
def _assembler() -> ProcessPoolExecutor:
    """A process that has Triton: pytest's own never imports it."""
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


@cache
def assembled(text: str, arch: str = "gfx942") -> tuple[Instruction, ...]:
    """LLVM's bytes for lines of assembly, decoded; raises ValueError for what LLVM refuses."""
    data = _assembler().submit(_assemble, f"{text}\ns_endpgm\n", arch).result(timeout=60)
    code = CodeObject(data).text
    if not code:
        raise ValueError(f"LLVM assembles nothing of {text!r} for {arch}")
    return tuple(decode(code, 0))


class Lab:
    """A wave of 64 lanes, 64 KiB of shared memory, and a window to `memory`; kept, as it is slow to make."""

    def __init__(self) -> None:
        self.memory = np.zeros(1 << 16, np.uint8)
        windows = np.zeros((2, st.WINDOW_COLUMNS), np.int64)
        windows[1, [st.BASE, st.REAL, st.RUN]] = WINDOW, self.memory.ctypes.data, len(self.memory)
        self.state = make_state(1, 1, SHARED, 256, windows)

    def run(self, text: str, arch: str = "gfx942", active: int = ALL) -> list[Fault]:
        """Execute; gives what was found. v0 and EXEC are set, and everything counts as known."""
        s = self.state
        s.scalar[0, 100], s.scalar[0, 101] = active & 0xFFFFFFFF, active >> 32
        prologue = "" if active == ALL else "s_mov_b64 exec, s[100:101]\n"
        program = lower(assembled(prologue + text, arch), arch)
        setup = Setup(s.scalar[0, :102].copy(), np.full(3, -1), np.ones(3, np.int64), 1)
        s.found[0] = 0
        run_launch(s, program, setup, 1, np.zeros(1, np.int64), 1000, np.zeros(1, np.uint64), 100_000)
        return [Fault(int(kind)) for kind in s.findings[: s.found[0], st.KIND]]

    def set(self, register: int, values: NDArray[np.generic] | list[int] | int, width: int = 1) -> None:
        """Fill vector registers from `register` on: 32 or 64 bits a lane."""
        wide = np.broadcast_to(np.asarray(values), 64)
        wide = (
            wide.astype(np.uint64)
            if wide.dtype.kind in "ui"
            else wide.view(f"u{wide.dtype.itemsize}").astype(np.uint64)
        )
        for n in range(width):
            self.state.vector[0, register + n] = (wide >> np.uint64(32 * n)).astype(np.uint32)

    def get(self, register: int, width: int = 1) -> NDArray[np.uint64]:
        """The same, read."""
        parts = [self.state.vector[0, register + n].astype(np.uint64) << np.uint64(32 * n) for n in range(width)]
        return np.bitwise_or.reduce(parts)

    def set_scalar(self, register: int, value: int, width: int = 1) -> None:
        """Fill scalar registers."""
        for n in range(width):
            self.state.scalar[0, register + n] = (value >> (32 * n)) & 0xFFFFFFFF

    def get_scalar(self, register: int, width: int = 1) -> int:
        """The same, read."""
        return sum(int(self.state.scalar[0, register + n]) << (32 * n) for n in range(width))
