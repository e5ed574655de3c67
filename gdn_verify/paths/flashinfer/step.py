"""`gdn_fused_decode_step`: projection of b and a, convolution, gates and recurrence of one token a row.

Kernels of its own serve a few layers on SM120; everywhere else, and here, it is a composition of torch's functions
(gdn_kernels/experimental/gdn_fused_decode.py:211). Its b and a are a product with a layer's inputs, which stand for
themselves here: the weight is the identity, whose product is exact. A scale of 0 counts as none, as it says (:356).

A negative id skips a row, whose output is zeros and whose pools stay as they are (:249, :299).
"""

from __future__ import annotations

from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import (
    Activation,
    Capabilities,
    Conventions,
    Group,
    IdRule,
    PadPolicy,
    Span,
    Stage,
)
from gdn_verify.cases.presentation import Presentation
from gdn_verify.oracles.noise import Rounding
from gdn_verify.oracles.rounding import sequential_float32
from gdn_verify.paths.base import Launch, Missing, Outputs
from gdn_verify.paths.flashinfer.base import BF16, F32, HEAD, VK, Flashinfer, absent, dense
from gdn_verify.paths.flashinfer.decode import ROWS
from gdn_verify.paths.installed import function

STEP = "flashinfer.gdn_kernels.experimental.gdn_fused_decode:gdn_fused_decode_step"


class FusedStep(Flashinfer):
    """From q, k and v before the convolution, with b and a, to o; both pools in place."""

    name = "flashinfer-fused-step"
    hosts = ("cpu", "cuda")
    compiles = False
    needs = ()
    cards = ((8, 0), (12, 1))
    entries = (STEP,)
    conventions = Conventions(
        pads=((Stage.CONV, IdRule.NEGATIVE), (Stage.DELTA, IdRule.NEGATIVE)), pad_outputs=(("out", PadPolicy.ZEROS),)
    )
    capabilities = Capabilities(
        span=Span(Stage.CONV, Stage.DELTA),
        groups=frozenset({Group.DECODE}),
        key_dim=HEAD,
        value_dim=HEAD,
        min_tokens=1,
        max_tokens=1,
        max_spec=0,  # a slot of the conv pool is as long as a window less one
        activations=BF16,
        states=F32,
        conv_states=BF16,
        params=F32,
        weights=BF16,
        state_orders=VK,
        paddings=ROWS,
        int64_indices=False,
        fresh_rows=False,
    )

    def missing(self, host: str) -> Missing | None:
        return absent(self.needs) if host == "cpu" else super().missing(host)

    def run(self, launch: Launch) -> Outputs:
        import torch

        if not (tokens := launch.batch.tokens):  # no engine launches that
            return Outputs(o=launch["out"])
        inputs = torch.cat([dense(launch, name) for name in ("b", "a")], dim=1)
        weight, bias = launch["conv_weight"], launch.get("conv_bias")
        function(STEP)(
            hidden_states=inputs, w_ba=torch.eye(inputs.shape[1], dtype=inputs.dtype, device=inputs.device),
            mixed_qkv=dense(launch, "mixed_qkv"), conv_weight=weight,
            conv_bias=weight.new_zeros(len(weight)) if bias is None else bias, conv_state=launch["conv_pool"],
            A_log=launch["A_log"], dt_bias=launch["dt_bias"], scale=launch.options.scale, ssm_state=launch["ssm_pool"],
            state_indices=launch["state_indices"][:tokens], use_qk_l2norm=True, out=launch["out"][:tokens, None],
        )  # fmt: skip
        return Outputs(o=launch["out"])

    def refuses(self, case: Case, presentation: Presentation) -> str | None:
        if case.options.conv_activation is not Activation.SILU:
            return f"options.conv_activation={case.options.conv_activation}: it is SiLU"
        return "options.scale=0.0: it stands for K ** -0.5" if case.options.scale == 0.0 else None

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        return sequential_float32(case.dtypes, serial=case.geometry.K)  # a library's product sums as it likes
