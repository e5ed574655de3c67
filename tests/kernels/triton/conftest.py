"""A worker process with the interpreter installed; pytest's own process is never patched."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

from gdn_verify.emulator import interpreter


@pytest.fixture(scope="session")
def interpreted() -> Iterator[Callable[..., Any]]:
    """Call a module-level function in the interpreter's process."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=_start) as pool:
        yield lambda function, *args: pool.submit(function, *args).result(timeout=300)


def _start() -> None:
    import torch

    torch.set_num_threads(1)
    interpreter.install()
