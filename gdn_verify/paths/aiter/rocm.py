"""AITER's kernels that are no Triton: HIP and FlyDSL, which only an AMD chip runs.

They were read, and have not been run: no such chip was at hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any

from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import Capabilities, Conventions, Dims, DType, Group, IdRule, Padding, Span, Stage
from gdn_verify.cases.presentation import Presentation
from gdn_verify.oracles.noise import Rounding
from gdn_verify.oracles.rounding import overlaid, sequential_float32
from gdn_verify.oracles.sites import Site
from gdn_verify.paths.aiter.base import Aiter, absent
from gdn_verify.paths.aiter.conv import VK
from gdn_verify.paths.aiter.delta import CHUNKED, AiterChunkVk
from gdn_verify.paths.base import Launch, Missing, Outputs
from gdn_verify.paths.installed import function

WIDE = Dims(128, 128)
BF16 = frozenset({DType.BF16})
F32 = frozenset({DType.F32})
DECODE = frozenset({Group.DECODE})


class RocmOnly(Aiter):
    """A path that is built for AMD's chips when it is imported."""

    hosts = ("rocm",)
    kernels: tuple[str, ...] = ()

    def missing(self, host: str) -> Missing | None:
        if host != "rocm":
            return Missing(f"{self.name} needs a ROCm chip, and has no source that Triton could interpret")
        return absent()


class AiterPackedHip(RocmOnly):
    """`gdr_decode_packed_bf16`: 8 and 32 heads, K = V = 128, bfloat16, gfx950; it checks all that itself.

    A negative id pads a row (`aiter/ops/gdr_decode_packed_bf16.py:53`); slots may be strided by 16 bytes.
    """

    name = "aiter-packed-hip"
    entries = ("aiter.ops.gdr_decode_packed_bf16:gdr_decode_packed_bf16",)
    conventions = Conventions(pads=((Stage.DELTA, IdRule.NEGATIVE),))
    capabilities = Capabilities(
        span=Span(Stage.GATES, Stage.DELTA), groups=DECODE, min_tokens=1, ratios=frozenset({4}), key_dim=WIDE,
        value_dim=WIDE, activations=BF16, states=BF16, state_orders=VK, int64_indices=False, strided=False,
        misaligned=False, paddings=frozenset({Padding.SENTINEL_ROW}), params=BF16, scales=False,
    )  # fmt: skip

    def run(self, launch: Launch) -> Outputs:
        import torch

        function(self.entries[0])(
            torch.cat([launch[name].flatten(1) for name in ("q", "k", "v")], dim=1),
            launch["a"],
            launch["b"],
            launch["dt_bias"],
            launch["A_log"].float(),  # it wants this one in float32
            launch["state_indices"],
            launch["ssm_pool"],
            launch["out"][:, None],
        )
        return Outputs(o=launch["out"])

    def refuses(self, case: Case, presentation: Presentation) -> str | None:
        heads = case.geometry.H, case.geometry.HV
        return None if heads == (8, 32) else f"geometry.H, HV={heads}: 8 and 32"

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        return sequential_float32(case.dtypes)


class AiterFlydslDecode(RocmOnly):
    """`flydsl_gdr_decode`: one token a row, [V, K] states, q and k of the activations' type as all but A_log.

    A negative id skips a row (`aiter/ops/flydsl/kernels/gdr_decode.py:198`). Its exp and log1p are the chip's fast ones
    (:234), which are counted as twice the error of a library's.
    """

    name = "aiter-flydsl-decode"
    entries = ("aiter.ops.flydsl.linear_attention_kernels:flydsl_gdr_decode",)
    conventions = Conventions(pads=((Stage.DELTA, IdRule.NEGATIVE),))
    capabilities = replace(
        AiterPackedHip.capabilities, ratios=frozenset({1, 2, 4, 8}), activations=BF16, states=frozenset({*F32, *BF16})
    )

    def missing(self, host: str) -> Missing | None:
        return super().missing(host) or no_flydsl()

    def run(self, launch: Launch) -> Outputs:
        function(self.entries[0])(
            *(launch[name][:, None] for name in ("q", "k", "v", "a", "b")),
            launch["dt_bias"],
            launch["A_log"],
            launch["state_indices"],
            launch["ssm_pool"],
            launch["out"][:, None],
            use_qk_l2norm=True,
            need_shuffle_state=False,
        )
        return Outputs(o=launch["out"])

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        fast = {Site.SOFTPLUS: (DType.F32, 4.0), Site.GATE: (DType.F32, 8.0), Site.DECAY: (DType.F32, 4.0)}
        return overlaid(sequential_float32(case.dtypes), fast)


class AiterChunkHip(AiterChunkVk, RocmOnly):
    """`chunk_gated_delta_rule_opt_vk` with the states' chunks in HIP."""

    name = "aiter-chunk-vk-hip"
    hosts = ("rocm",)
    kernels: tuple[str, ...] = (*CHUNKED, "chunk_fwd_kernel_o_opt_vk")
    capabilities = replace(AiterChunkVk.capabilities, key_dim=WIDE, value_dim=WIDE, activations=BF16)
    told: Mapping[str, Any] = MappingProxyType({"use_chunk_hip": True})


class AiterChunkFlydsl(AiterChunkHip):
    """`chunk_gated_delta_rule_opt_vk` with the states' chunks in FlyDSL, as vLLM runs it."""

    name = "aiter-chunk-vk-flydsl"
    told = MappingProxyType({"use_chunk_flydsl": True})

    def missing(self, host: str) -> Missing | None:
        return super().missing(host) or no_flydsl()


def no_flydsl() -> Missing | None:
    """Why no FlyDSL kernel runs here, or None."""
    return None if find_spec("flydsl") else Missing("flydsl is not installed", "pip install flydsl")


def paths() -> Iterable[Aiter]:
    """All of them."""
    return (AiterPackedHip(), AiterFlydslDecode(), AiterChunkHip(), AiterChunkFlydsl())
