"""This project's chunked prefill in CUDA C++: on NVIDIA, and the same source emulated on a plain processor."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import Dims, DType, Geometry, Group, IdRule, PadPolicy, Stage
from gdn_verify.cases.presentation import Presentation
from gdn_verify.oracles.noise import Rounding
from gdn_verify.oracles.rounding import folded_chunks
from gdn_verify.paths.base import Launch, Outputs, Path
from gdn_verify.paths.chunk import ChunkDelta
from gdn_verify.paths.cuda import EMULATED, Cuda
from gdn_verify.paths.fallback import tables

CHUNK = 64


class CudaChunkDelta(Cuda):
    """`cuda.prefill.chunk_delta`: q/k norm and delta, one launch."""

    name = "cuda-chunk-delta"
    kernels: tuple[str, ...] = ("gdn_cuda_chunk_delta",)
    entries: tuple[str, ...] = ("gdn_verify.kernels.cuda.prefill:chunk_delta",)
    #: Of the probes, which are of all sizes, few are of those that it takes.
    least_reach = 0.03
    conventions = ChunkDelta.conventions
    capabilities = replace(
        ChunkDelta.capabilities, key_dim=Dims(64, 128, power_of_two=True), value_dim=Dims(16, 256, power_of_two=True),
        activations=frozenset({DType.BF16, DType.F16}), strided=False, misaligned=False,
    )  # fmt: skip
    #: What is said of padding beside the defaults.
    padding = MappingProxyType[str, Any]({})

    def _table(self, itemsize: int, geometry: Geometry | None = None) -> tuple[Any, ...]:
        from gdn_verify.kernels.cuda.chunks import CANDIDATES

        return CANDIDATES

    def load(self, host: str) -> str:
        import gdn_verify.kernels.cuda.prefill

        return gdn_verify.__version__

    def run(self, launch: Launch) -> Outputs:
        from gdn_verify.kernels.cuda.prefill import chunk_delta

        o = chunk_delta(
            launch["q"], launch["k"], launch["v"], launch["g"], launch["beta"], launch["ssm_pool"], tables(launch),
            scale=launch.options.scale, state_order=launch.presentation.state_order.value, output=launch["out"],
            config=self._pinned(launch), **self.padding,
        )  # fmt: skip
        return Outputs(o=o)

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        """That of Triton's: the same operands are rounded to the same types, and k̂ with e^(G_C - G) in it."""
        return folded_chunks(case.dtypes, chunk=CHUNK, truncates=host != EMULATED)


class CudaChunkDeltaNull(CudaChunkDelta):
    """`chunk_delta` as an engine calls it whose slot 0 is nobody's and whose buffers are its own to clear."""

    name = "cuda-chunk-delta-null"
    variant = True
    least_reach = 0.02
    capabilities = replace(CudaChunkDelta.capabilities, groups=frozenset({Group.PREFILL}))
    conventions = replace(
        CudaChunkDelta.conventions, pads=((Stage.DELTA, IdRule.NOT_POSITIVE),),
        pad_outputs=(("out", PadPolicy.UNTOUCHED),),
    )  # fmt: skip
    padding = MappingProxyType({"pad_slot_id": 0, "zero_pads": False})


def paths() -> Iterable[Path]:
    """Both."""
    return (CudaChunkDelta(), CudaChunkDeltaNull())
