"""SGLang's recurrences token by token: of dense states, of a pool, with gates of a and b, and the packed decode.

All sum in float32 over a tile of the whole K. That with gates has K along the tile's first axis, which the interpreter
sums one after the other.
"""

from __future__ import annotations

from dataclasses import replace

from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import Capabilities, DType, Group, Kind, Padding, Span, Stage
from gdn_verify.cases.presentation import Presentation
from gdn_verify.oracles.noise import Rounding
from gdn_verify.oracles.rounding import F32, overlaid, sequential_float32
from gdn_verify.oracles.sites import Site
from gdn_verify.paths.base import Launch, Outputs
from gdn_verify.paths.engines import filled, packed_decode, positive_scale, serial, side_by_side
from gdn_verify.paths.installed import function
from gdn_verify.paths.sglang.base import FLA, LINEAR, VK, Sglang, skips, too_many_rows

RECURRENT = f"{FLA}.fused_recurrent:fused_recurrent_gated_delta_rule"
UPDATE = f"{FLA}.fused_recurrent:fused_recurrent_gated_delta_rule_update"
PACKED = f"{FLA}.fused_recurrent:fused_recurrent_gated_delta_rule_packed_decode"
SIGMOID = f"{LINEAR}.fused_sigmoid_gating_recurrent:fused_sigmoid_gating_delta_rule_update"
PLAIN = frozenset({Group.DECODE, Group.PREFILL})
SHORT = frozenset({Kind.DECODE, Kind.MIXED})
"""Kinds that a token-by-token kernel is judged on: long rows are slow, and mixed launches have them."""
WHOLE_ROWS = frozenset({Padding.SENTINEL_ROW, Padding.EMPTY_ROW, Padding.SENTINEL_EMPTY_ROW, Padding.TOKENS})
"""Padding of a launch without `query_start_loc`: rows without tokens stand at its end, and are cut off."""


class Recurrent(Sglang):
    """`fused_recurrent_gated_delta_rule`: g and β given, dense states in and float32 states out."""

    name = "sglang-recurrent"
    judged = SHORT
    least_reach = 0.05
    kernels: tuple[str, ...] = ("fused_recurrent_gated_delta_rule_fwd_kernel",)
    entries: tuple[str, ...] = (RECURRENT,)
    capabilities = Capabilities(
        span=Span(Stage.DELTA, Stage.DELTA),
        groups=PLAIN,
        pool=False,
        paddings=frozenset[Padding](),
        state_orders=VK,
        beta_scales=frozenset({1.0, 2.0}),
    )

    def run(self, launch: Launch) -> Outputs:
        given = {name: launch[name][None] for name in ("q", "k", "v", "g", "beta")}
        o, state = function(RECURRENT)(
            **given, scale=launch.options.scale, initial_state=launch["initial_state"], output_final_state=True,
            cu_seqlens=launch["query_start_loc"], use_qk_l2norm_in_kernel=True,
        )  # fmt: skip
        return Outputs(o=filled(launch, o[0]).o, final_state=state)

    def refuses(self, case: Case, presentation: Presentation) -> str | None:
        return positive_scale(case)

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        return sequential_float32(case.dtypes, store=F32)


class RecurrentUpdate(Recurrent):
    """`fused_recurrent_gated_delta_rule_update`: g and β given, a pool in place; every row has a state.

    `input_guard` makes all tensors contiguous, the pool too (`attention/fla/utils.py:152`): one with holes between its
    slots would be updated in a copy that is thrown away, so it is given dense ones. The slot of a row without tokens is
    written over.
    """

    name = "sglang-recurrent-update"
    kernels = ("fused_recurrent_gated_delta_rule_update_fwd_kernel",)
    entries = (UPDATE,)
    conventions = skips(Stage.DELTA)
    capabilities = replace(
        Recurrent.capabilities,
        pool=True,
        strided=False,
        min_tokens=1,
        fresh_rows=False,
        paddings=frozenset({Padding.SENTINEL_ROW, Padding.SENTINEL_EMPTY_ROW, Padding.TOKENS}),
    )

    def run(self, launch: Launch) -> Outputs:
        given = {name: launch[name][None] for name in ("q", "k", "v", "g", "beta")}
        o = function(UPDATE)(
            **given, scale=launch.options.scale, initial_state_source=launch["ssm_pool"],
            initial_state_indices=launch["state_indices"], cu_seqlens=launch["query_start_loc"],
            use_qk_l2norm_in_kernel=True,
        )  # fmt: skip
        return filled(launch, o[0])

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        return sequential_float32(case.dtypes)


class SigmoidGating(Sglang):
    """`fused_sigmoid_gating_delta_rule_update`: gates and recurrence, a pool in place; every row has a state.

    What decodes call where the packed one is not to be had (`srt/layers/attention/linear/kernels/gdn_triton.py:140`).
    Ids are read without a stride (`attention/linear/fused_sigmoid_gating_recurrent.py:271`), so dense ones are given.
    """

    name = "sglang-sigmoid-gating"
    judged = SHORT
    least_reach = 0.05
    kernels = ("fused_sigmoid_gating_delta_rule_update_kernel",)
    entries = (SIGMOID,)
    conventions = skips(Stage.DELTA)
    capabilities = Capabilities(
        span=Span(Stage.GATES, Stage.DELTA),
        groups=PLAIN,
        min_tokens=1,
        paddings=RecurrentUpdate.capabilities.paddings,
        state_orders=VK,
        fresh_rows=False,
    )

    def run(self, launch: Launch) -> Outputs:
        given = {name: launch[name][None] for name in ("q", "k", "v")}
        o = function(SIGMOID)(
            **given, **{name: launch[name] for name in ("A_log", "dt_bias", "a", "b")}, softplus_beta=1.0,
            softplus_threshold=20.0, scale=launch.options.scale, initial_state_source=launch["ssm_pool"],
            initial_state_indices=launch["state_indices"].contiguous(), cu_seqlens=launch["query_start_loc"],
            use_qk_l2norm_in_kernel=True,
        )  # fmt: skip
        return filled(launch, o[0])

    def refuses(self, case: Case, presentation: Presentation) -> str | None:
        return positive_scale(case) or too_many_rows(case)

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        return sequential_float32(case.dtypes, serial=serial(case, host))


class PackedDecode(Sglang):
    """`fused_recurrent_gated_delta_rule_packed_decode`: q, k and v side by side in one row, as the conv leaves them.

    Called as the backend does (`srt/layers/attention/linear/kernels/gdn_triton.py:118`). β is rounded to the type of b
    (`attention/fla/fused_recurrent.py:255`); a padded row's output is cleared (:227).
    """

    name = "sglang-packed-decode"
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
        mixed_qkv = side_by_side(launch)
        return filled(launch, packed_decode(launch, PACKED, mixed_qkv))

    def refuses(self, case: Case, presentation: Presentation) -> str | None:
        return asks_for_a_card(case)

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        return overlaid(sequential_float32(case.dtypes), beta_as(case.dtypes.activation))


def beta_as(dtype: DType) -> dict[Site, tuple[DType, float]]:
    """β in the type of b, 16 bits in a layer of 16 bits."""
    return {Site.BETA: (dtype, 1.0)}


def asks_for_a_card(case: Case) -> str | None:
    """Why the packed decode cannot run off CUDA, or None: one row of this shape makes it ask for the card's version.

    (`attention/fla/fused_recurrent.py:365`.) The tile that it then takes on Blackwell is another one, and nothing else.
    """
    g, of = case.geometry, case.dtypes
    shape = (2 * g.H * g.K + g.HV * g.V, g.HV, g.V, g.K, of.activation, of.state)
    if shape != (2560, 12, 128, 128, DType.BF16, F32):
        return None
    alone = any(batch.tokens == 1 for batch in case.batches)
    return (
        "one row of 12 heads of 128 numbers: PyTorch for processors does not answer which card it is" if alone else None
    )
