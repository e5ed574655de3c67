"""Triton's cache may be one folder for all workers: nobody ever sees a file of it that is not whole.

Triton writes into a folder of its own and renames (`FileCacheManager.put` in runtime/cache.py, the same in 3.6.0 and
3.7.1), and names a kernel's files in one that it writes last (`compile` in compiler/compiler.py). So this suite
gives its workers no caches of their own: each would compile everything again.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("triton")
PROCESSES = 3
USER = Path(__file__).with_name("cache_user.py")


@dataclass(frozen=True)
class Shared:
    """What processes with one cache had in the end, and what machine code was to be read in it meanwhile (hashes)."""

    had: set[str]
    seen: set[str]
    left: list[str]


def _compile_at_once(folder: Path, manager: str = "") -> Shared:
    cache, door = folder / "cache", folder / "door"
    env = {**os.environ, "TRITON_CACHE_DIR": str(cache), "TRITON_INTERPRET": "0", "PYTHONPATH": str(USER.parent)}
    env |= {"TRITON_CACHE_MANAGER": manager} if manager else {}
    command = [sys.executable, str(USER), str(door)]
    users = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)]
    try:
        assert [user.stdout.readline() for user in users if user.stdout] == ["ready\n"] * PROCESSES
        door.touch()
        seen: set[str] = set()
        while any(user.poll() is None for user in users):
            seen |= {hashlib.sha256(file.read_bytes()).hexdigest() for file in cache.glob("*/increase.cubin")}
            time.sleep(0.01)
        had = {user.communicate()[0] for user in users}
        assert [user.returncode for user in users] == [0] * PROCESSES
    finally:
        for user in users:
            user.kill()
    return Shared(had, seen, [path.name for path in cache.rglob("tmp.*")])


def test_processes_that_compile_one_kernel_at_once_share_a_cache(tmp_path: Path) -> None:
    """All have the same machine code, it is the only one that ever stood in the cache, and nothing is left behind."""
    shared = _compile_at_once(tmp_path)
    assert shared.had == shared.seen
    assert len(shared.had) == 1
    assert not shared.left


def test_a_cache_that_is_not_written_at_once_is_seen(tmp_path: Path) -> None:
    """The planted defect: a manager that opens the final file and writes it in two halves."""
    shared = _compile_at_once(tmp_path, "cache_user:Torn")
    assert len(shared.seen) > 1
