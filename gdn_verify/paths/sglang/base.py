"""What the paths of SGLang's Triton kernels share: where they are found, and what marks a padded row.

Read from sglang 0.5.23, whose kernels lie in `sglang.kernels.ops`; releases that have them in
`sglang.srt.layers.attention.fla` are not taken: nobody has read how they lay out states. Files named here and below are
in `sglang/kernels/ops`, or in `sglang/srt` where that is said.

Nothing is put in SGLang's place: off a card it takes its Triton functions, unless `SGLANG_USE_CPU_ENGINE` asks for
those of its own library (`srt/utils/common.py:221`).

A negative id marks padding to the recurrences (`attention/fla/fused_recurrent.py:226`,
`attention/fla/chunk_delta_h.py:129`, `attention/linear/fused_sigmoid_gating_recurrent.py:272`), -1 alone to the
convolutions (`mamba/causal_conv1d_triton.py:121`, :693). The engine itself keeps slot 0 for padded rows
(`srt/layers/attention/hybrid_linear_attn_backend.py:187`), which write it over. States are [slots, HV, V, K] with a
stride between slots, of convolutions [slots, D, W-1 or more] with any strides.
"""

from __future__ import annotations

from importlib.util import find_spec

from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import Conventions, DType, IdRule, PadPolicy, Stage, StateOrder
from gdn_verify.paths.base import Missing, Path
from gdn_verify.paths.installed import function, release_of, version_of

FLA = "sglang.kernels.ops.attention.fla"
LINEAR = "sglang.kernels.ops.attention.linear"
SINCE = (0, 5, 23)
VK = frozenset({StateOrder.VK})
NARROW = frozenset({DType.BF16, DType.F16})
MOST_PROGRAMS = 65535


class Sglang(Path):
    """A path that calls SGLang's functions, each by its entry."""

    hosts = ("interpreter", "cuda", "rocm", "gfx942", "gfx950")

    def missing(self, host: str) -> Missing | None:
        for package in ("triton", "sglang"):
            if find_spec(package) is None:
                return Missing(f"{package} is not installed", f"pip install {package}")
        found, since = installed(), ".".join(map(str, SINCE))
        if release_of(found) < SINCE:
            return Missing(f"sglang {found or 'of no distribution'}: read was {since}", "pip install -U sglang")
        return None

    def load(self, host: str) -> str:
        for entry in self.entries:
            assert callable(function(entry))
        return installed()


def installed() -> str:
    """The version that the distribution declares, "" without one."""
    return version_of("sglang")


def skips(*stages: Stage, out: PadPolicy = PadPolicy.UNSPECIFIED) -> Conventions:
    """Negative ids are padding in each of these stages, of which a convolution knows -1."""
    pads = tuple((stage, IdRule.MINUS_ONE if stage is Stage.CONV else IdRule.NEGATIVE) for stage in stages)
    return Conventions(pads=pads, pad_outputs=(("out", out),))


def too_many_rows(case: Case) -> str | None:
    """Why a launch of more rows times value heads than one axis of a grid has is not taken, or None."""
    rows = max(len(batch.rows) for batch in case.batches)
    if rows * case.geometry.HV > MOST_PROGRAMS:
        return (
            f"{rows} rows of {case.geometry.HV} value heads: on a processor they are one axis of the grid, on cards two"
        )
    return None
