"""FLA's Triton kernels from the package fla-core: the fused recurrent kernel, and the chunked ones.

Read from fla-core 0.6.0. Both take q, k, v, g (log decay) and β over packed tokens with cu_seqlens, normalise q and k
themselves, and return o and a new float32 state. There is no pool, no padding and no speculative row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.util import find_spec
from typing import Any

from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import Capabilities, DType, Group, Kind, Padding, Span, Stage, StateOrder
from gdn_verify.cases.presentation import Presentation
from gdn_verify.oracles.noise import Rounding
from gdn_verify.oracles.rounding import chunked_tensor_core, sequential_float32
from gdn_verify.paths.base import Launch, Missing, Outputs, Path

NO_PADDING: frozenset[Padding] = frozenset()


class Fla(Path):
    """What the two kernels share: packed tokens, dense states, both state orders."""

    hosts = ("interpreter", "cuda", "rocm")
    function: str

    def missing(self, host: str) -> Missing | None:
        for package in ("triton", "fla"):
            if find_spec(package) is None:
                return Missing(f"{package} is not installed", "pip install 'gdn-verify[fla]'")
        return None

    def load(self, host: str) -> str:
        from importlib.metadata import version

        import fla.ops.gated_delta_rule

        assert hasattr(fla.ops.gated_delta_rule, self.function)
        return version("fla-core")

    def run(self, launch: Launch) -> Outputs:
        import fla.ops.gated_delta_rule as module

        function: Callable[..., Any] = getattr(module, self.function)
        fresh = all(row.fresh for row in launch.batch.rows)  # as a caller knows, who need not look on the device
        out, state = function(
            *(launch[name][None] for name in ("q", "k", "v", "g")),
            beta=launch["beta"][None],
            scale=launch.options.scale,
            initial_state=None if fresh else launch["initial_state"],
            output_final_state=True,
            use_qk_l2norm_in_kernel=True,
            state_v_first=launch.presentation.state_order is StateOrder.VK,
            cu_seqlens=launch["query_start_loc"],
        )
        launch["out"].copy_(out[0])
        return Outputs(o=launch["out"], final_state=state)


class FlaRecurrent(Fla):
    """`fused_recurrent_gated_delta_rule`: one program a row, value head and 8 columns of V, float32 inside."""

    name = "fla-recurrent"
    function = "fused_recurrent_gated_delta_rule"
    entries = (f"fla.ops.gated_delta_rule:{function}",)
    least_reach = 0.15
    kernels = ("fused_recurrent_gated_delta_rule_fwd_kernel",)
    judged = frozenset({Kind.DECODE, Kind.MIXED})  # token by token, long rows are slow, and mixed launches have them
    capabilities = Capabilities(
        span=Span(Stage.DELTA, Stage.DELTA),
        groups=frozenset({Group.DECODE, Group.PREFILL}),
        pool=False,
        paddings=NO_PADDING,
        beta_scales=frozenset({1.0, 2.0}),
    )

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        # numpy, and so the interpreter, sums the leading axis of a block term by term; a warp sums it as a tree.
        serial = case.geometry.K if host == "interpreter" else 1
        return sequential_float32(case.dtypes, store=DType.F32, serial=serial)


class FlaChunk(Fla):
    """`chunk_gated_delta_rule`: chunks of 64 tokens, products of 16-bit operands on tensor cores."""

    name = "fla-chunk"
    function = "chunk_gated_delta_rule"
    entries = (f"fla.ops.gated_delta_rule:{function}",)
    least_reach = 0.03
    kernels = (
        "l2norm_fwd_kernel",
        "chunk_local_cumsum",
        "chunk_gated_delta_rule_fwd_kkt_solve_kernel",
        "recompute_w_u_fwd_kernel",
        "chunk_gated_delta_rule_fwd_kernel_h",
        "chunk_fwd_kernel_o",
    )
    capabilities = Capabilities(
        span=Span(Stage.DELTA, Stage.DELTA),
        groups=frozenset({Group.DECODE, Group.PREFILL}),
        pool=False,
        activations=frozenset({DType.BF16, DType.F16}),
        gates=frozenset({DType.F32}),
        paddings=NO_PADDING,
        beta_scales=frozenset({1.0, 2.0}),
    )

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        return chunked_tensor_core(case.dtypes, store=DType.F32, tf32_inverse=host == "cuda")


def paths() -> Iterable[Path]:
    """Both kernels."""
    return (FlaRecurrent(), FlaChunk())
