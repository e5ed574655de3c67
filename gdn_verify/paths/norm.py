"""This project's gated norm of plain rows by itself, as who has o from elsewhere calls it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import Capabilities, Conventions, Group, IdRule, IllegalIds, PadPolicy, Span, Stage
from gdn_verify.cases.presentation import Presentation
from gdn_verify.oracles.noise import Rounding
from gdn_verify.oracles.rounding import sequential_float32
from gdn_verify.paths.base import Launch, Outputs
from gdn_verify.paths.fallback import tables
from gdn_verify.paths.fused import ANY_TOKEN, Fused

if TYPE_CHECKING:
    from torch import Tensor

    from gdn_verify.kernels.fallback import Layer

MANY = 2**30


class GatedNorm(Fused):
    """`gated_norm`, z where a packed projection has it, of which nothing else is read.

    Where tokens are dense it writes over its input, and live tokens are copied from there.
    """

    name = "gated-norm"
    variant = True
    kernels = ("gdn_gated_norm_kernel",)
    entries = ("gdn_verify.kernels.triton.gated_norm:gated_norm",)
    widest_token = ANY_TOKEN
    least_reach = 0.5
    conventions = Conventions(
        pads=((Stage.NORM, IdRule.OUTSIDE),),
        illegal_ids=IllegalIds.NO_OP,
        pad_outputs=(("out", PadPolicy.UNTOUCHED),),
    )
    capabilities = Capabilities(
        span=Span(Stage.NORM, Stage.NORM), groups=frozenset({Group.DECODE, Group.PREFILL}), separate_slots=True
    )

    def captures(self, launch: Launch) -> bool:
        """Which tokens are live is decided on the host where the norm writes over its input."""
        return launch.presentation.row_pad > 0

    def run(self, launch: Launch) -> Outputs:
        import torch

        from gdn_verify.kernels.triton.gated_norm import gated_norm

        packing = "interleaved" if launch.batch.tokens % 2 else "flat"
        ours, out = _layer(launch), launch["out"]
        row, slots = _packed(launch, packing), _slots(launch)
        if launch.presentation.row_pad:
            return Outputs(o=gated_norm(launch["o"], row, ours, tables(launch), slots, packing=packing, output=out))
        made = gated_norm(launch["o"].clone(), row, ours, tables(launch), slots, packing=packing)
        starts = launch.batch.query_start_loc
        live = [token for n, _ in launch.batch.live_rows() for token in range(starts[n], starts[n + 1])]
        out[live] = made[torch.tensor(live, dtype=torch.int64, device=out.device)]
        return Outputs(o=out)

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        return sequential_float32(case.dtypes)


def _layer(launch: Launch) -> Layer:
    """A layer of which the norm alone is asked; its conv and its gates are of nothing."""
    from gdn_verify.kernels.fallback import Layer

    g, weight = launch.geometry, launch["norm_weight"]
    return Layer(
        num_k_heads=g.H, num_v_heads=g.HV, head_k_dim=g.K, head_v_dim=g.V,
        conv_weight=weight.new_zeros(g.D, g.W), A_log=weight.new_zeros(g.HV), dt_bias=weight.new_zeros(g.HV),
        norm_weight=weight, norm_activation=launch.options.norm_activation.value, norm_eps=launch.options.norm_eps,
    )  # fmt: skip


def _packed(launch: Launch, packing: str) -> Tensor:
    """z [T, HV, V] in a packed projection [T, D + HV·V], NaN in all other columns."""
    import torch

    g, z = launch.geometry, launch["z"]
    row = z.new_full((len(z), g.D + g.HV * g.V), torch.nan)
    if packing == "flat":
        row[:, g.D :] = z.flatten(1)
    else:
        row.view(len(z), g.H, -1)[:, :, -g.ratio * g.V :] = z.reshape(len(z), g.H, g.ratio * g.V)
    return row


def _slots(launch: Launch) -> int:
    """So many slots that every id but the one of padding is of one; the norm itself has no pool."""
    return launch.presentation.sentinel if launch.presentation.sentinel > 0 else MANY


def paths() -> Iterable[GatedNorm]:
    """The one."""
    return (GatedNorm(),)
