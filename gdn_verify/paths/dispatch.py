"""This project's dispatcher: every row of any launch on the fastest kernel that takes it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from gdn_verify.cases.case import Batch, Case
from gdn_verify.cases.contract import Capabilities, DType, Group, Span, Stage
from gdn_verify.oracles.noise import Rounding
from gdn_verify.oracles.rounding import sequential_float32
from gdn_verify.paths.base import Launch, Missing, Outputs, Path
from gdn_verify.paths.fallback import Fallback, layer, tables
from gdn_verify.paths.fused import FusedDecode, packing

if TYPE_CHECKING:
    from gdn_verify.kernels.plan import LaunchPlan

KERNELS = {Group.DECODE: "gdn_decode_kernel", Group.SPEC: "gdn_spec_kernel"}
"""The kernel that serves a live row of this group, on every host but the cpu."""


class Dispatch(Path):
    """`gdn_verify.kernels.dispatch` over the whole layer core, given the plan that a host would know.

    On the cpu everything takes the standard path. Elsewhere a launch with live decode or spec rows must run their
    kernels; prefill rows launch none, so what is attested differs from launch to launch.
    """

    name = "dispatch"
    hosts = ("cpu", "interpreter", "cuda", "rocm")
    kernels = tuple(KERNELS.values())
    capabilities = Capabilities(
        span=Span(Stage.UNPACK, Stage.NORM), separate_slots=True, beta_scales=frozenset({1.0, 2.0})
    )
    least_reach = 0.99
    conventions = Fallback.conventions

    def missing(self, host: str) -> Missing | None:
        return None if host == "cpu" else FusedDecode().missing(host)

    def load(self, host: str) -> str:
        import gdn_verify.kernels.dispatch

        self._kernel = "fallback" if host == "cpu" else "auto"
        return gdn_verify.__version__

    def run(self, launch: Launch) -> Outputs:
        from gdn_verify.kernels.dispatch import gated_delta_net_packed

        live = {row.group for _, row in launch.batch.live_rows()}
        # The runner asks for these after each launch.
        self.kernels = tuple(KERNELS[group] for group in KERNELS if group in live)
        out, _ = gated_delta_net_packed(
            launch["qkvz"], launch["ba"], layer(launch), launch["conv_pool"], launch["ssm_pool"], tables(launch),
            packing=packing(launch), state_order=launch.presentation.state_order.value, output=launch["out"],
            z_output=launch["z_out"], plan=plan(launch.batch), kernel=self._kernel,
        )  # fmt: skip
        return Outputs(o=out)

    def rounding(self, case: Case, host: str) -> Rounding:
        standard = host == "cpu" or any(
            row.group not in KERNELS for batch in case.batches for _, row in batch.live_rows()
        )
        between = None if standard else DType.F32
        return sequential_float32(case.dtypes, conv_out=between, o=between)


def plan(batch: Batch) -> LaunchPlan:
    """The facts of the rows, as whoever made the tables knows them."""
    from gdn_verify.kernels.plan import LaunchPlan

    filled = {row.group for row in batch.rows if row.tokens}
    return LaunchPlan(
        decode=Group.DECODE in filled,
        spec=Group.SPEC in filled,
        prefill=Group.PREFILL in filled,
        one_token_each=all(row.tokens == 1 for row in batch.rows),
    )


def paths() -> Iterable[Path]:
    """The dispatcher."""
    return (Dispatch(),)
