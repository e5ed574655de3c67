"""vLLM's recurrences token by token: with gates given, with gates of a and b, and the packed one of a decode.

All sum in float32 over a tile of the whole K; a row's state is read and written in its slot. Of drafts, row n reads the
slot in column accepted-1 of its table and writes that of column t after token t. Without counts the kernels still look
for a column a token, in what is then a list of slots (fused_recurrent.py:154), so plain rows have one token each.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import Capabilities, Group, Padding, Span, Stage
from gdn_verify.cases.presentation import Presentation
from gdn_verify.oracles.noise import Rounding
from gdn_verify.oracles.rounding import sequential_float32
from gdn_verify.paths.base import Launch, Outputs
from gdn_verify.paths.engines import accepted, filled, packed_decode, positive_scale, side_by_side
from gdn_verify.paths.installed import function
from gdn_verify.paths.vllm_triton.base import OPS, VK, Vllm, skips

if TYPE_CHECKING:
    from torch import Tensor

SIGMOID = f"{OPS}.fused_sigmoid_gating:fused_sigmoid_gating_delta_rule_update"
RECURRENT = f"{OPS}.fused_recurrent:fused_recurrent_gated_delta_rule"
PACKED = f"{OPS}.fused_recurrent:fused_recurrent_gated_delta_rule_packed_decode"
WHOLE_ROWS = frozenset({Padding.SENTINEL_ROW, Padding.EMPTY_ROW, Padding.TOKENS})
"""Padding of a launch without `query_start_loc`: rows without tokens stand at its end, and are cut off."""


class Recurrence(Vllm):
    """One token a plain row, any number a draft, of pools; drafts and plain rows are launched apart."""

    least_reach = 0.05
    conventions = skips(Stage.DELTA)
    capabilities = Capabilities(
        span=Span(Stage.DELTA, Stage.DELTA),
        groups=frozenset({Group.DECODE, Group.SPEC}),
        mixes=False,  # `_forward_core` asserts that no batch has both
        state_orders=VK,
        fresh_rows=False,  # a prefill's, whose states are cleared by the caller
    )

    def run(self, launch: Launch) -> Outputs:
        q, k, v = (launch[name][None] for name in ("q", "k", "v"))
        return filled(launch, update(launch, self.entries[0], q, k, v, **self.gates(launch))[0])

    def gates(self, launch: Launch) -> dict[str, Tensor]:
        """The arguments that are this recurrence's own."""
        raise NotImplementedError

    def refuses(self, case: Case, presentation: Presentation) -> str | None:
        return positive_scale(case)

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        return sequential_float32(case.dtypes)


def update(launch: Launch, entry: str, q: Tensor, k: Tensor, v: Tensor, **gates: Tensor) -> Tensor:
    """One call as the layer makes it, in place of the pool; o is [1, tokens, HV, V]."""
    o, _ = function(entry)(
        q=q, k=k, v=v, **gates, scale=launch.options.scale, initial_state=launch["ssm_pool"], inplace_final_state=True,
        cu_seqlens=launch["query_start_loc"], ssm_state_indices=launch["state_indices"],
        num_accepted_tokens=accepted(launch), use_qk_l2norm_in_kernel=True,
    )  # fmt: skip
    out: Tensor = o
    return out


class Recurrent(Recurrence):
    """`fused_recurrent_gated_delta_rule`: g and β are given."""

    name = "vllm-recurrent"
    kernels: tuple[str, ...] = ("fused_recurrent_gated_delta_rule_fwd_kernel",)
    entries: tuple[str, ...] = (RECURRENT,)
    capabilities = replace(Recurrence.capabilities, beta_scales=frozenset({1.0, 2.0}))

    def gates(self, launch: Launch) -> dict[str, Tensor]:
        return {name: launch[name][None] for name in ("g", "beta")}


class SigmoidGating(Recurrence):
    """`fused_sigmoid_gating_delta_rule_update`: drafts, and decodes beside prompts."""

    name = "vllm-sigmoid-gating"
    kernels = ("fused_sigmoid_gating_delta_rule_update_kernel",)
    entries = (SIGMOID,)
    capabilities = replace(Recurrence.capabilities, span=Span(Stage.GATES, Stage.DELTA))

    def gates(self, launch: Launch) -> dict[str, Tensor]:
        return {name: launch[name] for name in ("A_log", "dt_bias", "a", "b")}


class PackedDecode(Vllm):
    """`fused_recurrent_gated_delta_rule_packed_decode`: q, k and v side by side in one row, as the conv leaves them."""

    name = "vllm-packed-decode"
    least_reach = 0.02
    kernels = ("fused_recurrent_gated_delta_rule_packed_decode_kernel",)
    entries = (PACKED,)
    conventions = skips(Stage.DELTA)
    capabilities = Capabilities(
        span=Span(Stage.GATES, Stage.DELTA),
        groups=frozenset({Group.DECODE}),
        min_tokens=1,
        max_tokens=1,
        paddings=WHOLE_ROWS,
        state_orders=VK,
        fresh_rows=False,
    )

    def run(self, launch: Launch) -> Outputs:
        return filled(launch, packed_decode(launch, PACKED, side_by_side(launch)))

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        return sequential_float32(case.dtypes)
