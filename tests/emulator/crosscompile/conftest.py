"""Processes in which Triton compiles; pytest's own never imports it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any

import pytest
import toy_calls

Submits = Callable[..., "Future[Any]"]


@pytest.fixture(scope="session")
def submit() -> Iterator[Submits]:
    """Start a function of `toys`, by name, in one of two processes without the interpreter; a future."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=spawn, initializer=toy_calls.prepare) as pool:
        yield lambda function, *args, **named: pool.submit(toy_calls.call, function, *args, **named)


@pytest.fixture
def toy(submit: Submits) -> Callable[..., Any]:
    """Call a function of `toys`, by name."""
    return lambda function, *args, **named: submit(function, *args, **named).result(timeout=240)
