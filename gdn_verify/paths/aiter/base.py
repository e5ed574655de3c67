"""What the paths of AITER's kernels share: where the package is, how it is imported, what it refuses.

Read from ROCm/aiter at e4048607 (August 2026); files below are in its `aiter/ops/triton`. AITER itself offers
`AITER_TRITON_ONLY=1` (`aiter/__init__.py:64`) to import its Triton kernels without building its HIP ones. It asks
Triton's driver for the chip on import (`…/gated_delta_rule_utils.py:466`): in the interpreter the host's driver answers
gfx942, so AMD's branches of Python run there. Nothing of the package is replaced.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path as FilePath

from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import Activation, DType, DTypes
from gdn_verify.cases.presentation import Presentation
from gdn_verify.paths.base import Launch, Missing, Path
from gdn_verify.paths.engines import positive_scale
from gdn_verify.paths.installed import function, version_of

GATED_DELTA_NET = "aiter.ops.triton.gated_delta_net"
KERNELS = "ops/triton/gated_delta_net"
"""Where the package has its Gated DeltaNet functions: the release on PyPI, of November 2025, has none."""
MOST_PROGRAMS = 65535
INSTALL = "AITER_TRITON_ONLY=1 pip install git+https://github.com/ROCm/aiter"


class Aiter(Path):
    """A path of AITER's Triton kernels; ROCm, CUDA and the interpreter run the same source."""

    hosts: tuple[str, ...] = ("interpreter", "cuda", "rocm", "gfx942", "gfx950")

    def missing(self, host: str) -> Missing | None:
        if find_spec("triton") is None:
            return Missing("triton is not installed", "pip install 'gdn-verify[interpreter]'")
        return absent()

    def environment(self, host: str) -> Mapping[str, str]:
        return {} if host == "rocm" else {"AITER_TRITON_ONLY": "1"}

    def load(self, host: str) -> str:
        os.environ.update(self.environment(host))
        for entry in self.entries:
            function(entry)
        return version_of("amd-aiter") or "0+source"  # a source tree that is not installed has none

    def refuses(self, case: Case, presentation: Presentation) -> str | None:
        return positive_scale(case) or too_many_rows(case)


def absent() -> Missing | None:
    """Why there are no kernels to import, or None: the name aiter is also that of another project on PyPI."""
    found = find_spec("aiter")
    if found is None:
        return Missing("aiter is not installed", INSTALL)
    if not any((FilePath(place) / KERNELS).is_dir() for place in found.submodule_search_locations or ()):
        return Missing("the installed package aiter has no Gated DeltaNet kernels", INSTALL)
    return None


def too_many_rows(case: Case) -> str | None:
    """Rows times value heads are one axis, not the first, of a grid: CUDA starts 65535 programs along it, HIP more.

    (`gated_delta_net/fused_rearrange_sigmoid_gdr.py:99`, `…/prefill/chunk_delta_h.py:1395`.)
    """
    rows = max(len(batch.rows) for batch in case.batches)
    if rows * case.geometry.HV > MOST_PROGRAMS:
        return f"{rows} rows of {case.geometry.HV} value heads: more programs than CUDA has along an axis"
    return None


def no_rows(case: Case) -> str | None:
    """A prefill has a row: of none a schedule is refused (`aiter/ops/prefill_batch_metadata.py:37`)."""
    return None if all(batch.rows for batch in case.batches) else "batch.rows=(): there is one"


def activation(launch: Launch) -> str | None:
    """The conv's activation as AITER calls it."""
    return None if launch.options.conv_activation is Activation.NONE else "silu"


def tap(dtypes: DTypes) -> DType:
    """The type of a product weight · x, which the conv kernels take before they widen it; `narrow_pool` rules the rest.

    (`_triton_kernels/conv/causal_conv1d.py:345,590`, `…/causal_conv1d_update_single_token.py:257`.)
    """
    return dtypes.weights if dtypes.weights is dtypes.conv_state else DType.F32


def unlike_pool(case: Case, *, wider: bool) -> str | None:
    """Types that no engine mixes: a conv pool narrower than the activations, or two kinds of 16 bits.

    The one-token functions convert x to the pool's type first (`conv/causal_conv1d_update_single_token.py:58,215`), z
    with it; a product of float16 and bfloat16 is float16 to Triton. `wider`: a float32 pool of narrow activations.
    """
    of = case.dtypes
    if of.conv_state is not of.activation and not (wider and of.conv_state is DType.F32):
        return f"dtypes.conv_state={of.conv_state}: activations are {of.activation}"
    if {of.weights, of.conv_state} == {DType.F16, DType.BF16}:
        return f"dtypes.weights={of.weights}: the conv state is {of.conv_state}"
    return None
