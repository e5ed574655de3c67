"""One captured launch compiled for one chip, in a child process: a compiler that aborts ends the child, not the run."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import resource
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import IO

from triton import knobs
from triton.runtime import driver
from triton.runtime.cache import triton_key

from gdn_verify.emulator.crosscompile.capture import CapturedLaunch
from gdn_verify.emulator.crosscompile.resources import Compiled, read
from gdn_verify.emulator.crosscompile.standin import StandInDriver
from gdn_verify.emulator.crosscompile.targets import Chip

PATIENCE = 600.0
"""Seconds after which a compiler hangs."""

_LAST_LINES = 12


def compile_launch(launch: CapturedLaunch, chip: Chip, patience: float = PATIENCE) -> Compiled:
    """Compile, from an empty cache; raises nothing that the compiler did.

    The child is forked, so that kernels need no pickling: call it where nothing has been compiled yet and no thread
    runs. After `patience` seconds the child is killed; an assembler that it started is not, so end the caller's
    process group in the end.
    """
    triton_key()  # a hash of all of Triton, cached: taken here once, and not in every child
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as cache, tempfile.TemporaryFile() as log:
        compiled = _in_child(lambda: _compile(launch, chip, cache), log, patience)
    return replace(compiled, seconds=time.perf_counter() - started)


def _compile(launch: CapturedLaunch, chip: Chip, cache: str) -> Compiled:
    os.environ["TRITON_CACHE_DIR"] = cache
    driver.set_active(StandInDriver(chip))  # device functions may ask which target they are compiled for
    knobs.nvidia.dump_ptxas_log = True
    kernel = launch.kernel
    with contextlib.redirect_stdout(io.StringIO()) as log:
        source = kernel.ASTSource(kernel, launch.signature, launch.constexprs, launch.attributes)
        compiled = kernel.compile(source, target=chip.target, options=launch.options)
    return Compiled(read(compiled, log.getvalue(), chip))


def _in_child(work: Callable[[], Compiled], log: IO[bytes], patience: float) -> Compiled:
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe(duplex=False)
    child = fork.Process(target=_child, args=(work, theirs, log.fileno()))
    child.start()
    theirs.close()
    try:
        if not ours.poll(patience):
            return Compiled(None, f"the compiler was stopped after {patience:g} s{_last_lines(log)}")
        compiled: Compiled = ours.recv()
        return replace(compiled, error=compiled.error + _last_lines(log)) if compiled.error else compiled
    except EOFError:
        child.join()
        return Compiled(None, f"the compiler died: {_ending(child.exitcode or 0)}{_last_lines(log)}")
    finally:
        child.kill()
        child.join()
        ours.close()


def _child(work: Callable[[], Compiled], pipe: Connection, log: int) -> None:
    os.dup2(log, 1)
    os.dup2(log, 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a compiler's abort is a result, not worth a core dump
    try:
        pipe.send(work())
    except BaseException as error:
        pipe.send(Compiled(None, f"{type(error).__name__}: {error}"))


def _ending(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"


def _last_lines(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    return "".join(f"\n    {line}" for line in lines[-_LAST_LINES:])
