"""AITER's functions that take g and β, or a and b, beside q, k and v: recurrent, and chunked in three forms.

None of them has a stride between tokens: they index q, k, v, g and β as dense (`…/decode/fused_recurrent.py:120`,
`…/utils/wy_representation.py:77`), and FLA's `input_guard`, which would copy others, stands before two of the functions
here alone. So dense ones are what they are given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from gdn_verify.cases.case import Batch, Case
from gdn_verify.cases.contract import (
    Capabilities,
    Conventions,
    DType,
    Group,
    IdRule,
    Kind,
    Padding,
    Span,
    Stage,
    StateOrder,
)
from gdn_verify.cases.presentation import Presentation
from gdn_verify.oracles.noise import Rounding
from gdn_verify.oracles.rounding import chunked_tensor_core, sequential_float32
from gdn_verify.paths.aiter.base import GATED_DELTA_NET, Aiter, no_rows, too_many_rows
from gdn_verify.paths.base import Launch, Outputs, Path
from gdn_verify.paths.engines import serial
from gdn_verify.paths.installed import function

if TYPE_CHECKING:
    from torch import Tensor

PLAIN = frozenset({Group.DECODE, Group.PREFILL})
NO_PADDING: frozenset[Padding] = frozenset()
NARROW = frozenset({DType.BF16, DType.F16})
DENSE_ROWS = frozenset({DType.F32})
CHUNKED = ("l2norm_fwd_kernel",)
OPT = (
    *CHUNKED,
    "fused_chunk_local_cumsum_scaled_dot_kkt_fwd_kernel",
    "fused_solve_tril_recompute_w_u_kernel",
)
SPLIT = ("merge_16x16_to_64x64_inverse_kernel", "recompute_w_u_head_major_kernel")
"""What comes in the place of the last of OPT where a launch has more than MOST_FUSED chunks of 64 tokens."""
MOST_FUSED = 32
"""By default: it can be set (`…/prefill/fused_solve_tril_recompute.py:37,63`)."""
DECODE = "aiter.ops.triton._triton_kernels.gated_delta_rule.decode.fused_sigmoid_gating_recurrent"


class AiterDense(Aiter):
    """Packed tokens and dense states, one a row; the state given back is float32 and new."""

    #: What is said beside the arguments that all have.
    told: Mapping[str, Any] = MappingProxyType({})

    def run(self, launch: Launch) -> Outputs:
        fresh = all(row.fresh for row in launch.batch.rows)  # as a caller knows, who need not look on the device
        out, state = function(self.entries[0])(
            **{name: launch[name][None] for name in ("q", "k", "v", "g", "beta")},
            scale=launch.options.scale,
            initial_state=None if fresh else launch["initial_state"],
            output_final_state=True,
            use_qk_l2norm_in_kernel=True,
            cu_seqlens=launch["query_start_loc"],
            **self.told,
        )
        launch["out"].copy_(out[0])
        return Outputs(o=launch["out"], final_state=state)

    def refuses(self, case: Case, presentation: Presentation) -> str | None:
        return None


class AiterRecurrent(AiterDense):
    """`fused_recurrent_gated_delta_rule`: [K, V] states, float32 inside, any ratio of heads, any K in one tile."""

    name = "aiter-recurrent"
    entries = (f"{GATED_DELTA_NET}:fused_recurrent_gated_delta_rule",)
    kernels = ("_fused_recurrent_gated_delta_rule_fwd_kernel",)
    judged = frozenset({Kind.DECODE, Kind.MIXED})  # token by token, long rows are slow, and mixed launches have them
    least_reach = 0.05
    capabilities = Capabilities(
        span=Span(Stage.DELTA, Stage.DELTA),
        groups=PLAIN,
        pool=False,
        paddings=NO_PADDING,
        state_orders=frozenset({StateOrder.KV}),
        strided=False,
        beta_scales=frozenset({1.0, 2.0}),
    )

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        return sequential_float32(case.dtypes, store=DType.F32, serial=serial(case, host))


class AiterSigmoidGating(Aiter):
    """`fused_sigmoid_gating_delta_rule_update`: gates and recurrence, a [K, V] pool in place; rows of any length.

    A negative id marks a padded row, whose output is of its inputs and no state
    (`…/fused_sigmoid_gating_recurrent.py:113,184`). Every live row has an initial state. `input_guard` makes all
    tensors contiguous, the pool too (`gated_delta_rule_utils.py:193-201`): one with holes between its slots is updated
    in a copy that is thrown away (`cases/known/aiter-pool-with-holes.json`).
    """

    name = "aiter-sigmoid-gating"
    entries = (f"{DECODE}:fused_sigmoid_gating_delta_rule_update",)
    kernels = ("fused_sigmoid_gating_delta_rule_update_kernel",)
    least_reach = 0.02
    conventions = Conventions(pads=((Stage.DELTA, IdRule.NEGATIVE),))
    judged = frozenset({Kind.DECODE, Kind.MIXED})
    capabilities = Capabilities(
        span=Span(Stage.GATES, Stage.DELTA),
        groups=PLAIN,
        state_orders=frozenset({StateOrder.KV}),
        fresh_rows=False,
    )

    def run(self, launch: Launch) -> Outputs:
        out = function(self.entries[0])(
            launch["A_log"],
            launch["a"],
            launch["dt_bias"],
            1.0,
            20.0,
            *(launch[name][None] for name in ("q", "k", "v")),
            launch["b"],
            launch["ssm_pool"],
            launch["state_indices"],
            scale=launch.options.scale,
            use_qk_l2norm_in_kernel=True,
            cu_seqlens=launch["query_start_loc"],
        )
        launch["out"].copy_(out[0])
        return Outputs(o=launch["out"])

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        return sequential_float32(case.dtypes, serial=serial(case, host))


class AiterChunk(AiterDense):
    """`chunk_gated_delta_rule`: FLA's chunks of 64 tokens; as many heads of q and k as of v, [K, V] states."""

    name = "aiter-chunk"
    entries = (f"{GATED_DELTA_NET}:chunk_gated_delta_rule",)
    kernels: tuple[str, ...] = (
        *CHUNKED,
        "chunk_local_cumsum_scalar_kernel",
        "chunk_scaled_dot_kkt_fwd_kernel",
        "merge_16x16_to_64x64_inverse_kernel",
        "recompute_w_u_fwd_kernel",
        "chunk_gated_delta_rule_fwd_kernel_h_blockdim64",
        "chunk_fwd_kernel_o",
    )
    capabilities = Capabilities(
        span=Span(Stage.DELTA, Stage.DELTA),
        groups=PLAIN,
        pool=False,
        ratios=frozenset({1}),
        activations=NARROW,
        gates=DENSE_ROWS,
        paddings=NO_PADDING,
        state_orders=frozenset({StateOrder.KV}),
        strided=False,
        beta_scales=frozenset({1.0, 2.0}),
    )

    def refuses(self, case: Case, presentation: Presentation) -> str | None:
        return no_rows(case)

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        return chunked_tensor_core(case.dtypes, store=DType.F32)


class AiterChunkOpt(AiterChunk):
    """`chunk_gated_delta_rule_opt`: fewer kernels, head-major w and u, any ratio of heads; [K, V] states.

    Its docstring gives v as many heads as k (`gated_delta_net/gated_delta_rule.py:373`), the functions below it do not
    (`…/prefill/chunk.py:164-166`). β·k is an operand of k kᵀ (`…/prefill/fused_cumsum_kkt.py:255`); that rounding is of
    the size of INVERSE's, and has no site.
    """

    name = "aiter-chunk-opt"
    entries = (f"{GATED_DELTA_NET}:chunk_gated_delta_rule_opt",)
    kernels: tuple[str, ...] = (*OPT, "chunk_gated_delta_rule_fwd_kernel_h_opt", "chunk_fwd_kernel_o_opt")
    capabilities = replace(AiterChunk.capabilities, ratios=Capabilities(AiterChunk.capabilities.span).ratios)

    def serving(self, batch: Batch, number: int) -> Path:
        return as_split(self, batch)


class AiterChunkVk(AiterChunkOpt):
    """`chunk_gated_delta_rule_opt_vk` with its Triton kernels: [V, K] states, exp2, the output in the caller's buffer.

    As vLLM calls it for its FlyDSL kernels: dense states that it has gathered, float32 given back.
    """

    name = "aiter-chunk-vk"
    entries = (f"{GATED_DELTA_NET}:chunk_gated_delta_rule_opt_vk",)
    kernels: tuple[str, ...] = (*OPT, "chunk_gated_delta_rule_fwd_kernel_h_opt_vk", "chunk_fwd_kernel_o_opt_vk")
    capabilities = replace(
        AiterChunkOpt.capabilities,
        states=frozenset({DType.F32, DType.BF16}),  # as documented: `gated_delta_net/gated_delta_rule.py:506`
        state_orders=frozenset({StateOrder.VK}),
    )


class AiterChunkPool(AiterChunkVk):
    """The same on a pool by ids, in place, with a schedule made of the rows' lengths on the host.

    The pool is contiguous, or refused (`…/prefill/chunk_delta_h.py:1372`); no id is padding, all are read. A caller
    clears the slots of rows without initial state, as is done here.
    """

    name = "aiter-chunk-vk-pool"
    capabilities = replace(AiterChunkVk.capabilities, pool=True, paddings=frozenset({Padding.EMPTY_ROW}))

    def run(self, launch: Launch) -> Outputs:
        chunked_in_pool(launch, {name: launch[name] for name in ("q", "k", "v", "g", "beta")})
        return Outputs(o=launch["out"])

    def refuses(self, case: Case, presentation: Presentation) -> str | None:
        return no_rows(case) or rewritten(case) or too_many_rows(case)  # the schedule numbers rows right

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        return chunked_tensor_core(case.dtypes)


def chunked_in_pool(launch: Launch, operands: Mapping[str, Tensor]) -> None:
    """One launch of `chunk_gated_delta_rule_opt_vk` on the launch's pool, into its output; T tokens, none beyond."""
    pool, slots = launch["ssm_pool"], launch["state_indices"].long()
    lengths = launch["query_start_loc"].diff()
    pool[slots[~launch["has_initial_state"] & (lengths > 0)]] = 0
    function(AiterChunkVk.entries[0])(
        **{name: value[None] for name, value in operands.items()},
        o=launch["out"][None, : launch.batch.tokens],
        scale=launch.options.scale,
        initial_state=pool,
        output_final_state=True,
        use_qk_l2norm_in_kernel=True,
        cu_seqlens=launch["query_start_loc"],
        seq_lens_cpu=[row.tokens for row in launch.batch.rows],
        initial_state_indices=launch["state_indices"],
    )


def as_split(path: Aiter, batch: Batch) -> Path:
    """The path, with the kernels that serve a launch of so many chunks."""
    chunks = sum(-(-row.tokens // 64) for row in batch.rows)
    if chunks <= MOST_FUSED or OPT[-1] not in path.kernels:
        return path
    other = copy(path)
    other.kernels = tuple(name for name in path.kernels if name != OPT[-1]) + SPLIT
    return other


def rewritten(case: Case) -> str | None:
    """A row of no tokens and no state: the kernel reads and stores its slot, and a NaN there gets other bits.

    Of 16 bits everywhere, of 32 on cards of NVIDIA, whose products have one NaN. Whatever a slot may hold that a later
    launch reads comes back as it was.
    """
    if any(row.fresh and not row.tokens for batch in case.batches for row in batch.rows):
        return "a row of no tokens and no state: its slot's NaN would get other bits"
    return None


def paths() -> Iterable[Aiter]:
    """All of them."""
    return (
        AiterRecurrent(), AiterSigmoidGating(), AiterChunk(), AiterChunkOpt(), AiterChunkVk(), AiterChunkPool(),
    )  # fmt: skip
