"""FlashInfer's kernels of Gated DeltaNet, each as its function is called: decodes, drafts, prompts, a layer's step."""

from __future__ import annotations

from collections.abc import Iterable

from gdn_verify.paths.base import Path
from gdn_verify.paths.flashinfer.checkpoints import ChunkCheckpoints
from gdn_verify.paths.flashinfer.decode import Decode, DecodeBf16, DecodeDense, DecodeKv
from gdn_verify.paths.flashinfer.drafts import Mtp, MtpBf16, MtpScatter
from gdn_verify.paths.flashinfer.prefill import Chunk, ChunkCake, ChunkCp, ChunkCudnn, ChunkNormed, ChunkPool
from gdn_verify.paths.flashinfer.step import FusedStep


def paths() -> Iterable[Path]:
    """All of them, those of other cards last."""
    decodes = (Decode(), DecodeBf16(), DecodeDense(), DecodeKv())
    drafts = (Mtp(), MtpScatter(), MtpBf16())
    prompts = (Chunk(), ChunkNormed(), ChunkPool(), ChunkCp(), ChunkCheckpoints())
    return (*decodes, *drafts, *prompts, FusedStep(), ChunkCake(), ChunkCudnn())
