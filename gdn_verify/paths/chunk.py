"""This project's Triton kernels of a chunked prefill: the recurrence over rows of any length, and the conv before it.

How long a chunk is decides where a launch rounds. It is the chip's choice (`choose_shape`), or that of a name: a sweep
over configurations asks for paths such as `chunk-delta:chunk=64`, by the fields of `Shape`. Segments are declared where
a name asks for them: those that a launch chooses for itself are of narrow operands, whose roundings hide the join's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import product
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import (
    Capabilities,
    Conventions,
    Dims,
    DType,
    Geometry,
    Group,
    IdRule,
    IllegalIds,
    Kind,
    PadPolicy,
    Span,
    Stage,
)
from gdn_verify.cases.presentation import Presentation
from gdn_verify.oracles.noise import Rounding
from gdn_verify.oracles.rounding import CONV, GATES, folded_chunks
from gdn_verify.oracles.sites import Site
from gdn_verify.paths.base import Launch, Outputs
from gdn_verify.paths.fallback import layer, packing, tables
from gdn_verify.paths.fused import CONVENTIONS, MOST_TOKEN, Fused

if TYPE_CHECKING:
    from torch import Tensor

    from gdn_verify.kernels.triton.shape import Shape
    from gdn_verify.kernels.triton.target import Target

CHIPS = {"interpreter": ("interpreter", ""), "cuda": ("cuda", "90"), "rocm": ("hip", "gfx942")}
CHIPS |= {name: ("hip", name) for name in ("gfx942", "gfx950")}
"""The chip that a declaration is for where the host's own is not known: before `load`."""
PLAIN = frozenset({Group.DECODE, Group.PREFILL})
JOINED = ("gdn_span_kernel", "gdn_join_kernel")
"""What a launch in segments runs besides."""
CHUNKS = (16, 32, 64)
TALL, TALL_REACH = 64, 0.6
"""Tokens of a chunk that a Hopper card refuses of unaligned keys; which share of a path's reach is of the others."""
HOPPER_KEYS = Dims(64, 128, power_of_two=True)


class ChunkDelta(Fused):
    """`chunk_delta`: q/k norm and delta."""

    name = "chunk-delta"
    #: Of two scans on Hopper, where rows, heads and operands decide; a path with `groups` names its own.
    kernels: tuple[str, ...] = ("gdn_intra_kernel", "scan_kernel")
    entries: tuple[str, ...] = ("gdn_verify.kernels.triton.chunk:chunk_delta",)
    widest_token = MOST_TOKEN
    least_reach = 0.45
    #: Of the probes, which are of all sizes, few are of the sizes that Hopper's scan has.
    hopper_reach = 0.03
    conventions = Conventions(
        pads=((Stage.DELTA, IdRule.OUTSIDE),),
        illegal_ids=IllegalIds.NO_OP,
        pad_outputs=(("out", PadPolicy.ZEROS),),
    )
    capabilities = Capabilities(
        span=Span(Stage.DELTA, Stage.DELTA), groups=PLAIN, separate_slots=True, beta_scales=frozenset({1.0, 2.0})
    )
    #: All products in float32, also of narrower operands.
    exact = False
    #: Fields of `Shape` that are not the chip's choice.
    settings: Mapping[str, int] = MappingProxyType({})
    #: What is said of padding beside the defaults.
    padding: Mapping[str, Any] = MappingProxyType({})

    def __init__(self) -> None:
        self._chip: Target | None = None

    def configured(self, settings: Mapping[str, int]) -> ChunkDelta:
        other = type(self)()
        other.settings, other.configuration = settings, 0
        own = tuple(name for name in self.kernels if name not in JOINED)
        other.kernels = (*own, *JOINED) if settings.get("segments", 1) > 1 else own
        if settings.get("chunk") == TALL:
            other.least_reach = TALL_REACH * self.least_reach
        if settings.get("groups") == 0:
            other.kernels = tuple(name.replace("scan_kernel", "gdn_scan_kernel") for name in other.kernels)
        if groups := settings.get("groups"):
            from gdn_verify.kernels.triton.shape import HOPPER_AHEAD

            other.hosts = ("cuda",)
            other.settings = MappingProxyType({"ahead": HOPPER_AHEAD[groups], **settings})
            other.kernels = tuple(name.replace("scan_kernel", "gdn_hopper_scan_kernel") for name in other.kernels)
            other.capabilities = replace(
                self.capabilities, key_dim=HOPPER_KEYS, value_dim=Dims(64 * groups, 256, multiple=64 * groups),
                activations=frozenset({DType.BF16, DType.F16}), strided=False, misaligned=False,
            )  # fmt: skip
            other.least_reach = self.hopper_reach
        return other

    def configurations(self) -> Iterable[Mapping[str, int]]:
        from gdn_verify.kernels.triton.target import INTERPRETER, Target

        assert self._chip is not None, "load comes before configurations"
        cut = [{"chunk": chunk, "segments": segments} for chunk in CHUNKS for segments in (1, 3)]
        wide = [{"chunk": 64, "intra_warps": 8, "scan_warps": 8, "ahead": 1, "block_v": rows} for rows in (16, 64)]
        if self._chip == INTERPRETER:  # to which warps and chunks ahead are nothing
            return [*cut, *({"chunk": 64, "block_v": tile["block_v"]} for tile in wide)]
        hopper = self._chip == Target("cuda", "90") and not self.exact
        own = [{"groups": groups, "segments": segments} for groups in (1, 2) for segments in (1, 3) if hopper]
        fields = ("chunk", "intra_warps", "scan_warps", "ahead")
        tiles = [dict(zip(fields, tile, strict=True)) for tile in product(CHUNKS, (4, 8), (4, 8), (1, 2, 3))]
        if hopper:  # where these are wrong, and refused but for float32 operands, which another path is for
            wide = [tile for tile in wide if tile["block_v"] == 64]
            tiles = [tile for tile in tiles if (tile["chunk"], tile["ahead"]) != (64, 1)]
        return [*cut, *wide, *own, *tiles]

    def refuses(self, case: Case, presentation: Presentation) -> str | None:
        """Shapes that are known to be wrong on this chip are refused by the launch too."""
        from gdn_verify.kernels.triton.shape import refuse_wrong

        if not self.settings or self._chip is None:
            return None
        in_words = self._always_in_words(case, presentation)
        exact = self._is_exact(case.dtypes.activation)
        shape = self._shape(case.geometry, exact, in_words=in_words)
        try:
            refuse_wrong(shape, self._chip, in_words, case.geometry.V, exact)
        except ValueError as error:
            return str(error)
        return None

    def load(self, host: str) -> str:
        from gdn_verify.kernels.triton.target import current_target

        self._shape(Geometry(1, 1, 16, 16), True, host)  # raises TypeError for a field that does not exist
        self._chip = current_target()
        return super().load(host)

    def run(self, launch: Launch) -> Outputs:
        return Outputs(o=self._delta(launch, launch["q"], launch["k"], launch["v"], launch["g"], launch["beta"]))

    def _delta(self, launch: Launch, q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor) -> Tensor:
        from gdn_verify.kernels.triton.chunk import chunk_delta
        from gdn_verify.kernels.triton.shape import moves_in_words

        exact = self._is_exact(launch.dtypes.activation)
        return chunk_delta(
            q, k, v, g, beta, launch["ssm_pool"], tables(launch), scale=launch.options.scale, exact=self.exact,
            state_order=launch.presentation.state_order.value, output=launch["out"],
            qk_norm=not self.capabilities.span.qk_normalised, **self.padding,
            shape=self._shape(launch.geometry, exact, in_words=moves_in_words(q, k)) if self.settings else None,
        )  # fmt: skip

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        exact = self._is_exact(case.dtypes.activation)
        shape = self._shape(case.geometry, exact, host, self._in_words(case, presentation))
        # float32 operands meet neither tensor cores nor trees: loops of a thread, and the interpreter's BLAS, add up K
        # terms one after the other.
        serial = case.geometry.K
        return folded_chunks(
            case.dtypes, chunk=shape.chunk, exact=exact, serial=serial, truncates=host != "interpreter",
            segment=_segment(case, shape),
        )  # fmt: skip

    def _in_words(self, case: Case, presentation: Presentation) -> bool:
        """What `moves_in_words` will find of q and k."""
        from gdn_verify.kernels.triton.shape import lie_in_words

        K, shift = case.geometry.K, presentation.misalign * case.dtypes.activation.itemsize
        tokens = (case.geometry.H * K + pads * presentation.row_pad for pads in (1, 2))
        return all(lie_in_words(token, K, shift) for token in tokens)

    def _always_in_words(self, case: Case, presentation: Presentation) -> bool:
        """The same of all launches of a case, those in which it does not matter to the result too."""
        return self._in_words(case, presentation)

    def _is_exact(self, activation: DType) -> bool:
        return self.exact or activation is DType.F32

    def _shape(self, geometry: Geometry, exact: bool, host: str = "", in_words: bool = True) -> Shape:
        """How a launch is cut on the loaded host's chip, or on one of `host`'s."""
        from gdn_verify.kernels.triton.shape import choose_shape, padded
        from gdn_verify.kernels.triton.target import Target

        chip = self._chip or Target(*CHIPS[host])
        return replace(choose_shape(chip, padded(geometry.K), exact, in_words, geometry.V), **self.settings)


class ChunkDeltaExact(ChunkDelta):
    """`chunk_delta` in float32 throughout, in segments: q, k and v have strides of their own, and little noise."""

    name = "chunk-delta-exact"
    variant = True
    judged = frozenset({Kind.PREFILL})  # rows of one token are those of the other path in float32
    kernels = (*ChunkDelta.kernels, *JOINED)
    settings = MappingProxyType({"segments": 3})
    exact = True


class ChunkDeltaLong(ChunkDelta):
    """`chunk_delta` in chunks of 64 tokens: the choice of many a chip, and never the interpreter's own."""

    name = "chunk-delta-long"
    variant = True
    hosts = ("interpreter",)
    least_reach = 0.2
    capabilities = replace(ChunkDelta.capabilities, groups=frozenset({Group.PREFILL}))
    settings = MappingProxyType({"chunk": 64})


class ConvChunkDelta(ChunkDelta):
    """`prepare_prefill` from packed projections, then `chunk_delta` on views of the conv's output, and its gates.

    Where tokens are dense it is `conv_prefill` to a tensor of the caller's, and torch's gates.
    """

    name = "conv-chunk-delta"
    shows = frozenset({"conv", "g", "beta"})
    judged: frozenset[Kind] | None = frozenset({Kind.PREFILL, Kind.MIXED})  # which has rows of one token too
    kernels: tuple[str, ...] = ("gdn_conv_prefill_kernel", *ChunkDelta.kernels)
    entries: tuple[str, ...] = (
        *(f"gdn_verify.kernels.triton.conv_prefill:{name}" for name in ("conv_prefill", "prepare_prefill")),
        *ChunkDelta.entries,
    )
    least_reach = 0.45
    conventions = replace(CONVENTIONS, pad_outputs=(*CONVENTIONS.pad_outputs, ("conv", PadPolicy.ZEROS)))
    capabilities = Capabilities(
        span=Span(Stage.UNPACK, Stage.DELTA), groups=PLAIN, separate_slots=True, beta_scales=frozenset({1.0, 2.0})
    )

    def run(self, launch: Launch) -> Outputs:
        import torch

        from gdn_verify.kernels import fallback
        from gdn_verify.kernels.stages import split_qkv, unpack
        from gdn_verify.kernels.triton.conv_prefill import conv_prefill, prepare_prefill

        parameters = layer(launch)
        _, z, b, a = unpack(launch["qkvz"], launch["ba"], *parameters.geometry, packing(launch))
        launch["z_out"].copy_(z)
        if launch.presentation.row_pad:
            conv, g, beta = prepare_prefill(
                launch["qkvz"], launch["ba"], parameters, launch["conv_pool"], tables(launch),
                packing=packing(launch), pad_slot_id=None, z_output=None,
            )  # fmt: skip
        else:  # NaN, as what is not written may by chance be zeros
            conv = launch["qkvz"].new_full((z.shape[0], parameters.channels), torch.nan)
            conv_prefill(
                launch["qkvz"], parameters, launch["conv_pool"], tables(launch), packing=packing(launch), output=conv
            )
            g, beta = fallback.gates(a, b, parameters.A_log, parameters.dt_bias, parameters.beta_scale)
        q, k, v = split_qkv(conv, *parameters.geometry)
        return Outputs(o=self._delta(launch, q, k, v, g, beta), stages={"conv": conv, "g": g, "beta": beta})

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        delta = super().rounding(case, presentation, host)
        before = {**CONV, **GATES, Site.CONV_OUT: (case.dtypes.activation, 1)}
        if host == "interpreter":  # its exp errs little, and log(1 + e^x) is formed so that the sum does not matter
            del before[Site.SOFTPLUS]
        rows = tuple((site, dtype, float(factor)) for site, (dtype, factor) in before.items())
        return replace(delta, sites=(*rows, *delta.sites))

    def _in_words(self, case: Case, presentation: Presentation) -> bool:
        return _dense(case.geometry)

    def _always_in_words(self, case: Case, presentation: Presentation) -> bool:
        """Heads that are viewed in a single token say nothing of how tokens lie."""
        from gdn_verify.kernels.triton.shape import lie_in_words

        g, single = case.geometry, any(batch.tokens + batch.pad_tokens == 1 for batch in case.batches)
        return self._in_words(case, presentation) and (not single or lie_in_words(g.H * g.K, g.K))


UNWRITTEN = 0x7FA5
"""A bfloat16 NaN that no arithmetic makes."""


class PrefillNull(ConvChunkDelta):
    """`chunked_prefill` of a layer without a norm weight, as an engine calls it whose slot 0 is nobody's.

    And whose buffers are its own to clear. Rows are scanned in segments, as few long prompts would be. Of float32
    activations o is given in bfloat16, and where tokens are dense z is left to the caller.
    """

    name = "prefill-null"
    shows = frozenset()
    variant = True
    kernels = (*ConvChunkDelta.kernels, *JOINED)
    entries = ("gdn_verify.kernels.triton.prefill:chunked_prefill",)
    least_reach, hopper_reach = 0.2, 0.01
    capabilities = replace(ConvChunkDelta.capabilities, groups=frozenset({Group.PREFILL}))
    judged = None
    conventions = Conventions(
        pads=tuple((stage, IdRule.NOT_POSITIVE) for stage in (Stage.CONV, Stage.DELTA)),
        illegal_ids=IllegalIds.NO_OP,
        pad_outputs=(("out", PadPolicy.UNTOUCHED), ("z_out", PadPolicy.UNSPECIFIED)),
    )
    settings = MappingProxyType({"segments": 2})
    padding = MappingProxyType({"pad_slot_id": 0, "zero_pads": False})

    def run(self, launch: Launch) -> Outputs:
        import torch

        from gdn_verify.kernels.stages import split_qkv, unpack
        from gdn_verify.kernels.triton.prefill import chunked_prefill
        from gdn_verify.kernels.triton.shape import moves_in_words

        parameters, out, z_out, dtype = layer(launch), launch["out"], launch["z_out"], launch.dtypes.activation
        conv = launch["qkvz"].new_empty(out.shape[0], parameters.channels)  # laid out as the launch's own will be
        in_words = moves_in_words(*split_qkv(conv, *parameters.geometry)[:2])
        shape = self._shape(launch.geometry, self._is_exact(dtype), in_words=in_words)
        narrow = torch.full_like(out, UNWRITTEN, dtype=torch.int16).view(torch.bfloat16) if dtype is DType.F32 else None
        chunked_prefill(
            launch["qkvz"], launch["ba"], parameters, launch["conv_pool"], launch["ssm_pool"], tables(launch),
            packing=packing(launch), state_order=launch.presentation.state_order.value, shape=shape,
            output=out if narrow is None else narrow, z_output=z_out if launch.presentation.row_pad else None,
            **self.padding,
        )  # fmt: skip
        if not launch.presentation.row_pad:
            z_out.copy_(unpack(launch["qkvz"], launch["ba"], *parameters.geometry, packing(launch))[1])
        if narrow is not None:
            out.copy_(torch.where(narrow.view(torch.int16) == UNWRITTEN, out, narrow.float()))
        return Outputs(o=out)

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        plain = super().rounding(case, presentation, host)
        if case.dtypes.activation is not DType.F32:
            return plain
        sites = (site for site in plain.sites if site[0] is not Site.OUT)
        return replace(plain, sites=(*sites, (Site.OUT, DType.BF16, 1.0)))


def _dense(g: Geometry) -> bool:
    """What `moves_in_words` will find of views of the conv's output, which is dense."""
    from gdn_verify.kernels.triton.shape import lie_in_words

    return lie_in_words(g.D, g.K)


def _segment(case: Case, shape: Shape) -> int:
    """Tokens of a segment in the shortest launch, so in the one that joins most; 0 where rows are not cut."""
    from gdn_verify.kernels.triton.segments import Cut

    if shape.segments < 2:
        return 0
    launched = [batch.tokens + batch.pad_tokens for batch in case.batches]
    return min((Cut.of(1, T, shape.chunk, shape.segments).tokens for T in launched if T), default=0)


def chunk_length(geometry: Geometry, exact: bool, host: str) -> int:
    """Tokens of a chunk as `chunk_delta` chooses on `host`'s chip for views of the conv's output."""
    from gdn_verify.kernels.triton.shape import choose_shape, lie_in_words, padded
    from gdn_verify.kernels.triton.target import Target

    in_words = lie_in_words(geometry.D, geometry.K)
    return choose_shape(Target(*CHIPS[host]), padded(geometry.K), exact, in_words, geometry.V).chunk


def paths() -> Iterable[ChunkDelta]:
    """Each in the chip's configuration."""
    return (ChunkDelta(), ChunkDeltaExact(), ChunkDeltaLong(), ConvChunkDelta(), PrefillNull())
