"""The same sources on a plain processor: compiled by the machine's C++ compiler, each thread of a block a fiber.

A vehicle for tests. It has no memory model, no caches and one order of events at a time, which `scheduled` changes;
exp, log and square roots are the C library's. Else it runs the source and the specialisation that a card gets.
"""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from gdn_verify.kernels.cuda.sources import whole
from gdn_verify.kernels.cuda.store import kept, key_of

VARIABLE = "GDN_EMULATE_CUDA"
"""Set to 1 where tensors on the cpu may be computed so; it is slow, and nobody should do it without knowing."""
_OPTIONS = ("-std=c++17", "-O1", "-ffp-contract=off", "-fno-strict-aliasing", "-fPIC", "-shared")
_seed = 0


class EmulationError(RuntimeError):
    """What a launch did that no card defines: the message says it, and which thread."""


def missing() -> str | None:
    """Why nothing can be emulated here, in one line; None if it can."""
    if os.environ.get(VARIABLE) != "1":
        return f"the tensors are on the cpu, and {VARIABLE}=1 is not set"
    return compiler_missing()


def compiler_missing() -> str | None:
    """Why no source can be compiled for this processor, in one line; None if it can."""
    if _compiler() is None:
        return "there is no C++ compiler (set CXX, or install g++ or clang++)"
    return None


@contextmanager
def scheduled(seed: int) -> Iterator[None]:
    """Launches within the block run blocks and warps in another order; any order must give the same bits."""
    global _seed
    before, _seed = _seed, seed
    try:
        yield
    finally:
        _seed = before


class Kernel:
    """A kernel compiled for this processor."""

    def __init__(self, source: str, name: str) -> None:
        self._library = _loaded(source, "kernel")
        self._kernel = ctypes.cast(self._library[name], ctypes.c_void_p)
        self._set_machine = ctypes.cast(self._library["gdn_set_machine"], ctypes.c_void_p)

    def launch(self, arguments: bytes, grid: tuple[int, int], threads: int, cluster: int, ring_bytes: int) -> None:
        """Run all blocks; raises EmulationError for what a card would leave undefined."""
        found = _engine().gdn_emulate(
            self._set_machine, self._kernel, arguments, *grid, threads, cluster, ring_bytes, _seed
        )
        if found:
            raise EmulationError(found.decode())


@cache
def _engine() -> ctypes.PyDLL:
    # PyDLL: the engine has one launch at a time, and keeps Python's lock meanwhile.
    library = _loaded(whole("emulated/engine.cpp"), "engine")
    library.gdn_emulate.restype = ctypes.c_char_p
    library.gdn_emulate.argtypes = [ctypes.c_void_p] * 2 + [ctypes.c_char_p] + [ctypes.c_int] * 5 + [ctypes.c_ulong]
    return library


def _loaded(source: str, what: str) -> ctypes.PyDLL:
    compiler = _compiler()
    if compiler is None:
        raise RuntimeError(str(compiler_missing()))
    key = key_of(what, _version(compiler), platform.machine(), *_OPTIONS, source)
    body = kept(key, lambda: _compiled(compiler, source))
    with tempfile.TemporaryDirectory() as folder:  # loaded, it needs no file any more
        library = Path(folder) / f"{what}.so"
        library.write_bytes(body)
        return ctypes.PyDLL(str(library))


def _compiled(compiler: str, source: str) -> bytes:
    with tempfile.TemporaryDirectory() as to:
        text, library = Path(to) / "source.cpp", Path(to) / "library.so"
        text.write_text(source)
        command = [compiler, *_OPTIONS, str(text), "-o", str(library)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{compiler} refuses the source: {done.stderr.strip()[:2000]}")
        return library.read_bytes()


@cache
def _compiler() -> str | None:
    named = os.environ.get("CXX")
    return next((found for name in (named, "c++", "g++", "clang++") if name and (found := shutil.which(name))), None)


@cache
def _version(compiler: str) -> str:
    done = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False)
    return done.stdout.splitlines()[0] if done.stdout else compiler


def describe() -> str:
    """The compiler, for records."""
    compiler = _compiler()
    return "no C++ compiler" if compiler is None else f"{_version(compiler)}, {platform.machine()}"
