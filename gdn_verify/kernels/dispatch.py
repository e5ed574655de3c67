"""The layer core over any launch, each row on the fastest kernel that takes it.

Prefill rows go to the chunk kernels, decode rows to a decode kernel and speculative rows to a speculative one, a
sub-launch each; all other rows, and everything where those kernels cannot run, to the standard path (the PyTorch
fallback). `plan` says what tells the rows apart.

A mixed launch moves no token. Each sub-launch gets all rows, with the slots of the rows that are not its own replaced
by `NOBODY`, so that it takes those for padding: the first one fills their outputs with zeros, the later ones leave
outputs that are not their own alone. Rows may therefore stand in any order, and z, b and a are found where they are.

The standard path reads the tables back from the device. A launch that is served without it does not wait for the
device if a `LaunchPlan` is given, and can be captured in a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from gdn_verify.kernels import fallback, fast
from gdn_verify.kernels.fallback import Layer
from gdn_verify.kernels.operands import Operands
from gdn_verify.kernels.plan import Classes, LaunchPlan, classify, read_plan
from gdn_verify.kernels.rows import Tables, expect_dtype, live_rows

KERNELS = ("auto", "fused", "two-launch", "cuda", "fallback")
NOBODY = -1
"""An id outside [0, P) of every pool, so a padded row to every kernel, whatever the launch's pad_slot_id."""

__all__ = ["KERNELS", "LaunchPlan", "gated_delta_net_packed"]


@dataclass(frozen=True)
class Routes:
    """The sub-launches of a launch, in the order in which they run; None is not launched."""

    standard: bool
    prefill: Callable[..., Tensor] | None = None
    spec: Callable[..., Tensor] | None = None
    decode: Callable[..., Tensor] | None = None

    @property
    def alone(self) -> bool:
        """Whether one sub-launch serves all rows."""
        return self.standard + sum(x is not None for x in (self.prefill, self.spec, self.decode)) == 1

    def served(self, rows: Classes) -> Tensor:
        """bool [N]: rows that do not need the standard path."""
        found = torch.zeros_like(rows.prefill)
        for kernel, own in ((self.prefill, rows.prefill), (self.spec, rows.spec), (self.decode, rows.decode)):
            found = found if kernel is None else found | own
        return found


def gated_delta_net_packed(
    qkvz: Tensor,
    ba: Tensor,
    layer: Layer,
    conv_pool: Tensor,
    pool: Tensor,
    tables: Tables,
    *,
    packing: str = "flat",
    state_order: str = "VK",
    pad_slot_id: int | None = None,
    validate: bool = False,
    output: Tensor | None = None,
    z_output: Tensor | None = None,
    stages: dict[str, Tensor] | None = None,
    plan: LaunchPlan | None = None,
    kernel: str = "auto",
) -> tuple[Tensor, Tensor]:
    """unpack → conv → gates → delta → norm over one launch; updates `conv_pool` and `pool` in place.

    Operands, results and conventions are those of `fallback.gated_delta_net_packed`, whichever kernels run: (output
    [T, HV, V], z [T, HV, V]), zeros in the output of padded rows and tokens, z of every row's tokens bit for bit. Two
    points differ: z of tokens beyond the last row is unspecified, and no row may write a slot that another row reads.

    `plan` is what the host knows of the rows (`plan_rows`); without it the tables are read back (`read_plan`), if there
    are kernels to choose from. `validate` checks the tables as the fallback does, and reads them back too. `kernel`
    settles who serves the rows: "auto" the chunk kernels and the one-launch ones for decode and drafts, each where it
    runs and takes the operands, else the standard path; "fused" the same kernels or an error; "two-launch" the pair of
    decode kernels and the chunk kernels, or an error; "cuda" those in CUDA C++ for decode, drafts and the recurrence of
    prompts, whose conv and norm are Triton's, or an error; "fallback" the standard path. Speculative rows without
    initial state always take the standard path. So does all of a launch that shows its `stages` or asks for a gradient.

    Raises ValueError for operands that do not fit, for another `kernel`, and for a forced one that cannot serve.
    """
    if kernel not in KERNELS:
        raise ValueError(f"kernel={kernel!r} is not one of {', '.join(map(repr, KERNELS))}")
    operands = Operands(qkvz, ba, layer, conv_pool, pool, tables, packing, state_order, pad_slot_id, output, z_output)
    if validate:
        live_rows(tables, qkvz.shape[0], pool.shape[0], conv=True, pad_slot_id=pad_slot_id)
    obstacle = None if kernel == "fallback" else _obstacle(operands, stages, kernel)
    if kernel == "fallback" or not _admitted(obstacle, kernel):
        return _standard(operands, stages=stages)
    plan = read_plan(tables) if plan is None else plan
    routes = _routes(operands, plan, kernel)
    return _standard(operands) if routes.standard and routes.alone else _launch(operands, routes, plan)


def _obstacle(operands: Operands, stages: dict[str, Tensor] | None, kernel: str) -> str | None:
    """Why no fast kernel can serve any row of this launch, or None."""
    if stages is not None:
        return "`stages` asks for intermediates, which only the standard path shows"
    if operands.wants_gradient:
        return "an input requires a gradient, which only the standard path has"
    return fast.kernels_missing(operands.qkvz.device.type, kernel)


def _admitted(reason: str | None, kernel: str) -> bool:
    """Whether there is no reason against a fast kernel; raises ValueError where it is forced all the same."""
    if reason is not None and kernel != "auto":
        raise ValueError(f"kernel={kernel!r} cannot serve this launch: {reason}; pass kernel='auto' or 'fallback'")
    return reason is None


def _routes(operands: Operands, plan: LaunchPlan, kernel: str) -> Routes:
    """Who serves which rows. A launch without any live row counts as decode: its outputs need zeros."""
    kernels = fast.kernels("fused" if kernel == "auto" else kernel)
    decode_rows = plan.decode or not (plan.spec or plan.prefill or plan.fresh_spec)
    prefill = plan.prefill and _admitted(kernels.prefill_refuses(operands), kernel)
    decode = decode_rows and _admitted(kernels.decode_refuses(operands), kernel)
    spec = plan.spec and _admitted(kernels.spec_refuses(operands), kernel)
    return Routes(
        standard=plan.fresh_spec or (prefill, decode, spec) != (plan.prefill, decode_rows, plan.spec),
        prefill=kernels.prefill if prefill else None,
        spec=kernels.spec if spec else None,
        decode=kernels.decode if decode else None,
    )


def _launch(operands: Operands, routes: Routes, plan: LaunchPlan) -> tuple[Tensor, Tensor]:
    """The sub-launches, one after the other, into one output. The first zeroes what none fills, and passes z on."""
    rows = None if routes.alone else classify(operands.tables)
    output, z, z_buffer = _begun(operands, routes, rows)
    zero_pads = not routes.standard
    for call in _calls(operands, routes, plan, rows):
        output = call(**operands.options, output=output, z_output=z_buffer, zero_pads=zero_pads)
        zero_pads, z_buffer = False, None
    assert output is not None  # `Routes`: there is at least one sub-launch
    return output, z


def _calls(
    operands: Operands, routes: Routes, plan: LaunchPlan, rows: Classes | None
) -> Iterator[Callable[..., Tensor]]:
    """The kernels in their order, each with its rows. Rows that read elsewhere do so before any slot is overwritten."""
    tables = operands.tables
    if routes.prefill is not None:
        plain = operands.plain_tables
        if rows is not None:
            plain = replace(plain, state_indices=_only(plain.state_indices, rows.prefill))
        yield partial(routes.prefill, *operands.inputs, plain)
    if routes.spec is not None:
        slots = _only(operands.slot_table, None if rows is None else rows.spec)
        yield partial(routes.spec, *operands.inputs, slots, tables.query_start_loc, tables.num_accepted_tokens)
    if routes.decode is not None:
        slots = _only(operands.first_slots, None if rows is None else rows.decode)
        starts = None if plan.one_token_each else tables.query_start_loc
        yield partial(routes.decode, *operands.inputs, slots, query_start_loc=starts)


def _begun(operands: Operands, routes: Routes, rows: Classes | None) -> tuple[Tensor | None, Tensor, Tensor | None]:
    """(output, z, where z is yet to be written): after the standard path, or before the first fast kernel."""
    if routes.standard:
        assert rows is not None  # `gated_delta_net_packed`: the standard path alone does not come here
        return *_standard(operands, served=routes.served(rows)), None
    z, buffer = _z(operands)
    return operands.output, z, buffer


def _z(operands: Operands) -> tuple[Tensor, Tensor | None]:
    """(z [T, HV, V], the buffer that a kernel is to fill with it): a view where the packing permits."""
    qkvz, layer = operands.qkvz, operands.layer
    shape = qkvz.shape[0], layer.num_v_heads, layer.head_v_dim
    if operands.z_output is not None:
        expect_dtype("z_output", operands.z_output, (qkvz.dtype,))
        return operands.z_output, operands.z_output
    if operands.packing == "flat":
        return qkvz[:, layer.channels :].unflatten(1, shape[1:]), None
    z = qkvz.new_empty(shape)
    return z, z


def _only(slots: Tensor, rows: Tensor | None) -> Tensor:
    """`slots` [N] or [N, S] of these rows [N], `NOBODY` for the others; None stands for all rows."""
    if rows is None:
        return slots
    return torch.where(rows if slots.ndim == 1 else rows[:, None], slots, NOBODY)


def _standard(
    operands: Operands, *, served: Tensor | None = None, stages: dict[str, Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """The standard path, over the rows that are not `served` [N] by others: all rows where that is None."""
    tables = operands.tables
    if served is not None:
        tables = replace(tables, state_indices=_only(tables.state_indices, ~served))
    return fallback.gated_delta_net_packed(
        *operands.inputs, tables, **operands.options, validate=False, stages=stages,
        output=operands.output, z_output=operands.z_output,
    )  # fmt: skip
