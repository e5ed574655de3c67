"""This project's dispatcher: every row of any launch on the fastest kernel that takes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from gdn_verify.cases.case import Batch, Case
from gdn_verify.cases.contract import Capabilities, DType, DTypes, Geometry, Group, Kind, Span, Stage
from gdn_verify.cases.presentation import Presentation
from gdn_verify.oracles.noise import Rounding
from gdn_verify.oracles.rounding import (
    CONV,
    GATES,
    NORM,
    QK_NORM,
    SEQUENTIAL,
    folded_chunks,
    sequential_float32,
)
from gdn_verify.oracles.sites import Site
from gdn_verify.paths.base import Launch, Missing, Outputs, Path
from gdn_verify.paths.chunk import ConvChunkDelta, chunk_length
from gdn_verify.paths.fallback import Fallback, layer, packing, tables
from gdn_verify.paths.fused import CARDS, MOST_TOKEN, FusedDecode

if TYPE_CHECKING:
    from torch import Tensor

    from gdn_verify.kernels.fallback import Layer
    from gdn_verify.kernels.plan import LaunchPlan
    from gdn_verify.kernels.rows import Tables

KERNELS = {
    Group.DECODE: ("gdn_decode_kernel",),
    Group.PREFILL: (*ConvChunkDelta.kernels, "gdn_gated_norm_kernel"),
    Group.SPEC: ("gdn_spec_kernel",),
}
"""The kernels that serve a live row of this group, on every host but the cpu."""


class Dispatch(Path):
    """`gdn_verify.kernels.dispatch` over the whole layer core, given the plan that a host would know.

    Or, of drafts alone whose tables are wider than needed, told nothing: it reads them back.
    On the cpu everything takes the standard path. Elsewhere a launch must run the kernels of its live rows, so what
    is attested differs from launch to launch.
    """

    name = "dispatch"
    variant = True
    hosts: tuple[str, ...] = ("cpu", "interpreter", "cuda", "rocm", "gfx942", "gfx950")
    kernels = tuple(name for names in KERNELS.values() for name in names)
    capabilities = Capabilities(
        span=Span(Stage.UNPACK, Stage.NORM), column_strides=True, row_steps=True, separate_slots=True,
        beta_scales=frozenset({1.0, 2.0}),
    )  # fmt: skip
    entries = ("gdn_verify.kernels.dispatch:gated_delta_net_packed",)
    widest_token = MOST_TOKEN
    least_reach = 0.99
    conventions = Fallback.conventions
    #: The kernels of each group of rows.
    served: ClassVar[Mapping[Group, tuple[str, ...]]] = KERNELS
    #: What is asked of the dispatcher where kernels run.
    kernel = "auto"

    def missing(self, host: str) -> Missing | None:
        return None if host == "cpu" else FusedDecode().missing(host)

    def load(self, host: str) -> str:
        import gdn_verify.kernels.dispatch

        self._kernel = "fallback" if host == "cpu" else self.kernel
        self._alone = host not in CARDS
        return gdn_verify.__version__

    def run(self, launch: Launch) -> Outputs:
        if self._kernel == "fallback" and not launch.presentation.row_pad:
            out, z = self._dispatched(launch, launch["out"], None)
            launch["z_out"].copy_(_promised_view(z, launch))
            return Outputs(o=out)
        return Outputs(o=self._dispatched(launch, launch["out"], launch["z_out"])[0])

    def _dispatched(
        self, launch: Launch, out: Tensor | None, z_out: Tensor | None, stages: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """(output, z), made or in the buffers given."""
        from gdn_verify.kernels.dispatch import gated_delta_net_packed

        self._declare(launch)
        return gated_delta_net_packed(
            launch["qkvz"], launch["ba"], self._layer(launch), launch["conv_pool"], launch["ssm_pool"], _tables(launch),
            packing=packing(launch), state_order=launch.presentation.state_order.value, output=out,
            z_output=z_out, plan=self._plan(launch), kernel=self._kernel, stages=stages,
            validate=self.validates(launch),
        )  # fmt: skip

    def _layer(self, launch: Launch) -> Layer:
        return layer(launch)

    def _declare(self, launch: Launch) -> None:
        """Which kernels a launch runs, that the runner may ask: those of live rows, and maybe of padded ones."""
        standard = self._standard(launch.batch, launch.presentation)
        live = {row.group for _, row in launch.batch.live_rows()} - standard
        filled = {row.group for row in launch.batch.rows if row.tokens} - standard
        self.kernels, besides = (
            tuple(name for group in self.served if group in groups for name in self.served[group])
            for groups in (live, filled)
        )
        self.besides = besides if self._alone else None

    def _standard(self, batch: Batch, presentation: Presentation) -> frozenset[Group]:
        """Rows that no kernel takes: those whose accepted counts, or flags of an initial state, lie apart."""
        apart = presentation.row_step > 1 and len(batch.rows) > 1
        return frozenset({Group.PREFILL, Group.SPEC}) if apart else frozenset()

    def captures(self, launch: Launch) -> bool:
        """With a plan, where no row takes the standard path."""
        told = self._plan(launch) is not None and self._kernel != "fallback"
        return told and not self._standard(launch.batch, launch.presentation)

    def refuses(self, case: Case, presentation: Presentation) -> str | None:
        """What a case's launches round is said once for all of them."""
        if len({self._standard(batch, presentation) for batch in case.batches}) > 1:
            return f"presentation.row_step={presentation.row_step}: one row has no others to lie apart from"
        return None

    def _plan(self, launch: Launch) -> LaunchPlan | None:
        drafts = all(row.spec for row in launch.batch.rows)
        return None if launch.presentation.table_pad and drafts else plan(launch.batch)

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        groups = {row.group for batch in case.batches for _, row in batch.live_rows()}
        if host == "cpu" or groups & self._standard(case.batches[0], presentation):
            return sequential_float32(case.dtypes)
        if Group.PREFILL in groups:
            return prefill_rounding(case.dtypes, case.geometry, host, every_token=Group.SPEC in groups)
        return sequential_float32(case.dtypes, conv_out=DType.F32, o=DType.F32)


class DispatchRaw(Dispatch):
    """The dispatcher over a layer without a norm weight, whose o is the output.

    Where tokens are dense it is asked for the intermediates, or of four launches one for a gradient, so that everything
    takes the standard path; and to look at its tables, which that reads anyway.
    """

    name = "dispatch-o"
    capabilities = replace(Dispatch.capabilities, span=Span(Stage.UNPACK, Stage.DELTA))
    served: ClassVar = {**KERNELS, Group.PREFILL: ConvChunkDelta.kernels}

    def validates(self, launch: Launch) -> bool:
        return not launch.presentation.row_pad

    def run(self, launch: Launch) -> Outputs:
        asked = not launch.presentation.row_pad
        if asked and launch.batch.tokens % 4 == 1:
            return self._followed(launch)
        stages: dict[str, Tensor] | None = {} if asked else None
        out, _ = self._dispatched(launch, launch["out"], launch["z_out"], stages)
        self.shows = Fallback.shows if asked else frozenset()
        return Outputs(o=out, stages=stages or {})

    def _followed(self, launch: Launch) -> Outputs:
        """With inputs that autograd follows. Raises ValueError where it has lost them."""
        self.shows = frozenset()
        inputs = launch["qkvz"].detach().requires_grad_()
        out, z = self._dispatched(replace(launch, tensors={**launch.tensors, "qkvz": inputs}), None, None)
        if not out.requires_grad:
            raise ValueError("the output of an input that requires a gradient has none")
        launch["out"].copy_(out.detach())
        launch["z_out"].copy_(z.detach())
        return Outputs(o=launch["out"])

    def _standard(self, batch: Batch, presentation: Presentation) -> frozenset[Group]:
        return super()._standard(batch, presentation) if presentation.row_pad else frozenset(Group)

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        groups = {row.group for batch in case.batches for _, row in batch.live_rows()}
        if host == "cpu" or Group.PREFILL in groups or groups & self._standard(case.batches[0], presentation):
            return super().rounding(case, presentation, host)
        return sequential_float32(case.dtypes, conv_out=DType.F32)


class DispatchTwoLaunch(Dispatch):
    """The dispatcher with the pair of decode kernels, told nothing: it reads the tables back.

    Where tokens are dense it makes its outputs too, or with float32 activations is given a narrower one, and softplus
    has the lowest threshold that changes nothing.
    """

    name = "dispatch-two-launch"
    hosts = ("interpreter", "cuda", "rocm", "gfx942", "gfx950")
    served: ClassVar = {
        Group.DECODE: ("gdn_conv_update_kernel", "gdn_decode_kernel"),
        Group.PREFILL: KERNELS[Group.PREFILL],
    }
    capabilities = Capabilities(
        span=Span(Stage.UNPACK, Stage.NORM), groups=frozenset({Group.DECODE, Group.PREFILL}), separate_slots=True,
        beta_scales=frozenset({1.0, 2.0}),
    )  # fmt: skip
    judged = frozenset({Kind.DECODE, Kind.MIXED})
    least_reach = 0.3
    kernel = "two-launch"

    def run(self, launch: Launch) -> Outputs:
        import torch

        if launch.presentation.row_pad:
            return super().run(launch)
        narrow = _narrow(launch.dtypes, launch.presentation)
        made = None if narrow is None else torch.empty_like(launch["out"], dtype=getattr(torch, narrow.value))
        out, z = self._dispatched(launch, made, None)
        launch["out"].copy_(out)
        launch["z_out"].copy_(_promised_view(z, launch))
        return Outputs(o=launch["out"])

    def _plan(self, launch: Launch) -> LaunchPlan | None:
        return None

    def _layer(self, launch: Launch) -> Layer:
        """Where outputs are made, with the least threshold of softplus that says the same: its largest argument."""
        said = layer(launch)
        if launch.presentation.row_pad or (largest := _largest_gate(launch, said)) is None:
            return said
        return replace(said, softplus_threshold=min(largest, said.softplus_threshold))

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        groups = {row.group for batch in case.batches for _, row in batch.live_rows()}
        o = {Site.OUT: case.dtypes.activation}
        if narrow := _narrow(case.dtypes, presentation):
            o[Site.NORM_OUT] = narrow
        if Group.PREFILL in groups:
            kernels = prefill_rounding(case.dtypes, case.geometry, host, every_token=False)
        else:
            kernels = sequential_float32(case.dtypes)
        sites = (site for site in kernels.sites if site[0] not in o)
        return replace(kernels, sites=(*sites, *((site, dtype, 1.0) for site, dtype in o.items())))


def _largest_gate(launch: Launch, layer: Layer) -> float | None:
    """The largest a + dt_bias of a live token, as float32 has it; None where none is live."""
    import torch

    from gdn_verify.kernels.stages import unpack

    starts = launch.batch.query_start_loc
    live = [token for n, _ in launch.batch.live_rows() for token in range(starts[n], starts[n + 1])]
    _, _, _, a = unpack(launch["qkvz"], launch["ba"], *layer.geometry, packing(launch))
    x = a[torch.tensor(live, dtype=torch.int64, device=a.device)].float() + layer.dt_bias.float()
    return float(x.max()) if live else None


def _tables(launch: Launch) -> Tables:
    """As every path has them, and of four launches without drafts one with the slots as a table of one column."""
    made = tables(launch)
    wide = made.num_accepted_tokens is None and launch.batch.tokens % 4 == 2
    return replace(made, state_indices=made.state_indices[:, None]) if wide else made


def _promised_view(z: Tensor, launch: Launch) -> Tensor:
    """z, made by the dispatcher. Raises ValueError where it is a copy and not "a view where the packing permits"."""
    storages = {tensor.untyped_storage().data_ptr() for tensor in (z, launch["qkvz"])}
    if packing(launch) == "flat" and z.numel() and len(storages) > 1:
        raise ValueError("z is a copy; of flat packing it is a view of qkvz")
    return z


def _narrow(dtypes: DTypes, presentation: Presentation) -> DType | None:
    """The type of the output of `dispatch-two-launch` where the activations are wider: that of the conv state."""
    wide = dtypes.activation is DType.F32 and not presentation.row_pad
    return (DType.F16 if dtypes.conv_state is DType.F16 else DType.BF16) if wide else None


def prefill_rounding(dtypes: DTypes, geometry: Geometry, host: str, *, every_token: bool) -> Rounding:
    """What the chunk kernels round, and all the more what decode kernels do not, in a case with prefill rows.

    But for the elements of q̂ and k̂, which decode kernels alone form, and with `every_token` (spec rows) for states
    inside a row, which are those of a token-by-token kernel in float32.
    """
    wide = dtypes.activation is DType.F32
    delta = folded_chunks(
        dtypes,
        chunk=chunk_length(geometry, wide, host),
        exact=wide,
        serial=geometry.K,
        truncates=host != "interpreter",
    )
    around = {**CONV, **GATES, Site.QK_NORM: QK_NORM[Site.QK_NORM], **NORM, **(SEQUENTIAL if every_token else {})}
    around |= dict.fromkeys((Site.CONV_OUT, Site.NORM_OUT), (dtypes.activation, 1))
    rest = {site: (dtype, factor) for site, dtype, factor in delta.sites if site not in around}
    rows = tuple((site, dtype, float(factor)) for site, (dtype, factor) in (rest | around).items())
    return replace(delta, sites=rows)


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
    """The dispatcher in three ways."""
    return (Dispatch(), DispatchRaw(), DispatchTwoLaunch())
