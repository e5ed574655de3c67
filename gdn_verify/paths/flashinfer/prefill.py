"""`chunk_gated_delta_rule`: prompts of any length in chunks of 64 tokens, from α = e^g and β in float32.

On SM90 it is one kernel (`flashinfer`, which `auto` is too), or four that cut rows into chunks which are computed
beside each other (`use_cp`); `auto` takes the latter where rows times heads leave half of the card idle
(gdn_prefill.py:953), so that here both are asked for by name. `cake_gdn` and `cudnn` are for SM100. The kernels take
unit vectors: `use_qk_l2norm_in_kernel` runs a kernel before, whose result is of the activations' type
(gdn_kernels/qk_l2norm.py:112).

α is taken back to log2(α + 1e-10) (gdn_kernels/delta_rule_dsl/alpha.py:37): no decay is less than 1e-10. A row without
tokens does nothing, so that of dense states its new one is not written
(gdn_kernels/delta_rule_dsl/delta_rule_sm90.py:2225); on a pool that is right. A scale of 0 is replaced
(gdn_prefill.py:940). These are rules of the ledger. No id is padding, all are read (:1242).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import Capabilities, DType, Group, Padding, Span, Stage
from gdn_verify.cases.presentation import Presentation
from gdn_verify.oracles.noise import Rounding
from gdn_verify.paths.base import Launch, Outputs, Path
from gdn_verify.paths.flashinfer import sites
from gdn_verify.paths.flashinfer.base import F32, HEAD, VK, Flashinfer, compact, dense, unaligned
from gdn_verify.paths.installed import function

if TYPE_CHECKING:
    from torch import Tensor

CHUNKED = "flashinfer.gdn_prefill:chunk_gated_delta_rule"
NARROW = frozenset({DType.BF16, DType.F16})
SM100 = ((10, 0), (10, 3))
LENGTHS = (64, 128, 512)
"""Tokens of a chunk that is computed beside others, of which there are configurations: multiples of 64."""


class Chunk(Flashinfer):
    """Dense states, q and k normalised by whoever calls, as SGLang does and as vLLM 0.33.0 does."""

    name = "flashinfer-chunk"
    entries: tuple[str, ...] = (CHUNKED,)
    normalises = False
    cp = False
    backend = "flashinfer"
    #: Tokens of a chunk computed beside others; None for as many as the function chooses.
    length: int | None = None
    capabilities = Capabilities(
        span=Span(Stage.DELTA, Stage.DELTA, qk_normalised=True),
        groups=frozenset({Group.DECODE, Group.PREFILL}),
        pool=False,
        key_dim=HEAD,
        value_dim=HEAD,
        activations=NARROW,
        gates=F32,
        state_orders=VK,
        paddings=frozenset(),
        misaligned=False,
    )

    def run(self, launch: Launch) -> Outputs:
        fresh = all(row.fresh for row in launch.batch.rows)  # as a caller knows, who need not look on the device
        before = launch["initial_state"].contiguous()
        after = before.new_full(before.shape, float("nan"))
        self.call(launch, prompt(launch), launch["query_start_loc"], launch["out"], None if fresh else before, after)
        return Outputs(o=launch["out"], final_state=after)

    def call(
        self, launch: Launch, operands: Mapping[str, Tensor], starts: Tensor, out: Tensor, before: Tensor | None,
        after: Tensor, **options: object,
    ) -> None:  # fmt: skip
        """One call, into `out` and `after`."""
        told: dict[str, Any] = {**operands, **options}
        if self.length is not None:
            told["_cp_chunk_len"] = self.length
        function(CHUNKED)(
            **told, scale=launch.options.scale, initial_state=before, output_final_state=True, cu_seqlens=starts,
            use_qk_l2norm_in_kernel=self.normalises, output=out, output_state=after, use_cp=self.cp,
            backend=self.backend,
        )  # fmt: skip

    def refuses(self, case: Case, presentation: Presentation) -> str | None:
        return nothing(case)

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        return sites.chunked(case.dtypes, normalises=self.normalises, joins=self.cp)


class ChunkNormed(Chunk):
    """The same with `use_qk_l2norm_in_kernel`."""

    name = "flashinfer-chunk-normed"
    normalises = True
    variant = True
    capabilities = replace(Chunk.capabilities, span=Span(Stage.DELTA, Stage.DELTA))


class ChunkPool(ChunkNormed):
    """The same on a pool by `state_indices`, in place: what is read is what is written.

    The caller clears the slots of rows without initial state, as is done here.
    """

    name = "flashinfer-chunk-pool"
    variant = False
    capabilities = replace(ChunkNormed.capabilities, pool=True, paddings=frozenset({Padding.EMPTY_ROW, Padding.TOKENS}))

    def run(self, launch: Launch) -> Outputs:
        pool, slots, starts = launch["ssm_pool"], launch["state_indices"], launch["query_start_loc"]
        pool[slots[~launch["has_initial_state"] & (starts.diff() > 0)].long()] = 0
        out = launch["out"][: launch.batch.tokens]
        self.call(launch, prompt(launch), starts, out, pool, pool, state_indices=compact(slots))
        return Outputs(o=launch["out"])

    def refuses(self, case: Case, presentation: Presentation) -> str | None:
        return super().refuses(case, presentation) or unaligned(case, presentation)


class ChunkCp(ChunkNormed):
    """Rows in chunks beside each other (`use_cp=True`); of 64 tokens by name, `flashinfer-chunk-cp:length=64`."""

    name = "flashinfer-chunk-cp"
    cp = True
    variant = False

    def configured(self, settings: Mapping[str, int]) -> Path | None:
        if set(settings) != {"length"} or settings["length"] not in LENGTHS:
            return None
        other = copy(self)
        other.length = settings["length"]
        return other

    def configurations(self) -> Iterable[Mapping[str, int]]:
        return [{"length": length} for length in LENGTHS]


class ChunkCake(Chunk):
    """`backend="cake_gdn"`: sources of its own, which nvcc compiles (jit/cake_gdn.py:810). Read, and never run."""

    name = "flashinfer-chunk-cake"
    backend = "cake_gdn"
    cards = SM100


class ChunkCudnn(Chunk):
    """`backend="cudnn"`: cuDNN's linear attention (flashinfer/cudnn). Declared from its docstring, and never run."""

    name = "flashinfer-chunk-cudnn"
    backend = "cudnn"
    cards = SM100


def prompt(launch: Launch) -> dict[str, Tensor]:
    """q, k, v, α as `g` and β of the launch's tokens, dense."""
    tensors = {name: dense(launch, name) for name in ("q", "k", "v", "beta")}
    return {**tensors, "g": dense(launch, "g").exp()}


def nothing(case: Case) -> str | None:
    """A launch of no tokens, which no engine makes: there are no tensors to address, and q is asked for its length."""
    return None if all(batch.tokens for batch in case.batches) else "a launch of no tokens"
