"""Where machine code is kept, and who makes it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gdn_verify.oracles import _compiled

GATES = """
import numpy as np
from gdn_verify.oracles import stages
stages.gates(*np.zeros((2, 1, 1, 1)), *np.zeros((2, 1)))
print(sum(stages._gates.stats.cache_misses.values()))
"""


def test_of_several_processes_one_compiles(tmp_path: Path) -> None:
    """Started at once over an empty cache: the others wait for the first, and load what it made."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", GATES]
    processes = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    misses = [process.communicate()[0].strip() for process in processes]
    assert sorted(misses) == ["0", "0", "1"]


def test_without_a_folder_to_write_a_process_compiles_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """numba refuses to keep code where it finds no such folder; the kernel runs all the same."""
    njit = _compiled.numba.njit

    def refusing(*function: Any, **options: Any) -> Any:
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return njit(*function, **options)

    monkeypatch.setattr(_compiled.numba, "njit", refusing)
    out = np.zeros(5)

    @_compiled.kernel
    def count(first: Any, last: Any, out: Any) -> None:
        for task in range(first, last):
            out[task] += 1.0

    _compiled.run_tasks(count, 4, 4, out)
    assert out.tolist() == [1.0, 1.0, 1.0, 1.0, 0.0]
