"""vLLM's Triton kernels of a Gated DeltaNet layer, each as its layer calls it."""

from __future__ import annotations

from collections.abc import Iterable

from gdn_verify.paths.base import Path
from gdn_verify.paths.vllm_triton.chunk import Chunk
from gdn_verify.paths.vllm_triton.core import Core
from gdn_verify.paths.vllm_triton.layer import Decode, Mtp, Prefill, Spec
from gdn_verify.paths.vllm_triton.norm import RecurrentNormGated
from gdn_verify.paths.vllm_triton.recurrent import PackedDecode, Recurrent, SigmoidGating


def paths() -> Iterable[Path]:
    """The recurrences, and what a layer makes of them and of what stands around them."""
    single = (Recurrent(), SigmoidGating(), PackedDecode(), Chunk(), RecurrentNormGated())
    return (*single, Decode(), Spec(), Mtp(), Prefill(), Core())
