"""SGLang's Triton kernels of a Gated DeltaNet layer, each as its attention backend calls it."""

from __future__ import annotations

from collections.abc import Iterable

from gdn_verify.paths.base import Path
from gdn_verify.paths.sglang.chunk import Chunk
from gdn_verify.paths.sglang.layer import Decode, Extend
from gdn_verify.paths.sglang.recurrent import PackedDecode, Recurrent, RecurrentUpdate, SigmoidGating
from gdn_verify.paths.sglang.verify import TargetVerify


def paths() -> Iterable[Path]:
    """The recurrences, and what a layer makes of them and of what stands around them."""
    return (
        Recurrent(), RecurrentUpdate(), SigmoidGating(), PackedDecode(), Chunk(), Decode(), Extend(), TargetVerify(),
    )  # fmt: skip
