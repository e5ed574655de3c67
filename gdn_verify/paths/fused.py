"""This project's Triton kernels: decode in one launch and in two, and speculative decode."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import (
    Capabilities,
    Conventions,
    DType,
    Geometry,
    Group,
    IdRule,
    IllegalIds,
    PadPolicy,
    Span,
    Stage,
)
from gdn_verify.cases.presentation import Presentation
from gdn_verify.oracles.noise import Rounding
from gdn_verify.oracles.rounding import sequential_float32
from gdn_verify.paths.base import Launch, Missing, Outputs, Path
from gdn_verify.paths.fallback import layer, packing
from gdn_verify.paths.installed import function

if TYPE_CHECKING:
    from gdn_verify.kernels.triton.config import Sizes

CONVENTIONS = Conventions(
    pads=tuple((stage, IdRule.OUTSIDE) for stage in (Stage.CONV, Stage.DELTA)),
    illegal_ids=IllegalIds.NO_OP,
    pad_outputs=(("out", PadPolicy.ZEROS), ("z_out", PadPolicy.COPIES)),
)

CARDS = ("cuda", "rocm")
"""Hosts on which a launch may choose more kernels for itself than a path knows."""
ANY_TOKEN = 2**31 - 2**20
"""Elements between tokens where any number is taken: 32 bits count those of one token, and not those of two."""
MOST_TOKEN = 2**25 - 1
"""The same where a row has several, `MOST_STRIDE` of the kernels: 32 bits do not count those of 65 tokens."""


class Fused(Path):
    """What these paths share: where they run, how they pad, what they round."""

    hosts: tuple[str, ...] = ("interpreter", "cuda", "rocm", "gfx942", "gfx950")
    conventions = CONVENTIONS
    least_reach = 0.2

    def configurations(self) -> Iterable[Mapping[str, int]]:
        return [{"config": place} for place in range(max(len(self._table(size)) for size in (2, 4)))]

    def _table(self, itemsize: int, geometry: Geometry | None = None) -> tuple[Any, ...]:
        """The chip's configurations for states of numbers of so many bytes; none where a launch cannot be told."""
        return ()

    def _pinned(self, launch: Launch) -> Any:
        """The configuration that was asked for; None for the launch's own choice."""
        if self.configuration is None:
            return None
        table = self._table(launch["ssm_pool"].element_size(), launch.geometry)
        return table[self.configuration % len(table)]

    def captures(self, launch: Launch) -> bool:
        return True

    def missing(self, host: str) -> Missing | None:
        if find_spec("triton") is None:
            return Missing("triton is not installed", "pip install 'gdn-verify[interpreter]'")
        return None

    def load(self, host: str) -> str:
        import gdn_verify.kernels.triton.decode

        self.besides = None if host in CARDS else ()
        return gdn_verify.__version__


class FusedDecode(Fused):
    """`fused_decode`: packed projections to gated norm, one launch."""

    name = "fused-decode"
    kernels: tuple[str, ...] = ("gdn_decode_kernel",)
    entries: tuple[str, ...] = ("gdn_verify.kernels.triton.decode:fused_decode",)
    passes_over = True
    widest_token = ANY_TOKEN
    #: What is said of padding beside the defaults.
    padding: Mapping[str, Any] = MappingProxyType({})
    capabilities = Capabilities(
        span=Span(Stage.UNPACK, Stage.NORM), groups=frozenset({Group.DECODE}), beta_scales=frozenset({1.0, 2.0})
    )

    def run(self, launch: Launch) -> Outputs:
        out = function(self.entries[0])(
            launch["qkvz"], launch["ba"], layer(launch), launch["conv_pool"], launch["ssm_pool"],
            launch["state_indices"], query_start_loc=launch["query_start_loc"], packing=packing(launch),
            state_order=launch.presentation.state_order.value, output=launch["out"], z_output=launch["z_out"],
            config=self._pinned(launch), **self.padding,
        )  # fmt: skip
        return Outputs(o=out)

    def _table(self, itemsize: int, geometry: Geometry | None = None) -> tuple[Any, ...]:
        from gdn_verify.kernels.triton.config import configurations
        from gdn_verify.kernels.triton.target import current_target

        return configurations(current_target(), _sizes(itemsize, geometry))

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        o = DType.F32 if Stage.NORM in self.capabilities.span else None
        return sequential_float32(case.dtypes, conv_out=DType.F32, o=o)


class FusedDecodeNull(FusedDecode):
    """`fused_decode` as an engine calls it whose slot 0 is nobody's and whose buffers are its own to clear."""

    name = "fused-decode-null"
    variant = True
    conventions = Conventions(
        pads=tuple((stage, IdRule.NOT_POSITIVE) for stage in (Stage.CONV, Stage.DELTA)),
        illegal_ids=IllegalIds.NO_OP,
        pad_outputs=(("out", PadPolicy.UNTOUCHED), ("z_out", PadPolicy.COPIES)),
    )
    padding = MappingProxyType({"pad_slot_id": 0, "zero_pads": False})


class FusedDecodeRaw(FusedDecode):
    """`fused_decode` of a layer without a norm weight: o, and z beside it."""

    name = "fused-decode-o"
    variant = True
    capabilities = Capabilities(
        span=Span(Stage.UNPACK, Stage.DELTA), groups=frozenset({Group.DECODE}), beta_scales=frozenset({1.0, 2.0})
    )


class TwoLaunchDecode(FusedDecodeRaw):
    """`conv_update` then `delta_update`: the origin's split, with the conv's output in between to be judged."""

    name = "two-launch-decode"
    shows = frozenset({"conv"})
    kernels = ("gdn_conv_update_kernel", "gdn_decode_kernel")
    entries = tuple(f"gdn_verify.kernels.triton.two_launch:{name}" for name in ("conv_update", "delta_update"))

    def run(self, launch: Launch) -> Outputs:
        from gdn_verify.kernels.triton.two_launch import conv_update, delta_update

        parameters, rows = layer(launch), launch["state_indices"]
        starts, packed = launch["query_start_loc"], packing(launch)
        width = launch.geometry.D
        mixed_qkv = launch["qkvz"].new_empty(len(launch["qkvz"]), width + launch.presentation.row_pad)[:, :width]
        conv_update(
            launch["qkvz"], parameters, launch["conv_pool"], rows, mixed_qkv, launch["z_out"],
            query_start_loc=starts, packing=packed,
        )  # fmt: skip
        out = delta_update(
            mixed_qkv, launch["ba"], parameters, launch["ssm_pool"], rows, launch["out"],
            query_start_loc=starts, packing=packed, state_order=launch.presentation.state_order.value,
            config=self._pinned(launch),
        )  # fmt: skip
        return Outputs(o=out, stages={"conv": mixed_qkv})

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        return sequential_float32(case.dtypes)


class FusedSpec(FusedDecode):
    """`fused_spec_decode`: drafts of up to eight tokens, one launch."""

    name = "fused-spec"
    kernels = ("gdn_spec_kernel",)
    entries = ("gdn_verify.kernels.triton.spec:fused_spec_decode",)
    passes_over = False
    widest_token = MOST_TOKEN
    least_reach = 0.15
    capabilities = Capabilities(
        span=Span(Stage.UNPACK, Stage.NORM),
        groups=frozenset({Group.SPEC}),
        column_strides=True,
        beta_scales=frozenset({1.0, 2.0}),
    )

    def run(self, launch: Launch) -> Outputs:
        # Plain rows here are padding, and no other launch clears it.
        drafts = launch["spec_rows"] if all(row.spec for row in launch.batch.rows) else None
        out = function(self.entries[0])(
            launch["qkvz"], launch["ba"], layer(launch), launch["conv_pool"], launch["ssm_pool"],
            launch["state_indices"], launch["query_start_loc"], launch["num_accepted_tokens"],
            spec_rows=drafts, packing=packing(launch),
            state_order=launch.presentation.state_order.value, output=launch["out"], z_output=launch["z_out"],
            config=self._pinned(launch), **self.padding,
        )  # fmt: skip
        return Outputs(o=out)

    def _table(self, itemsize: int, geometry: Geometry | None = None) -> tuple[Any, ...]:
        from gdn_verify.kernels.triton.config import spec_configurations
        from gdn_verify.kernels.triton.target import current_target

        width = 1 if geometry is None else geometry.S
        return spec_configurations(current_target(), width, _sizes(itemsize, geometry))


class FusedSpecNull(FusedSpec):
    """`fused_spec_decode` as an engine calls it whose slot 0 is nobody's and whose buffers are its own to clear."""

    name = "fused-spec-null"
    variant = True
    conventions = FusedDecodeNull.conventions
    padding = FusedDecodeNull.padding


def _sizes(itemsize: int, geometry: Geometry | None) -> Sizes:
    from gdn_verify.kernels.triton.config import Sizes

    g = geometry or Geometry(1, 1, 128, 128)
    return Sizes(g.H, g.HV, g.K, g.V, itemsize)


def paths() -> Iterable[Path]:
    """All of them."""
    return (FusedDecode(), FusedDecodeNull(), FusedDecodeRaw(), TwoLaunchDecode(), FusedSpec(), FusedSpecNull())
