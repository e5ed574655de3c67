"""A worker process with the interpreter installed; pytest's own process is never patched."""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import emulated
import pytest

import gdn_verify
from gdn_verify.emulator import interpreter

ROOT = Path(gdn_verify.__file__).parents[1]
RunsPython = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def interpreted() -> Iterator[Callable[..., Any]]:
    """Call a function in the interpreter's process: a module-level one, or "module:function"."""

    def call(function: Callable[..., Any] | str, *args: Any) -> Any:
        task = (emulated.call_by_name, function) if isinstance(function, str) else (function,)
        return pool.submit(*task, *args).result(timeout=300)

    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=interpreter.install) as pool:
        yield call


@pytest.fixture
def python(tmp_path: Path) -> RunsPython:
    """Run source text in a fresh Python process, with extra environment variables."""

    def run(source: str, **environment: str) -> subprocess.CompletedProcess[str]:
        script = tmp_path / "script.py"  # a file: Triton reads the source of kernels
        script.write_text(source)
        clean = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        return subprocess.run(
            [sys.executable, str(script)],
            env=clean | {"PYTHONPATH": path} | environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run
