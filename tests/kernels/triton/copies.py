"""Launches of kernels with changed sources, for tests that call functions of the right package's modules."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from unittest.mock import patch

from gdn_verify.mutants.sources import PACKAGE, Kernels

Launchers = tuple[tuple[str, str], ...]
"""Modules, and functions in them that launch kernels."""
PREFILL: Launchers = (("chunk", "chunk_delta"), ("conv_prefill", "conv_prefill"))
DECODE: Launchers = (
    ("decode", "fused_decode"),
    ("spec", "fused_spec_decode"),
    ("two_launch", "conv_update"),
    ("two_launch", "delta_update"),
)


@contextmanager
def launching(kernels: Kernels, launchers: Launchers) -> Iterator[None]:
    """Whoever calls one of these functions within the block launches the changed kernels."""
    right = [(import_module(f"{PACKAGE}.triton.{module}"), function) for module, function in launchers]
    with kernels.live():
        wrong = [getattr(import_module(f"{PACKAGE}.triton.{module}"), function) for module, function in launchers]
    with ExitStack() as stack:
        for (module, function), other in zip(right, wrong, strict=True):
            stack.enter_context(patch.object(module, function, other))
        yield
