"""vLLM's gated RMS norms: `rmsnorm_fn` of its Qwen layers, and `rms_norm_gated` of its Kimi ones.

Each is met behind a recurrence, and judged by itself from the o that it was handed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gdn_verify.cases.contract import Span, Stage
from gdn_verify.paths.base import Launch, Outputs
from gdn_verify.paths.engines import filled
from gdn_verify.paths.installed import function
from gdn_verify.paths.vllm_triton.base import OPS
from gdn_verify.paths.vllm_triton.recurrent import Recurrent, update

if TYPE_CHECKING:
    from torch import Tensor

RMSNORM = f"{OPS}.layernorm_guard:rmsnorm_fn"
GATED = f"{OPS}.fused_norm_gate:rms_norm_gated"


def rmsnorm(launch: Launch, o: Tensor) -> Tensor:
    """`rmsnorm_fn`, the gate after the norm (layernorm_guard.py:562): rows of V numbers, at most four a program."""
    options = launch.options
    out: Tensor = function(RMSNORM)(
        o, launch["norm_weight"], None, z=launch["z"][: len(o)], eps=options.norm_eps, norm_before_gate=True,
        activation=options.norm_activation.value,
    )  # fmt: skip
    return out


class RecurrentNormGated(Recurrent):
    """The recurrence with g and β given, and `rms_norm_gated` (fused_norm_gate.py:290) in its output's place.

    That norm writes over its input where it is dense, so o is kept before.
    """

    name = "vllm-recurrent-norm-gated"
    variant = True
    kernels = (*Recurrent.kernels, "layer_norm_gated_fwd_kernel")
    entries = (*Recurrent.entries, GATED)
    capabilities = replace(Recurrent.capabilities, span=Span(Stage.DELTA, Stage.NORM))

    def run(self, launch: Launch) -> Outputs:
        q, k, v = (launch[name][None] for name in ("q", "k", "v"))
        o = update(launch, self.entries[0], q, k, v, **self.gates(launch))[0]
        before, options = o.clone(), launch.options
        out = function(GATED)(
            o, launch["z"], launch["norm_weight"], None, options.norm_activation.value, eps=options.norm_eps
        )
        return filled(launch, out, o=before)
