"""AITER's causal convs, each with the recurrence of AITER that reads what it leaves, and that recurrence by itself.

Recurrence: `fused_rearrange_sigmoid_gated_delta_rule`, a [V, K] pool whose slots may be strided, read and written in
place; a negative id pads a row, whose output is not touched, and drops a draft's state
(`…/decode/fused_rearrange_sigmoid_gdr.py:111,151`). Convs: an id equal to pad_slot_id, -1, pads a row, and no other
does (`…/conv/causal_conv1d.py:93,434`); channels and columns of a slot by their strides.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from gdn_verify.cases.case import Batch, Case
from gdn_verify.cases.contract import (
    Capabilities,
    Conventions,
    DType,
    Group,
    IdRule,
    Padding,
    PadPolicy,
    Span,
    Stage,
    StateOrder,
)
from gdn_verify.cases.presentation import Packing, Presentation
from gdn_verify.oracles.noise import Rounding
from gdn_verify.oracles.rounding import CONV, GATES, chunked_tensor_core, overlaid, sequential_float32
from gdn_verify.oracles.sites import Site
from gdn_verify.paths.aiter.base import (
    GATED_DELTA_NET,
    Aiter,
    activation,
    no_rows,
    tap,
    too_many_rows,
    unlike_pool,
)
from gdn_verify.paths.aiter.delta import OPT, as_split, chunked_in_pool, rewritten
from gdn_verify.paths.base import Launch, Outputs, Path
from gdn_verify.paths.engines import accepted
from gdn_verify.paths.installed import function

if TYPE_CHECKING:
    from torch import Tensor

REARRANGED = f"{GATED_DELTA_NET}:fused_rearrange_sigmoid_gated_delta_rule"
RECURRENCE = "fused_rearrange_sigmoid_gated_delta_rule_update_kernel"
ONE_TOKEN = "aiter.ops.triton.conv.causal_conv1d_update_single_token"
CONV1D = "aiter.ops.triton.conv.causal_conv1d"
PADS = Conventions(pads=((Stage.CONV, IdRule.MINUS_ONE), (Stage.DELTA, IdRule.NEGATIVE)))
UNTOUCHED = (("out", PadPolicy.UNTOUCHED),)
VK = frozenset({StateOrder.VK})
BF16 = frozenset({DType.BF16})
LOADED = frozenset({2, 3, 4, 5})
"""Widths whose taps `conv/causal_conv1d.py` loads; of 5 it sums the first one again (`cases/known`)."""


class AiterRearrange(Aiter):
    """`fused_rearrange_sigmoid_gated_delta_rule`: packed q, k and v, gates, recurrence; decode and drafts."""

    name = "aiter-rearrange"
    entries: tuple[str, ...] = (REARRANGED,)
    kernels: tuple[str, ...] = (RECURRENCE,)
    least_reach = 0.05
    conventions = Conventions(pads=((Stage.DELTA, IdRule.NEGATIVE),), pad_outputs=UNTOUCHED)
    capabilities = Capabilities(
        span=Span(Stage.GATES, Stage.DELTA),
        groups=frozenset({Group.DECODE, Group.SPEC}),
        state_orders=VK,
        column_strides=True,
    )

    def run(self, launch: Launch) -> Outputs:
        import torch

        packed = torch.cat([launch[name].flatten(1) for name in ("q", "k", "v")], dim=1)
        rearranged(launch, _wide(packed, launch), launch["a"], launch["b"])
        return Outputs(o=launch["out"])

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        return sequential_float32(case.dtypes)


class AiterConvolved(AiterRearrange):
    """What the paths with a conv share: products of taps in a narrow type, and types that no engine mixes."""

    #: Whether a float32 conv pool of narrow activations is taken.
    wider = False
    conventions = Conventions(pads=PADS.pads, pad_outputs=UNTOUCHED)

    def refuses(self, case: Case, presentation: Presentation) -> str | None:
        return super().refuses(case, presentation) or unlike_pool(case, wider=self.wider)

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        return overlaid(super().rounding(case, presentation, host), {Site.CONV_TAP: (tap(case.dtypes), 1.0)})


class AiterDecode(AiterConvolved):
    """vLLM's fast path on ROCm: `fused_reshape_causal_conv1d_update_single_token`, and the recurrence.

    The first clears the output and copies z, b and a apart, of all tokens that it is told are there; of those behind,
    z is cleared too (`…/causal_conv1d_update_single_token.py:381`).
    """

    name = "aiter-decode"
    entries = (f"{ONE_TOKEN}:fused_reshape_causal_conv1d_update_single_token", REARRANGED)
    kernels = ("_reshape_causal_conv1d_update_single_token_kernel", RECURRENCE)
    wider = True
    least_reach = 0.02
    conventions = Conventions(pads=PADS.pads, pad_outputs=(("out", PadPolicy.ZEROS),))
    capabilities = Capabilities(
        span=Span(Stage.UNPACK, Stage.DELTA), groups=frozenset({Group.DECODE}), min_tokens=1, state_orders=VK
    )

    def run(self, launch: Launch) -> Outputs:
        g, tokens = launch.geometry, launch.batch.tokens
        conv, b, a = function(self.entries[0])(
            launch["qkvz"],
            tokens,
            g.H,
            g.HV,
            g.K,
            g.V,
            launch["ba"],
            launch["z_out"],
            launch["out"],
            launch["conv_pool"],
            launch["conv_weight"],
            launch.get("conv_bias"),
            activation(launch),
            conv_state_indices=launch["state_indices"][:tokens],
            qkvz_layout="flat" if launch.presentation.packing is Packing.FLAT else "interleaved",
        )
        rearranged(launch, conv, a, b)
        return Outputs(o=launch["out"], stages={"conv": padded(launch, conv)})

    def refuses(self, case: Case, presentation: Presentation) -> str | None:
        if not all(batch.tokens for batch in case.batches):
            return "batch.rows=(): it clears outputs in programs of tokens, so there is one"
        return super().refuses(case, presentation)


class AiterSingleToken(AiterConvolved):
    """`causal_conv1d_update_single_token`, which overwrites what it is given, and the recurrence."""

    name = "aiter-single-token"
    entries = (f"{ONE_TOKEN}:causal_conv1d_update_single_token", REARRANGED)
    kernels = ("_causal_conv1d_update_single_token_kernel", RECURRENCE)
    wider = True
    least_reach = 0.01
    capabilities = Capabilities(
        span=Span(Stage.CONV, Stage.DELTA), groups=frozenset({Group.DECODE}), min_tokens=1, state_orders=VK
    )

    def run(self, launch: Launch) -> Outputs:
        tokens = launch.batch.tokens
        conv = function(self.entries[0])(
            _wide(launch["mixed_qkv"][:tokens], launch),
            launch["conv_pool"],
            launch["conv_weight"],
            launch.get("conv_bias"),
            activation(launch),
            conv_state_indices=launch["state_indices"][:tokens],
        )
        rearranged(launch, conv, launch["a"][:tokens], launch["b"][:tokens])
        return Outputs(o=launch["out"], stages={"conv": padded(launch, conv)})


class AiterConvUpdate(AiterConvolved):
    """`causal_conv1d_update` of rows that are equally long, drafts or one token each, and the recurrence.

    The conv knows column 0 of a draft's slots alone: a row whose read column is a sentinel, and whose column 0 is none,
    is no padding to it.
    """

    name = "aiter-conv-update"
    entries = (f"{CONV1D}:causal_conv1d_update", REARRANGED)
    kernels = ("_causal_conv1d_update_kernel", RECURRENCE)
    least_reach = 0.0  # of the probes few have rows of one length
    capabilities = Capabilities(
        span=Span(Stage.CONV, Stage.DELTA),
        groups=frozenset({Group.DECODE, Group.SPEC}),
        mixes=False,
        min_tokens=1,
        equal_lengths=True,
        alike=frozenset({"activation", "conv_state"}),
        widths=LOADED,
        state_orders=VK,
        column_strides=True,
        paddings=frozenset({Padding.SENTINEL_ROW, Padding.TOKENS}),
    )

    def run(self, launch: Launch) -> Outputs:
        tokens, rows = launch.batch.tokens, len(launch.batch.rows)
        conv, slots = _wide(launch["mixed_qkv"][:tokens], launch), launch["state_indices"]
        function(self.entries[0])(
            conv.unflatten(0, (rows, -1)).transpose(1, 2),
            launch["conv_pool"],
            launch["conv_weight"],
            launch.get("conv_bias"),
            activation(launch),
            conv_state_indices=slots if slots.ndim == 1 else slots[:, 0],
            num_accepted_tokens=accepted(launch),
        )
        rearranged(launch, conv, launch["a"][:tokens], launch["b"][:tokens])
        return Outputs(o=launch["out"], stages={"conv": padded(launch, conv)})

    def refuses(self, case: Case, presentation: Presentation) -> str | None:
        for row in (row for batch in case.batches for row in batch.rows):
            if row.padded and row.slots[0] is not None:
                return f"row.slots={row.slots}, accepted={row.accepted}: the conv takes the row for a live one"
        return no_rows(case) or super().refuses(case, presentation)


class AiterConvChunk(Aiter):
    """`causal_conv1d_fn`, `fused_gdn_gating_and_sigmoid`, and `chunk_gated_delta_rule_opt_vk` on a pool: a prefill.

    The conv reads ids without a stride (`…/conv/causal_conv1d.py:88`), and its history in the pool's type or x's by a
    branch at run time, which must be one type to a compiler (:105-144).
    """

    name = "aiter-conv-chunk"
    entries = (
        f"{CONV1D}:causal_conv1d_fn",
        "aiter.ops.triton._triton_kernels.gated_delta_rule.prefill.fused_gdn_gating_prefill:fused_gdn_gating_and_sigmoid",
        f"{GATED_DELTA_NET}:chunk_gated_delta_rule_opt_vk",
    )
    kernels = (
        "_causal_conv1d_fwd_kernel",
        "fused_gdn_gating_sigmoid_kernel",
        *OPT,
        "chunk_gated_delta_rule_fwd_kernel_h_opt_vk",
        "chunk_fwd_kernel_o_opt_vk",
    )
    capabilities = Capabilities(
        span=Span(Stage.CONV, Stage.DELTA),
        groups=frozenset({Group.DECODE, Group.PREFILL}),
        activations=BF16,
        conv_states=BF16,
        weights=frozenset({DType.F32, DType.BF16}),
        states=frozenset({DType.F32, DType.BF16}),
        widths=LOADED,
        state_orders=VK,
        strided=False,
        paddings=frozenset({Padding.EMPTY_ROW, Padding.TOKENS}),
    )

    def run(self, launch: Launch) -> Outputs:
        tokens, x = launch.batch.tokens, launch["mixed_qkv"]
        conv = function(self.entries[0])(
            x[:tokens].T,
            launch["conv_weight"],
            launch.get("conv_bias"),
            launch["conv_pool"],
            launch["query_start_loc"],
            [row.tokens for row in launch.batch.rows],
            cache_indices=launch["state_indices"],
            has_initial_state=launch["has_initial_state"],
            activation=activation(launch),
        ).T
        a, b = launch["a"][:tokens], launch["b"][:tokens]
        g, beta = function(self.entries[1])(launch["A_log"], a, b, launch["dt_bias"])
        chunked_in_pool(launch, {**_split(launch, conv), "g": g, "beta": beta})
        return Outputs(
            o=launch["out"], stages={"conv": padded(launch, conv), "g": padded(launch, g), "beta": padded(launch, beta)}
        )

    def serving(self, batch: Batch, number: int) -> Path:
        return as_split(self, batch)

    def refuses(self, case: Case, presentation: Presentation) -> str | None:
        return no_rows(case) or rewritten(case) or too_many_rows(case)

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        around = {**CONV, **GATES, Site.CONV_OUT: (case.dtypes.activation, 1), Site.CONV_TAP: (tap(case.dtypes), 1)}
        return overlaid(chunked_tensor_core(case.dtypes), around)


def rearranged(launch: Launch, qkv: Tensor, a: Tensor, b: Tensor) -> None:
    """One launch of the recurrence on the launch's pool, into its output."""
    g = launch.geometry
    function(REARRANGED)(
        A_log=launch["A_log"],
        a=a,
        b=b,
        dt_bias=launch["dt_bias"],
        qkv=qkv,
        key_dim=g.H * g.K,
        value_dim=g.HV * g.V,
        head_k_dim=g.K,
        head_v_dim=g.V,
        scale=launch.options.scale,
        initial_state=launch["ssm_pool"],
        cu_seqlens=launch["query_start_loc"],
        ssm_state_indices=launch["state_indices"],
        num_accepted_tokens=accepted(launch),
        use_qk_l2norm_in_kernel=True,
        core_attn_out=launch["out"].view(-1),
    )


def _wide(rows: Tensor, launch: Launch) -> Tensor:
    """A copy that a function may overwrite, with the launch's stride between tokens."""
    width = rows.shape[1]
    wide = rows.new_empty(rows.shape[0], width + launch.presentation.row_pad)[:, :width]
    return wide.copy_(rows)


def padded(launch: Launch, rows: Tensor) -> Tensor:
    """A stage's tensor with rows for the padding behind the last token, as others have them."""
    from torch.nn.functional import pad

    return pad(rows, (0, 0, 0, launch.batch.pad_tokens))


def _split(launch: Launch, conv: Tensor) -> dict[str, Tensor]:
    """q, k and v of the conv's output, each dense."""
    g = launch.geometry
    q, k, v = (part.contiguous() for part in conv.split([g.H * g.K, g.H * g.K, g.HV * g.V], dim=1))
    return {"q": q.unflatten(1, (g.H, g.K)), "k": k.unflatten(1, (g.H, g.K)), "v": v.unflatten(1, (g.HV, g.V))}


def paths() -> Iterable[Aiter]:
    """All of them."""
    return (AiterRearrange(), AiterDecode(), AiterSingleToken(), AiterConvUpdate(), AiterConvChunk())
