"""vLLM's gated RMS norms: `rmsnorm_fn` of its Qwen layers, and `rms_norm_gated` of its Kimi ones."""

from __future__ import annotations

from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import Capabilities, Padding, Span, Stage
from gdn_verify.cases.presentation import Presentation
from gdn_verify.oracles.noise import Rounding
from gdn_verify.oracles.rounding import sequential_float32
from gdn_verify.paths.base import Launch, Outputs
from gdn_verify.paths.vllm_triton.base import OPS, Vllm, filled, function


class Norm(Vllm):
    """`rmsnorm_fn` (layernorm_guard.py:562), the gate after the norm; rows of V numbers, four to a program."""

    name = "vllm-norm"
    least_reach = 0.05
    kernels: tuple[str, ...] = ("layer_norm_fwd_kernel",)
    entries: tuple[str, ...] = (f"{OPS}.layernorm_guard:rmsnorm_fn",)
    capabilities = Capabilities(
        span=Span(Stage.NORM, Stage.NORM), pool=False, paddings=frozenset[Padding](),
    )  # fmt: skip

    def run(self, launch: Launch) -> Outputs:
        options = launch.options
        out = function(self.entries[0])(
            launch["o"], launch["norm_weight"], None, z=launch["z"], eps=options.norm_eps,
            norm_before_gate=True, activation=options.norm_activation.value,
        )  # fmt: skip
        return filled(launch, out)

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        return sequential_float32(case.dtypes)


class NormGated(Norm):
    """`rms_norm_gated` (fused_norm_gate.py:290). It writes over o where that is dense, so it is given a copy."""

    name = "vllm-norm-gated"
    kernels = ("layer_norm_gated_fwd_kernel",)
    entries = (f"{OPS}.fused_norm_gate:rms_norm_gated",)

    def run(self, launch: Launch) -> Outputs:
        options = launch.options
        out = function(self.entries[0])(
            launch["o"].clone(), launch["z"], launch["norm_weight"], None, options.norm_activation.value,
            eps=options.norm_eps,
        )  # fmt: skip
        return filled(launch, out)
