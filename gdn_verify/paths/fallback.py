"""This project's PyTorch fallback: every launch kind, every stage, all intermediates shown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import (
    Activation,
    Capabilities,
    Conventions,
    IdRule,
    IllegalIds,
    Options,
    Packing,
    PadPolicy,
    Span,
    Stage,
)
from gdn_verify.cases.presentation import Presentation
from gdn_verify.oracles.noise import Rounding
from gdn_verify.oracles.rounding import sequential_float32
from gdn_verify.paths.base import Launch, Missing, Outputs, Path

if TYPE_CHECKING:
    from torch import Tensor

    from gdn_verify.kernels.fallback import Layer
    from gdn_verify.kernels.rows import Tables


class Fallback(Path):
    """`gdn_verify.kernels.fallback` over the whole layer core."""

    name = "fallback"
    hosts: tuple[str, ...] = ("cpu", "cuda", "rocm")
    capabilities = Capabilities(
        span=Span(Stage.UNPACK, Stage.NORM), column_strides=True, row_steps=True, separate_slots=True,
        beta_scales=frozenset({1.0, 2.0}),
    )  # fmt: skip
    entries: tuple[str, ...] = ("gdn_verify.kernels.fallback:gated_delta_net",)
    least_reach = 0.99
    shows = frozenset({"conv", "g", "beta", "q_hat", "k_hat", "o"})
    conventions = Conventions(
        pads=tuple((stage, IdRule.OUTSIDE) for stage in (Stage.CONV, Stage.DELTA)),
        illegal_ids=IllegalIds.NO_OP,
        pad_outputs=(("out", PadPolicy.ZEROS), ("z_out", PadPolicy.UNSPECIFIED)),
    )

    def missing(self, host: str) -> Missing | None:
        return None

    def load(self, host: str) -> str:
        import gdn_verify.kernels.fallback

        return gdn_verify.__version__

    def run(self, launch: Launch) -> Outputs:
        from gdn_verify.kernels import fallback
        from gdn_verify.kernels.stages import unpack

        ours = layer(launch)
        x, z, b, a = unpack(launch["qkvz"], launch["ba"], *ours.geometry, packing(launch))
        launch["z_out"].copy_(z)
        stages: dict[str, Tensor] = {}
        out = fallback.gated_delta_net(
            x, z, b, a, ours, launch["conv_pool"], launch["ssm_pool"], tables(launch),
            state_order=launch.presentation.state_order.value, output=launch["out"], stages=stages,
        )  # fmt: skip
        return Outputs(o=out, stages=stages)

    def validates(self, launch: Launch) -> bool:
        return True

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        return sequential_float32(case.dtypes)


def packing(launch: Launch) -> str:
    """The packing by the kernels' name."""
    return "flat" if launch.presentation.packing is Packing.FLAT else "interleaved"


def layer(launch: Launch) -> Layer:
    """The launch's geometry, parameters and options as the fallback takes them; the usual ones go without saying."""
    from gdn_verify.kernels.fallback import Layer

    g, options, usual = launch.geometry, launch.options, Options()
    said = {name: getattr(options, name) for name in ("norm_eps", "beta_scale")}
    return Layer(
        num_k_heads=g.H,
        num_v_heads=g.HV,
        head_k_dim=g.K,
        head_v_dim=g.V,
        conv_weight=launch["conv_weight"],
        A_log=launch["A_log"],
        dt_bias=launch["dt_bias"],
        conv_bias=launch.get("conv_bias"),
        norm_weight=launch.get("norm_weight"),
        scale=options.scale,
        conv_activation=None if options.conv_activation is Activation.NONE else "silu",
        norm_activation=options.norm_activation.value,
        **{name: value for name, value in said.items() if value != getattr(usual, name)},
    )


def tables(launch: Launch) -> Tables:
    """The launch's index tensors as the fallback takes them, now and then in the shortest form that says the same.

    Of rows that all draft it is not told that they do; of four launches without fresh rows one has no
    `has_initial_state`; where drafts have one slot, of four launches one has a list of them.
    """
    from gdn_verify.kernels.rows import Tables

    rows, slots = launch.batch.rows, launch["state_indices"]
    short, plain = launch.batch.tokens % 4 == 3, launch.presentation.row_step == 1
    all_draft, resumed = all(row.spec for row in rows), not any(row.fresh for row in rows)
    return Tables(
        query_start_loc=launch["query_start_loc"],
        state_indices=slots[:, 0] if short and slots.ndim == 2 and slots.shape[1] == 1 else slots,
        has_initial_state=None if short and resumed and plain else launch["has_initial_state"],
        num_accepted_tokens=launch.get("num_accepted_tokens"),
        spec_rows=None if all_draft else launch.get("spec_rows"),
        read_indices=launch.get("read_indices"),
    )


def paths() -> Iterable[Path]:
    """The fallback."""
    return (Fallback(),)
