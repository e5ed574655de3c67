"""This project's kernels in CUDA C++: on NVIDIA, and the same sources emulated on a plain processor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gdn_verify.cases.contract import Geometry
from gdn_verify.paths.base import Launch, Missing, Outputs, Path
from gdn_verify.paths.fallback import layer, packing
from gdn_verify.paths.fused import FusedDecode, FusedDecodeNull, FusedDecodeRaw, FusedSpec

EMULATED = "emulated-cuda"


class Cuda(FusedDecode):
    """What these paths share, beside what Triton's have: where they run."""

    hosts = (EMULATED, "cuda")

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


class CudaDecode(Cuda):
    """`cuda.decode.fused_decode`: packed projections to gated norm, one launch."""

    name = "cuda-decode"
    kernels: tuple[str, ...] = ("gdn_cuda_decode",)
    entries: tuple[str, ...] = ("gdn_verify.kernels.cuda.decode:fused_decode",)
    drafts = False

    def run(self, launch: Launch) -> Outputs:
        from gdn_verify.kernels.cuda.decode import fused_decode

        out = fused_decode(
            launch["qkvz"], launch["ba"], layer(launch), launch["conv_pool"], launch["ssm_pool"],
            launch["state_indices"], query_start_loc=launch["query_start_loc"], packing=packing(launch),
            state_order=launch.presentation.state_order.value, output=launch["out"], z_output=launch["z_out"],
            config=self._pinned(launch), **self.padding,
        )  # fmt: skip
        return Outputs(o=out)

    def _table(self, itemsize: int, geometry: Geometry | None = None) -> tuple[Any, ...]:
        from gdn_verify.kernels.cuda.choices import configurations
        from gdn_verify.kernels.cuda.config import Sizes
        from gdn_verify.kernels.cuda.launch import here

        g = geometry or Geometry(1, 1, 128, 128)
        return configurations(here(), Sizes(g.H, g.HV, g.K, g.V, itemsize, False), self.drafts)


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


class CudaSpec(CudaDecode):
    """`cuda.spec.fused_spec_decode`: drafts of up to eight tokens, one launch."""

    name = "cuda-spec"
    kernels = ("gdn_cuda_spec",)
    entries = ("gdn_verify.kernels.cuda.spec:fused_spec_decode",)
    least_reach = FusedSpec.least_reach
    capabilities = FusedSpec.capabilities
    drafts = True

    def run(self, launch: Launch) -> Outputs:
        from gdn_verify.kernels.cuda.spec import fused_spec_decode

        # Plain rows here are padding, and no other launch clears it.
        drafts = launch["spec_rows"] if all(row.spec for row in launch.batch.rows) else None
        out = fused_spec_decode(
            launch["qkvz"], launch["ba"], layer(launch), launch["conv_pool"], launch["ssm_pool"],
            launch["state_indices"], launch["query_start_loc"], launch["num_accepted_tokens"],
            spec_rows=drafts, packing=packing(launch),
            state_order=launch.presentation.state_order.value, output=launch["out"], z_output=launch["z_out"],
            config=self._pinned(launch), **self.padding,
        )  # fmt: skip
        return Outputs(o=out)


class CudaSpecNull(CudaSpec):
    """`fused_spec_decode` as an engine calls it whose slot 0 is nobody's and whose buffers are its own to clear."""

    name = "cuda-spec-null"
    variant = True
    conventions = FusedDecodeNull.conventions
    padding = FusedDecodeNull.padding


def paths() -> Iterable[Path]:
    """All of them."""
    return (CudaDecode(), CudaDecodeNull(), CudaDecodeRaw(), CudaSpec(), CudaSpecNull())
