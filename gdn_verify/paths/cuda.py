"""This project's kernels in CUDA C++: on NVIDIA, and the same sources emulated on a plain processor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gdn_verify.cases.contract import Geometry
from gdn_verify.paths.base import Missing, Path
from gdn_verify.paths.fused import FusedDecode, FusedDecodeNull, FusedDecodeRaw, FusedSpec

EMULATED = "emulated-cuda"


class Cuda(FusedDecode):
    """What these paths share, beside what Triton's have: where they run."""

    hosts = (EMULATED, "cuda")
    drafts = False

    def missing(self, host: str) -> Missing | None:
        from gdn_verify.kernels.cuda import compile as nvrtc
        from gdn_verify.kernels.cuda import emulate

        reason = emulate.compiler_missing() if host == EMULATED else nvrtc.missing()
        return None if reason is None else Missing(reason)

    def environment(self, host: str) -> Mapping[str, str]:
        from gdn_verify.kernels.cuda.emulate import VARIABLE

        return {VARIABLE: "1"} if host == EMULATED else {}

    def load(self, host: str) -> str:
        import gdn_verify.kernels.cuda.decode

        return gdn_verify.__version__

    def _table(self, itemsize: int, geometry: Geometry | None = None) -> tuple[Any, ...]:
        from gdn_verify.kernels.cuda.choices import configurations
        from gdn_verify.kernels.cuda.config import Sizes
        from gdn_verify.kernels.cuda.launch import here

        g = geometry or Geometry(1, 1, 128, 128)
        return configurations(here(), Sizes(g.H, g.HV, g.K, g.V, itemsize, False), self.drafts)


class CudaDecode(Cuda):
    """`cuda.decode.fused_decode`: packed projections to gated norm, one launch."""

    name = "cuda-decode"
    kernels: tuple[str, ...] = ("gdn_cuda_decode",)
    entries: tuple[str, ...] = ("gdn_verify.kernels.cuda.decode:fused_decode",)


class CudaDecodeNull(CudaDecode):
    """`fused_decode` as an engine calls it whose slot 0 is nobody's and whose buffers are its own to clear."""

    name = "cuda-decode-null"
    variant = True
    conventions = FusedDecodeNull.conventions
    padding = FusedDecodeNull.padding


class CudaDecodeRaw(CudaDecode):
    """`fused_decode` of a layer without a norm weight: o, and z beside it."""

    name = "cuda-decode-o"
    variant = True
    capabilities = FusedDecodeRaw.capabilities


class CudaSpec(Cuda, FusedSpec):
    """`cuda.spec.fused_spec_decode`: drafts of up to eight tokens, one launch."""

    name = "cuda-spec"
    kernels = ("gdn_cuda_spec",)
    entries = ("gdn_verify.kernels.cuda.spec:fused_spec_decode",)
    drafts = True


class CudaSpecNull(CudaSpec):
    """`fused_spec_decode` as an engine calls it whose slot 0 is nobody's and whose buffers are its own to clear."""

    name = "cuda-spec-null"
    variant = True
    conventions = FusedDecodeNull.conventions
    padding = FusedDecodeNull.padding


def paths() -> Iterable[Path]:
    """All of them."""
    return (CudaDecode(), CudaDecodeNull(), CudaDecodeRaw(), CudaSpec(), CudaSpecNull())
