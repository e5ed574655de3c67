"""Narrowing: why a path cannot take a case as it is fed. Generation keeps to it, everything else asks it.

A field that no stage of the path's span ever sees never refuses: a recurrence takes any conv width.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.contract import (
    Capabilities,
    Conventions,
    DType,
    DTypes,
    Geometry,
    Group,
    Options,
    Padding,
    Span,
    Stage,
)
from gdn_verify.cases.presentation import IndexType, Presentation


def refuses(capabilities: Capabilities, conventions: Conventions, case: Case, presentation: Presentation) -> str | None:
    """Why a path of these capabilities and conventions cannot take the case so fed: field, value, reason; or None."""
    reasons = chain(
        _geometry(capabilities, case),
        _dtypes(capabilities, case.dtypes),
        _options(capabilities, case.options),
        _pool(capabilities, case),
        *(batch_refusals(capabilities, f"batch {number}", batch) for number, batch in enumerate(case.batches)),
        _ids(capabilities, conventions, case, presentation),
        _layout(capabilities, presentation),
    )
    return next(reasons, None)


def stored(span: Span) -> tuple[str, ...]:
    """The fields of `DTypes` that a path of this span meets in memory."""
    seen = {
        "activation": True,
        "state": Stage.DELTA in span,
        "conv_state": Stage.CONV in span,
        "gates": span.first is Stage.DELTA or span.last is Stage.GATES,  # elsewhere g and β stay inside
        "params": Stage.GATES in span,
        "weights": Stage.CONV in span or Stage.NORM in span,
    }
    return tuple(name for name, relevant in seen.items() if relevant)


def taken_dtypes(capabilities: Capabilities, name: str) -> frozenset[DType]:
    """The dtypes taken for one field of `DTypes`."""
    field = {"activation": "activations", "state": "states", "conv_state": "conv_states"}.get(name, name)
    taken: frozenset[DType] = getattr(capabilities, field)
    return taken


def taken_groups(capabilities: Capabilities) -> tuple[Group, ...]:
    """The groups of rows taken, in the contract's order; a dense path has no slot table to verify a draft with."""
    wanted = (group for group in Group if group in capabilities.groups)
    return tuple(group for group in wanted if capabilities.pool or group is not Group.SPEC)


def first_slot(conventions: Conventions) -> int:
    """The least pool slot that a live row may own: 1 where slot 0 is padding or scratch."""
    return int(conventions.reserves_zero or conventions.scratch_slot == 0)


def padding(batch: Batch, number: int) -> Padding | None:
    """The way in which row `number` fills the batch up, or None for a row of its own right."""
    row = batch.rows[number]
    if row.padded:
        return Padding.SENTINEL_ROW if row.tokens else Padding.SENTINEL_EMPTY_ROW
    return Padding.EMPTY_ROW if _trailing(batch, number) else None


def _trailing(batch: Batch, number: int) -> bool:
    return not any(row.tokens for row in batch.rows[number:])


def _geometry(c: Capabilities, case: Case) -> Iterator[str]:
    g: Geometry = case.geometry
    if g.ratio not in c.ratios:
        yield f"geometry.HV={g.HV}: {g.ratio} value heads a key head; taken are {sorted(c.ratios)}"
    yield from filter(None, (c.key_dim.refuses("geometry.K", g.K), c.value_dim.refuses("geometry.V", g.V)))
    if c.square and g.K != g.V:
        yield f"geometry.V={g.V}: differs from K={g.K}"
    if Stage.CONV in c.span and g.W not in c.widths:
        yield f"geometry.W={g.W}: conv widths taken are {sorted(c.widths)}"
    drafts = any(row.spec for batch in case.batches for row in batch.rows)
    if (drafts or Stage.CONV in c.span) and g.num_spec > c.max_spec:
        yield f"geometry.num_spec={g.num_spec}: at most {c.max_spec}"


def _dtypes(c: Capabilities, dtypes: DTypes) -> Iterator[str]:
    names = stored(c.span)
    for name in names:
        if (value := getattr(dtypes, name)) not in taken_dtypes(c, name):
            yield f"dtypes.{name}={value}: taken are {', '.join(sorted(taken_dtypes(c, name)))}"
    alike = [name for name in names if name in c.alike]
    if len({getattr(dtypes, name) for name in alike}) > 1:
        told = (f"dtypes.{name}={getattr(dtypes, name)}" for name in alike)
        yield f"{', '.join(told)}: of one type alone"


def _options(c: Capabilities, options: Options) -> Iterator[str]:
    gated = Stage.GATES in c.span or Stage.DELTA in c.span
    if gated and options.scale is not None and not c.scales:
        yield f"options.scale={options.scale}: only K^-½"
    if gated and options.beta_scale not in c.beta_scales:
        yield f"options.beta_scale={options.beta_scale}: taken are {sorted(c.beta_scales)}"
    if gated and options.qk_eps not in c.qk_epsilons:
        yield f"options.qk_eps={options.qk_eps}: taken are {sorted(c.qk_epsilons)}"


def _pool(c: Capabilities, case: Case) -> Iterator[str]:
    """A dense path gathers the rows' states beforehand: slots are row numbers to it, and nothing else."""
    if c.pool:
        return
    if len(case.batches) > 1:
        yield "case.batches: dense states last for one launch"
    for number, row in enumerate(case.batches[0].rows):
        if row.spec or row.padded or not row.in_place:
            yield f"batch 0 row {number}.slots={row.slots}: dense states, one a row"
    if case.batches[0].moves:
        yield f"batch 0.moves={case.batches[0].moves}: dense states have no slots"
    if case.batches[0].pad_tokens:
        yield f"batch 0.pad_tokens={case.batches[0].pad_tokens}: dense states, no padding"


def batch_refusals(c: Capabilities, where: str, batch: Batch) -> Iterator[str]:
    """Why a path of these capabilities cannot take one launch, found `where`."""
    groups = {row.group for _, row in batch.live_rows()}
    for group in sorted(groups - c.groups):
        yield f"{where}.rows: no {group} rows"
    if len(groups) > 1 and not c.mixes:
        yield f"{where}.rows: {' and '.join(sorted(groups))} rows in one launch"
    if c.equal_lengths and len({row.tokens for row in batch.rows}) > 1:
        yield f"{where}.rows: rows of unequal length"
    for number, row in enumerate(batch.rows):
        yield from _row(c, f"{where} row {number}", row)
        yield from _padding(c, f"{where} row {number}", batch, number)
    if batch.pad_tokens and Padding.TOKENS not in c.paddings:
        yield f"{where}.pad_tokens={batch.pad_tokens}: no {Padding.TOKENS.value}"


def _row(c: Capabilities, where: str, row: Row) -> Iterator[str]:
    if 0 < row.tokens < c.min_tokens:
        yield f"{where}.tokens={row.tokens}: at least {c.min_tokens}"
    if c.max_tokens is not None and row.tokens > c.max_tokens:
        yield f"{where}.tokens={row.tokens}: at most {c.max_tokens}"
    if row.fresh and not c.fresh_rows:
        yield f"{where}.fresh=True: every row has an initial state"
    if not row.in_place and not c.separate_slots:
        yield f"{where}.read={row.read}: reads and writes one slot"


def _padding(c: Capabilities, where: str, batch: Batch, number: int) -> Iterator[str]:
    row, kind = batch.rows[number], padding(batch, number)
    if row.padded and kind not in c.paddings:
        assert kind is not None
        yield f"{where}.slots={row.slots}: no {kind.value}"
    # An empty row is taken by whoever takes rows of any length; at the end also as padding.
    as_padding = kind in c.paddings and _trailing(batch, number)
    if not row.tokens and c.min_tokens > 0 and not as_padding:
        yield f"{where}.tokens=0: at least {c.min_tokens}"


def _ids(c: Capabilities, conventions: Conventions, case: Case, fed: Presentation) -> Iterator[str]:
    if not c.pool:
        return
    rows = [row for batch in case.batches for row in batch.rows]
    if any(None in row.slots for row in rows):
        ids = conventions.pad_ids(case.slots + fed.first_slot)
        if fed.sentinel not in ids:
            yield f"presentation.sentinel={fed.sentinel}: ids that all stages take for padding are {ids}"
    if conventions.reserves_zero and fed.first_slot == 0:
        yield "presentation.first_slot=0: slot 0 marks padding"
    owned = {fed.physical(slot) for row in rows for slot in (*row.slots, row.read) if slot is not None}
    owned |= {fed.physical(slot) for batch in case.batches for move in batch.moves for slot in (*move.slots, move.to)}
    if conventions.scratch_slot in owned:
        yield f"conventions.scratch_slot={conventions.scratch_slot}: owned by a row"


def _layout(c: Capabilities, fed: Presentation) -> Iterator[str]:
    if Stage.UNPACK in c.span and fed.packing not in c.packings:
        yield f"presentation.packing={fed.packing}: taken is {', '.join(sorted(c.packings))}"
    if Stage.DELTA in c.span and fed.state_order not in c.state_orders:
        yield f"presentation.state_order={fed.state_order}: taken is {', '.join(sorted(c.state_orders))}"
    if Stage.CONV in c.span and fed.conv_layout not in c.conv_layouts:
        yield f"presentation.conv_layout={fed.conv_layout}: taken is {', '.join(sorted(c.conv_layouts))}"
    if c.pool and fed.index_type is IndexType.I64 and not c.int64_indices:
        yield "presentation.index_type=int64: only int32"
    if fed.slot_pad and not (c.strided and c.pool):
        yield f"presentation.slot_pad={fed.slot_pad}: no strides between slots"
    if fed.row_pad and not c.strided:
        yield f"presentation.row_pad={fed.row_pad}: no strides between tokens"
    if fed.table_pad and not (c.strided and c.pool):
        yield f"presentation.table_pad={fed.table_pad}: no strides between a table's rows"
    if fed.table_step > 1 and not (c.column_strides and c.pool):
        yield f"presentation.table_step={fed.table_step}: no strides between a table's columns"
    if fed.row_step > 1 and not (c.row_steps and c.pool):
        yield f"presentation.row_step={fed.row_step}: no strides between counts, or flags"
    if fed.misalign and not c.misaligned:
        yield f"presentation.misalign={fed.misalign}: aligned buffers only"
