"""FLA's functions of a whole layer core, one after the other: conv, gates, delta rule and gated norm.

fla-core 0.6.0 has no layer of its own; its callers join these functions, states being tensors of a cache [N, D, W] and
[N, HV, V, K], one a row. A prompt takes `causal_conv1d` and the chunk kernels, a batch of single tokens
`causal_conv1d_update`, which shifts the cache in place, and the recurrent kernel. Whoever has a pool gathers and
scatters, as these paths do; the oldest of the W inputs in a cache must not matter, and is NaN.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import Activation, Capabilities, DType, Group, Span, Stage, StateOrder
from gdn_verify.cases.presentation import Presentation
from gdn_verify.oracles.noise import Rounding
from gdn_verify.oracles.rounding import CONV, NORM, overlaid
from gdn_verify.oracles.sites import Site
from gdn_verify.paths.base import Launch, Missing, Outputs, Path
from gdn_verify.paths.fla import (
    BETA_KERNEL,
    MODULE,
    NO_PADDING,
    FlaChunk,
    FlaRecurrent,
    chunk_rounding,
    load_fla,
    missing_fla,
    recurrent_rounding,
    with_gates,
)
from gdn_verify.paths.gathered import conv_windows, put_conv_windows, put_states, states

if TYPE_CHECKING:
    from torch import Tensor

GATES = ("gdn_gate_fwd_kernel", BETA_KERNEL)
NORMED = "layer_norm_gated_fwd_kernel"
AROUND = (
    f"{MODULE}.gate:fused_gdn_gate",
    "fla.ops.common.gate:fused_beta_sigmoid",
    "fla.modules.norm.fused_norm_gate:rms_norm_gated",
)


class FlaLayer(Path):
    """What both share: pools without padding, float32 states, every stage shown."""

    hosts = ("interpreter", "cuda", "rocm", "gfx942", "gfx950")
    capabilities = Capabilities(
        span=Span(Stage.CONV, Stage.NORM),
        groups=frozenset({Group.DECODE, Group.PREFILL}),
        paddings=NO_PADDING,
        states=frozenset({DType.F32}),
        beta_scales=frozenset({1.0, 2.0}),
    )

    def missing(self, host: str) -> Missing | None:
        return missing_fla()

    def load(self, host: str) -> str:
        load_fla("fla.modules.causal_conv1d", "causal_conv1d_update")
        load_fla("fla.modules.norm.fused_norm_gate", "rms_norm_gated")
        return load_fla(f"{MODULE}.gate", "fused_gdn_gate")

    def run(self, launch: Launch) -> Outputs:
        from fla.modules.norm.fused_norm_gate import rms_norm_gated
        from fla.ops.common.gate import fused_beta_sigmoid
        from fla.ops.gated_delta_rule.gate import fused_gdn_gate

        geometry, options = launch.geometry, launch.options
        conv = self._conv(launch)
        keys = geometry.H * geometry.K
        q, k, v = conv.split([keys, keys, geometry.HV * geometry.V], dim=1)
        g = fused_gdn_gate(launch["a"], launch["A_log"], launch["dt_bias"])
        beta = fused_beta_sigmoid(launch["b"], options.beta_scale)
        heads = (q.unflatten(1, (geometry.H, -1)), k.unflatten(1, (geometry.H, -1)), v.unflatten(1, (geometry.HV, -1)))
        o, state = self._delta(launch, *heads, g, beta)
        put_states(launch, state)
        gate = "silu" if options.norm_activation is Activation.SILU else "sigmoid"
        out = rms_norm_gated(o, launch["z"], launch["norm_weight"], None, gate, eps=options.norm_eps)
        launch["out"].copy_(out)
        return Outputs(o=launch["out"], stages={"conv": conv, "g": g, "beta": beta, "o": o})

    def _conv(self, launch: Launch) -> Tensor:
        raise NotImplementedError

    def _delta(self, launch: Launch, q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


class FlaLayerDecode(FlaLayer):
    """`causal_conv1d_update` and the recurrent kernel on batches of single tokens."""

    name = "fla-layer-decode"
    kernels = ("causal_conv1d_update_kernel", *GATES, *FlaRecurrent.kernels, NORMED)
    entries = ("fla.modules.causal_conv1d:causal_conv1d_update", *AROUND, *FlaRecurrent.entries)
    least_reach = 0.015
    capabilities = replace(FlaLayer.capabilities, groups=frozenset({Group.DECODE}), min_tokens=1)

    def _conv(self, launch: Launch) -> Tensor:
        from fla.modules.causal_conv1d import causal_conv1d_update

        cache = conv_windows(launch)
        y, cache = causal_conv1d_update(
            launch["mixed_qkv"][None], cache, weight=launch["conv_weight"], bias=launch.get("conv_bias"),
            activation=_silu(launch),
        )  # fmt: skip
        put_conv_windows(launch, cache)
        return y[0]

    def _delta(self, launch: Launch, q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
        from fla.ops.gated_delta_rule import fused_recurrent_gated_delta_rule

        o, state = fused_recurrent_gated_delta_rule(q[None], k[None], v[None], g[None], **_shared(launch, beta))
        return o[0], state

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        return with_gates(recurrent_rounding(case, host), host)


class FlaLayerPrefill(FlaLayer):
    """`causal_conv1d` and the chunk kernels on rows of any length."""

    name = "fla-layer-prefill"
    kernels = ("causal_conv1d_fwd_kernel", "causal_conv1d_states_fwd_kernel", *GATES, *FlaChunk().kernels, NORMED)
    entries = ("fla.modules.causal_conv1d:causal_conv1d", *AROUND, *FlaChunk.entries)
    least_reach = 0.009
    # A new conv cache has x's type, whatever the old one's (`causal_conv1d/ops.py:845`).
    capabilities = replace(
        FlaLayer.capabilities, activations=frozenset({DType.BF16}), conv_states=frozenset({DType.BF16})
    )

    def _conv(self, launch: Launch) -> Tensor:
        from fla.modules.causal_conv1d import causal_conv1d

        y, cache = causal_conv1d(
            launch["mixed_qkv"][None], launch["conv_weight"], launch.get("conv_bias"),
            initial_state=conv_windows(launch), output_final_state=True, activation=_silu(launch),
            cu_seqlens=launch["query_start_loc"],
        )  # fmt: skip
        put_conv_windows(launch, cache)
        return y[0]

    def _delta(self, launch: Launch, q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
        from fla.ops.gated_delta_rule import chunk_gated_delta_rule

        o, state = chunk_gated_delta_rule(q[None], k[None], v[None], g[None], **_shared(launch, beta))
        return o[0], state

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        delta = with_gates(chunk_rounding(case, host, FlaChunk.chunk), host)
        stored = dict.fromkeys((Site.CONV_OUT, Site.NORM_OUT), (case.dtypes.activation, 1.0))
        return overlaid(delta, {**CONV, **NORM, **stored})


def _silu(launch: Launch) -> str | None:
    return "silu" if launch.options.conv_activation is Activation.SILU else None


def _shared(launch: Launch, beta: Tensor) -> dict[str, Any]:
    """The arguments that both functions take alike."""
    return {
        "beta": beta[None], "scale": launch.options.scale, "initial_state": states(launch), "output_final_state": True,
        "use_qk_l2norm_in_kernel": True, "state_v_first": launch.presentation.state_order is StateOrder.VK,
        "cu_seqlens": launch["query_start_loc"],
    }  # fmt: skip


def paths() -> Iterable[Path]:
    """Both; joined by "+", the second takes decode steps after the first's prompts."""
    return (FlaLayerPrefill(), FlaLayerDecode())
