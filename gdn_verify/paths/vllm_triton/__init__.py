"""vLLM's Triton kernels of a Gated DeltaNet layer, each as its layer calls it."""

from __future__ import annotations

from collections.abc import Iterable

from gdn_verify.paths.base import Path
from gdn_verify.paths.vllm_triton.norm import Norm, NormGated
from gdn_verify.paths.vllm_triton.recurrent import PackedDecode, Recurrent, SigmoidGating


def paths() -> Iterable[Path]:
    """The recurrences first, then what stands around them."""
    return (Recurrent(), SigmoidGating(), PackedDecode(), Norm(), NormGated())
