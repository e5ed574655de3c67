"""How the oracles are compiled and spread over cores.

A kernel is one compiled function over a range of independent tasks. Small work runs it once on the calling
thread; large work runs the *same* machine code on several threads, because kernels release the GIL. So the
thread count cannot change a bit of a result, and nothing is compiled twice for a parallel variant.

Machine code is kept on disk: beside the sources, in `NUMBA_CACHE_DIR` if that is set, or in the user's cache; where
none can be written, each process compiles for itself. Of the workers of a run one compiles, the others wait and load.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numba

PARALLEL_WORK = 4_000_000  # scalar steps; below it (about 4 ms) starting threads costs more than it saves
PIECES_PER_THREAD = 4  # rows differ in length, so a thread that is done takes another piece


def _shared_stamp() -> str:
    """Hash of the sources that compiled code of other files depends on: helpers, sites and this file."""
    folder, digest = Path(__file__).parent, hashlib.sha256()
    for path in [*sorted(folder.glob("_*.py")), folder / "sites.py"]:
        source = path.read_bytes()
        if b"@helper" in source or path.name in ("_compiled.py", "sites.py"):
            digest.update(source)
    return digest.hexdigest()


_STAMP = _shared_stamp()


def kernel(function: Callable[..., None]) -> Callable[..., None]:
    """Compile `function(first, last, ...)`, GIL-free and cached on disk.

    numba renews a cached kernel only when the file *of the kernel* changes, and keeps it when a helper or
    a `Site` in another file did. A stale oracle is worse than a slow one, so those files join the stamp of
    the cache. The attribute is numba's own; without it the cache works as numba's default.
    """
    try:
        dispatcher = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # no folder to keep it in
        return numba.njit(nogil=True, error_model="numpy")(function)
    with suppress(AttributeError):
        cache_file = dispatcher._cache._cache_file
        cache_file._source_stamp = (cache_file._source_stamp, _STAMP)
    return dispatcher


def helper(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function that only kernels call; it lives in their cache entry."""
    return numba.njit(error_model="numpy")(function)


@contextmanager
def _alone(folder: str) -> Iterator[None]:
    """While no other process of this machine compiles into `folder`; at once where that cannot be locked."""
    with ExitStack() as held:
        with suppress(OSError):
            lock = held.enter_context((Path(folder) / "compiling.lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _ready(compiled: Any, *args: object) -> None:
    """Load the machine code of a kernel, or compile it, before its first task."""
    if not compiled.signatures:
        with _alone(compiled.stats.cache_path or os.devnull):
            compiled(0, 0, *args)


def run_tasks(compiled: Callable[..., None], tasks: int, work: int, *args: object) -> None:
    """Run `compiled` over tasks 0 … tasks-1, which together take about `work` scalar steps."""
    _ready(compiled, *args)
    threads = min(numba.config.NUMBA_NUM_THREADS, tasks)
    if threads < 2 or work < PARALLEL_WORK:
        compiled(0, tasks, *args)
        return
    pieces = min(tasks, threads * PIECES_PER_THREAD)
    bounds = [tasks * piece // pieces for piece in range(pieces + 1)]
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(compiled, *bounds[i : i + 2], *args) for i in range(pieces)]
    for future in futures:
        future.result()
