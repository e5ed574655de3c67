"""AITER's Gated DeltaNet kernels: what vLLM and SGLang run on AMD's chips."""

from __future__ import annotations

from collections.abc import Iterable

from gdn_verify.paths.base import Path


def paths() -> Iterable[Path]:
    """All of them."""
    from gdn_verify.paths.aiter import conv, delta, rocm

    return (*delta.paths(), *conv.paths(), *rocm.paths())
