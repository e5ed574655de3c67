"""FLA's functions of a whole layer core, one after the other: conv, gates, delta rule and gated norm.

fla-core 0.6.0 has no layer of its own; its callers join these functions, states being tensors of a cache [N, D, W] and
[N, HV, V, K], one a row. A prompt takes `causal_conv1d` and the chunk kernels, a batch of single tokens
`causal_conv1d_update`, which shifts the cache in place, and the recurrent kernel. Whoever has a pool gathers and
scatters, as these paths do; the oldest of the W inputs in a cache must not matter, and is NaN.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import Activation, Capabilities, DType, Group, Span, Stage, StateOrder
from gdn_verify.cases.presentation import Presentation
from gdn_verify.oracles.noise import Rounding
from gdn_verify.oracles.rounding import CONV, NORM
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

    hosts = ("interpreter", "cuda", "rocm")
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

    def _delta(
        self, launch: Launch, q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor
    ) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


class FlaLayerDecode(FlaLayer):
    """`causal_conv1d_update` and the recurrent kernel on batches of single tokens."""

    name = "fla-layer-decode"
    kernels = ("causal_conv1d_update_kernel", *GATES, *FlaRecurrent.kernels, NORMED)
    entries = ("fla.modules.causal_conv1d:causal_conv1d_update", *AROUND, *FlaRecurrent.entries)
