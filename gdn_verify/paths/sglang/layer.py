"""What SGLang's backend launches one after the other, from the convolution to the gated norm: decodes and prompts.

The calls of `GDNAttnBackend.forward_decode` and `forward_extend` (`srt/layers/attention/linear/gdn_backend.py:678`,
:948), and of the norm after them, each with the arguments that it gets there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import Capabilities, ConvLayout, Group, Padding, Span, Stage
from gdn_verify.cases.presentation import Presentation
from gdn_verify.oracles.noise import Rounding
from gdn_verify.oracles.rounding import CONV, GATES, NORM, overlaid, sequential_float32
from gdn_verify.oracles.sites import Site
from gdn_verify.paths.base import Launch, Outputs
from gdn_verify.paths.engines import filled, heads, packed_decode, row_behind_empty
from gdn_verify.paths.installed import function
from gdn_verify.paths.sglang import chunk, conv
from gdn_verify.paths.sglang.base import FLA, LINEAR, NARROW, VK, Sglang, skips
from gdn_verify.paths.sglang.recurrent import PACKED, WHOLE_ROWS, asks_for_a_card, beta_as

if TYPE_CHECKING:
    from torch import Tensor

GATING = f"{LINEAR}.fused_gdn_gating:fused_gdn_gating"
SPLIT = "sglang.kernels.ops.attention.triton_gdn_fused_proj:fused_qkv_split_gdn_prefill"
GATED = f"{FLA}.fused_norm_gate:rms_norm_gated"
NORMS = ("layer_norm_gated_fwd_kernel",)
MOST_SPLIT = 8192
"""Channels that one block takes apart (`MAX_FUSED_QKV_SPLIT_DIM`, gdn_backend.py:46); of more, views are taken."""


class Layer(Sglang):
    """From the packed q, k and v before the convolution to the output of the norm."""

    least_reach = 0.01
    conventions = skips(Stage.CONV, Stage.DELTA)
    capabilities = Capabilities(
        span=Span(Stage.CONV, Stage.NORM),
        widths=conv.WIDTHS,
        min_tokens=1,
        state_orders=VK,
        scales=False,  # the layer has no say in it
        fresh_rows=False,
    )


class Decode(Layer):
    """`causal_conv1d_update`, the packed decode, and the norm: a batch of decodes alone."""

    name = "sglang-decode"
    kernels = ("_causal_conv1d_update_kernel", "fused_recurrent_gated_delta_rule_packed_decode_kernel", *NORMS)
    entries = (conv.UPDATE, PACKED, GATED)
    capabilities = replace(Layer.capabilities, groups=frozenset({Group.DECODE}), max_tokens=1, paddings=WHOLE_ROWS)

    def run(self, launch: Launch) -> Outputs:
        convolved = conv.update(launch, launch["mixed_qkv"][: launch.batch.tokens])
        o = packed_decode(launch, PACKED, convolved)
        return filled(launch, norm(launch, o.clone()), conv=convolved, o=o)

    def refuses(self, case: Case, presentation: Presentation) -> str | None:
        return asks_for_a_card(case) or conv.two_kinds(case)

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        of = case.dtypes
        return overlaid(sequential_float32(of), conv.sites(of), beta_as(of.activation))


class Extend(Layer):
    """`causal_conv1d_fn`, `fused_qkv_split_gdn_prefill`, `fused_gdn_gating`, chunks, and the norm: a batch of prompts.

    A pool that is not contiguous is gathered before and scattered after, as the backend does (gdn_backend.py:1022).
    There an id of -1 is the last slot, which a padded row would write over; the engine's padded rows own slot 0. Nor
    are there padded rows with tokens: the conv leaves theirs unwritten, and the chunks would read them.
    """

    name = "sglang-extend"
    least_reach = 0.005
    kernels = (
        "_causal_conv1d_fwd_kernel",
        "fused_gdn_gating_kernel",
        *chunk.KERNELS,
        *NORMS,
    )
    entries = (conv.PREFILL, SPLIT, GATING, chunk.CHUNK, GATED)
    capabilities = replace(
        Layer.capabilities, groups=frozenset({Group.DECODE, Group.PREFILL}), activations=NARROW, fresh_rows=True,
        alike=conv.ALIKE, paddings=frozenset({Padding.SENTINEL_EMPTY_ROW, Padding.TOKENS}),
    )  # fmt: skip

    def run(self, launch: Launch) -> Outputs:
        import torch

        tokens, rows = launch.batch.tokens, launch["state_indices"]
        if not tokens:  # no engine launches that
            return Outputs(o=launch["out"])
        chunk.clear(launch)
        pools = launch["conv_pool"], launch["ssm_pool"]
        if all(pool.is_contiguous() for pool in pools):
            return self.launched(launch, pools, rows)
        gathered = pools[0][rows.long()].contiguous(), pools[1][rows.long()].contiguous()
        outputs = self.launched(launch, gathered, torch.arange(len(rows), dtype=rows.dtype, device=rows.device))
        for pool, states in zip(pools, gathered, strict=True):
            pool[rows.long()] = states
        return outputs

    def launched(self, launch: Launch, pools: tuple[Tensor, Tensor], rows: Tensor) -> Outputs:
        """The launch on states that row n finds at `rows[n]`."""
        tokens, (conv_pool, ssm_pool) = launch.batch.tokens, pools
        convolved = conv.prefill(launch, launch["mixed_qkv"][:tokens], conv_pool, rows)
        a, b = (launch[name][:tokens] for name in ("a", "b"))
        g, beta = function(GATING)(launch["A_log"], a, b, launch["dt_bias"])
        q, k, v = taken_apart(launch, convolved)
        o = chunk.chunks(launch, {"q": q, "k": k, "v": v, "g": g, "beta": beta}, ssm_pool, rows)
        return filled(launch, norm(launch, o.clone()), conv=convolved, o=o, g=g[0], beta=beta[0])

    def refuses(self, case: Case, presentation: Presentation) -> str | None:
        return row_behind_empty(case) or gathered_padding(case, presentation)

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        of = case.dtypes
        stored = dict.fromkeys((Site.CONV_OUT, Site.NORM_OUT), (of.activation, 1.0))
        around = {**CONV, **GATES, **NORM, **stored, **conv.sites(of), **beta_as(of.activation)}
        return overlaid(chunk.rounding(of, host), around)


def gathered_padding(case: Case, presentation: Presentation) -> str | None:
    """Why a case has a padded row in pools that would be gathered, or None."""
    whole = not presentation.slot_pad and presentation.conv_layout is ConvLayout.C_CONTIGUOUS
    if whole or not any(row.padded for batch in case.batches for row in batch.rows):
        return None
    return "rows: a padded one, whose id would be the last slot of a pool that is gathered"


def taken_apart(launch: Launch, convolved: Tensor) -> tuple[Tensor, ...]:
    """q, k and v, [1, tokens, heads, dim], by a kernel where there are not too many channels, as on cards."""
    g = launch.geometry
    if g.D > MOST_SPLIT:
        return heads(launch, convolved)
    parts: tuple[Tensor, ...] = function(SPLIT)(convolved, g.H, g.H, g.HV, g.K, g.K, g.V)
    return parts


def norm(launch: Launch, o: Tensor) -> Tensor:
    """`FusedRMSNormGated`, which writes over its input (`attention/fla/fused_norm_gate.py:236`)."""
    options = launch.options
    out: Tensor = function(GATED)(
        o, launch["z"][: len(o)], launch["norm_weight"], None, options.norm_activation.value, eps=options.norm_eps
    )
    return out
