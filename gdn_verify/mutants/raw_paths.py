"""Paths that end with the recurrence, where published tests of it look: those with a gated norm, without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from unittest.mock import patch

from gdn_verify.cases.contract import Span, Stage
from gdn_verify.paths import Launch, Outputs, Path, find
from gdn_verify.paths.fallback import Fallback, layer, packing, tables
from gdn_verify.paths.fused import FusedDecodeNull, FusedDecodeRaw


class Core(Fallback):
    """The fallback of a layer without a norm weight; with `normalised` False, q and k are taken as they are."""

    name = "fallback-o"
    shows = frozenset()
    capabilities = replace(Fallback.capabilities, span=Span(Stage.UNPACK, Stage.DELTA))
    normalised = True

    def run(self, launch: Launch) -> Outputs:
        from gdn_verify.kernels import fallback, stages

        ours = layer(launch)
        x, z, b, a = stages.unpack(launch["qkvz"], launch["ba"], *ours.geometry, packing(launch))
        launch["z_out"].copy_(z)
        taken = stages._unit if self.normalised else (lambda x, eps: x.float())
        with patch.object(stages, "_unit", taken):
            out = fallback.gated_delta_net(
                x, None, b, a, ours, launch["conv_pool"], launch["ssm_pool"], tables(launch),
                state_order=launch.presentation.state_order.value, output=launch["out"],
            )  # fmt: skip
        return Outputs(o=out)


class DecodeNull(FusedDecodeNull):
    """`fused-decode-null` of a layer without a norm weight."""

    name = "fused-decode-null-o"
    capabilities = FusedDecodeRaw.capabilities


def without_norm(name: str) -> Path:
    """The path of this name, or what stands in for it."""
    stand_ins: dict[str, Callable[[], Path]] = {
        "fallback": Core,
        "fused-decode": FusedDecodeRaw,
        "fused-decode-null": DecodeNull,
    }
    return stand_ins[name]() if name in stand_ins else find(name)
