"""The fallback's stages one by one, as who replaces one of them calls the others: each public function on its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from gdn_verify.cases.contract import PadPolicy
from gdn_verify.paths.base import Launch, Outputs
from gdn_verify.paths.fallback import Fallback, layer, packing


class FallbackStages(Fallback):
    """`unpack`, `causal_conv`, `gates`, `qk_norm`, `delta_rule` and `gated_norm`; what padding comes to is not said."""

    name = "fallback-stages"
    variant = True
    hosts = ("cpu",)
    conventions = replace(
        Fallback.conventions, pad_outputs=(("out", PadPolicy.UNSPECIFIED), ("z_out", PadPolicy.UNSPECIFIED))
    )

    def run(self, launch: Launch) -> Outputs:
        from gdn_verify.kernels import stages
        from gdn_verify.kernels.conv import causal_conv
        from gdn_verify.kernels.delta import delta_rule

        ours = layer(launch)
        x, z, b, a = stages.unpack(launch["qkvz"], launch["ba"], *ours.geometry, packing(launch))
        launch["z_out"].copy_(z)
        own, starts, resumed = launch["state_indices"], launch["query_start_loc"], launch["has_initial_state"]
        counts, drafts, reads = (launch.get(n) for n in ("num_accepted_tokens", "spec_rows", "read_indices"))
        conv = causal_conv(
            x, ours.conv_weight, ours.conv_bias, launch["conv_pool"], own, starts, resumed, counts,
            spec_rows=drafts, read_indices=reads, activation=ours.conv_activation,
        )  # fmt: skip
        q, k, v = stages.split_qkv(conv, *ours.geometry)
        g, beta = stages.gates(a, b, ours.A_log, ours.dt_bias, ours.beta_scale)
        q, k = stages.qk_norm(q, k, ours.scale)
        o = delta_rule(
            q, k, v, g, beta, launch["ssm_pool"], own, starts, resumed, counts,
            spec_rows=drafts, read_indices=reads, state_order=launch.presentation.state_order.value,
        )  # fmt: skip
        launch["out"].copy_(stages.gated_norm(o, z, launch["norm_weight"], ours.norm_eps, ours.norm_activation))
        seen = {"conv": conv, "g": g, "beta": beta, "q_hat": q, "k_hat": k, "o": o}
        return Outputs(o=launch["out"], stages=seen)


def paths() -> Iterable[FallbackStages]:
    """The one."""
    return (FallbackStages(),)
