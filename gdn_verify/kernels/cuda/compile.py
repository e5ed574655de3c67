"""CUDA C++ to machine code for one chip, by NVRTC: a library, so that nothing is built where this is installed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

from gdn_verify.kernels.cuda.store import kept, key_of

OLDEST = 80
"""The oldest compute capability that the kernels are written for: bfloat16 and asynchronous copies."""
_OPTIONS = ("--std=c++17", "--fmad=false", "-default-device", "--ptxas-options=--verbose")
_SPECIFIC = frozenset((90, 100))
"""Compute capabilities that are compiled for alone, with what only they have."""


class CompileError(RuntimeError):
    """NVRTC refused a source; the message is its log."""


@dataclass(frozen=True)
class Built:
    """Machine code for one chip, and what the assembler said of it."""

    cubin: bytes
    log: str

    @property
    def resources(self) -> dict[str, int]:
        """Registers, spilled bytes and bytes on the stack of a thread; bytes of static shared memory of a block."""
        patterns = {
            "registers": r"Used (\d+) registers",
            "spill_bytes": r"(\d+) bytes spill stores",
            "scratch_bytes": r"(\d+) bytes stack frame",
        }
        found = {name: re.search(pattern, self.log) for name, pattern in patterns.items()}
        if lacking := [name for name, match in found.items() if match is None]:
            raise CompileError(f"the assembler does not tell {', '.join(lacking)}: {self.log.strip()!r}")
        shared = re.search(r"(\d+) bytes smem", self.log)  # not said where there is none
        numbers = {name: int(match[1]) for name, match in found.items() if match}
        return {**numbers, "shared_bytes": int(shared[1]) if shared else 0}


def missing() -> str | None:
    """Why nothing can be compiled here, in one line with what would change it; None if it can."""
    if find_spec("cuda") is None or find_spec("cuda.bindings") is None:
        return "cuda-bindings is not installed (pip install 'gdn-verify[cuda]')"
    try:
        _version()
    except Exception as error:  # what the loader raises where the library is not there differs by release
        return f"NVRTC does not load: {str(error).splitlines()[0]} (pip install 'gdn-verify[cuda]')"
    return None


def architecture(capability: int) -> str:
    """What the compiler calls a compute capability: sm_90a for 90. Raises RuntimeError for one that is too old."""
    if capability < OLDEST:
        raise RuntimeError(f"the CUDA kernels need compute capability 8.0 or later; this is {capability / 10:.1f}")
    return f"sm_{capability}a" if capability in _SPECIFIC else f"sm_{capability}"


@cache
def built(source: str, arch: str) -> Built:
    """Machine code of a source for a chip ("sm_90a"), from disk if it was compiled before. Raises CompileError."""
    version = ".".join(map(str, _version()))
    entry = kept(key_of("nvrtc", version, arch, *_OPTIONS, source), lambda: _entry(_compiled(source, arch)))
    log, _, cubin = entry.partition(b"\0")
    return Built(cubin, log.decode())


def _entry(made: Built) -> bytes:
    return made.log.encode() + b"\0" + made.cubin


@cache
def _version() -> tuple[int, int]:
    nvrtc = _nvrtc()
    major, minor = _checked(nvrtc.nvrtcVersion())
    return major, minor


def _nvrtc() -> Any:
    from cuda.bindings import nvrtc

    return nvrtc


def _checked(returned: tuple[Any, ...]) -> tuple[Any, ...]:
    status, *rest = returned
    if status != _nvrtc().nvrtcResult.NVRTC_SUCCESS:
        raise CompileError(f"NVRTC returned {status.name}")
    return tuple(rest)


def _compiled(source: str, arch: str) -> Built:
    nvrtc = _nvrtc()
    options = [f"--gpu-architecture={arch}".encode(), *(option.encode() for option in _OPTIONS)]
    (program,) = _checked(nvrtc.nvrtcCreateProgram(source.encode(), b"gdn.cu", 0, [], []))
    try:
        (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
        log = _text(nvrtc, program)
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise CompileError(f"NVRTC refuses the source for {arch}: {log.strip()}")
        (size,) = _checked(nvrtc.nvrtcGetCUBINSize(program))
        cubin = bytearray(size)
        _checked(nvrtc.nvrtcGetCUBIN(program, cubin))
    finally:
        nvrtc.nvrtcDestroyProgram(program)
    return Built(bytes(cubin), log)


def _text(nvrtc: Any, program: Any) -> str:
    (size,) = _checked(nvrtc.nvrtcGetProgramLogSize(program))
    log = bytearray(size)
    _checked(nvrtc.nvrtcGetProgramLog(program, log))
    return log.decode(errors="replace").rstrip("\0")
