"""Strategies: cases with the way they are fed, for a path's capabilities. Nothing drawn is ever thrown away."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from functools import cache
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from gdn_verify.cases.case import Batch, Case
from gdn_verify.cases.chains import chain
from gdn_verify.cases.contract import Capabilities, ContractError, Conventions, DType, Kind, Span, Stage
from gdn_verify.cases.launches import LENGTHS, LONGER, Room, launch, moved, owned, scatter
from gdn_verify.cases.narrow import first_slot, taken_groups
from gdn_verify.cases.presentation import Poison, Presentation
from gdn_verify.cases.shapes import Draw, Shape, draw_cases, pick, shape_pool, shapes
from gdn_verify.cases.situations import CHUNK
from gdn_verify.cases.sizes import SMALL, Size
from gdn_verify.cases.values import Betas, Fill, Gates, States, Taps, Values, Vectors

__all__ = ["Fed", "Shape", "cases", "draw_cases", "shape_pool"]

Fed = tuple[Case, Presentation]


def cases(
    capabilities: Capabilities,
    conventions: Conventions,
    kind: Kind,
    *,
    size: Size = SMALL,
    shapes: tuple[Shape, ...] | None = None,
) -> SearchStrategy[Fed]:
    """A case of `kind` that a path takes, and a way to feed it; with `shapes`, of those compile keys only.

    One launch as a rule, at times two or three on the same slots; the first is of `kind`. Raises
    ContractError if the path takes no such launch. Shrinks towards one row of one token (two rows, mixed)
    in slot 0 of a pool of one, the simplest shape, no padding and the first recipe of each enum.
    """
    _check(capabilities, kind)
    shape = shapes_for(capabilities, kind, size, shapes)

    @st.composite
    def fed(draw: Draw) -> Fed:
        key = draw(shape)
        room = room_for(capabilities, conventions, key, *_bounds(draw, size, kind))
        batches = chain(draw, capabilities, launch(draw, capabilities, kind, room), room)
        slots, batches = _place(draw, capabilities, conventions, batches, room)
        case = Case(key.geometry, key.dtypes, slots, batches, _values(draw, capabilities.span, key), key.options)
        return case, presented(draw, conventions, case, key.layout)

    built: SearchStrategy[Fed] = fed()
    return built


def _check(c: Capabilities, kind: Kind) -> None:
    groups = taken_groups(c)
    fit = len(groups) > 1 and c.mixes if kind is Kind.MIXED else kind in [group.value for group in groups]
    if not fit:
        raise ContractError(f"kind={kind}: the path takes {', '.join(groups)} rows{' mixed' if c.mixes else ''}")


def shapes_for(c: Capabilities, kind: Kind, size: Size, pool: tuple[Shape, ...] | None) -> SearchStrategy[Shape]:
    """Shapes of launches of `kind`: free ones, or those of a pool."""
    if pool is None:
        return shapes(c, kind, size)
    # Drafts of one token say little, where the pool has wider tables.
    wide = [shape for shape in pool if shape.geometry.num_spec] if kind is Kind.SPEC else []
    return st.sampled_from(wide or pool)


_OFTEN = (False,) * 16
_WORK = (*_OFTEN, True, True, *_OFTEN[2:])  # not at an end, which Hypothesis prefers
_ROW = (*_OFTEN, True, *_OFTEN[1:])


def _bounds(draw: Draw, size: Size, kind: Kind) -> tuple[Size, int]:
    """The bounds of one case, and the fewest tokens of its opening row: as `size` says, but for rare cases.

    Those have as much work as `size` allows rarely, spent on a row longer than a chunk; or, for a prefill, a row
    longer than any other's.
    """
    if size.rare_work and pick(draw, _WORK):
        return replace(size, max_work=size.rare_work), CHUNK + 1
    if size.rare_row_tokens and kind is Kind.PREFILL and pick(draw, _ROW):
        most = size.rare_row_tokens
        return replace(size, max_row_tokens=most, max_tokens=max(size.max_tokens, most)), size.max_row_tokens + 1
    return size, size.opening


def room_for(c: Capabilities, conventions: Conventions, shape: Shape, size: Size, opening: int) -> Room:
    """The bounds of a launch: those of `size`, less where the geometry makes tokens and slots expensive.

    A row takes half of the tokens at most, so that there are others, unless it is to be long.
    """
    g = shape.geometry
    state = g.HV * g.K * g.V
    tokens = max(min(size.max_tokens, size.max_work // state), 2 * g.S, 2 * max(c.min_tokens, 1))
    share = tokens if opening > 1 else tokens // 2
    longest = max(n for n in (*LENGTHS, *LONGER) if n <= max(min(size.max_row_tokens, share), g.S))
    slots = max(min(size.max_slots, size.max_state // state), g.S + 2)
    return Room(size.max_rows, tokens, longest, slots, g.S, c.pool and bool(conventions.pad_ids(1)), opening)


def _place(
    draw: Draw, c: Capabilities, conventions: Conventions, batches: tuple[Batch, ...], room: Room
) -> tuple[int, tuple[Batch, ...]]:
    """A pool size, and the batches with their numbered slots strewn over it; a dense path's stay row numbers."""
    count = max(owned(batches), 1)
    if not c.pool:
        return count, batches
    size = count + min(pick(draw, (0, 0, 1, 2, 5, 13, 30)), max(room.slots - count, 0))
    scratch = None if conventions.scratch_slot is None else conventions.scratch_slot - first_slot(conventions)
    if scratch is not None and 0 <= scratch < size:
        size += 1
    free = [slot for slot in range(size) if slot != scratch]
    place = scatter(count, free, pick(draw, (0, 0, -1, 1, 7)), pick(draw, (1, 1, -1, 3, 7)))
    strewn = (replace(batch, rows=tuple(moved(row, place.__getitem__) for row in batch.rows)) for batch in batches)
    return size, tuple(strewn)


def _values(draw: Draw, span: Span, shape: Shape) -> Values:
    """Recipes of the tensors that the span sees; a plain normal one is the likeliest.

    Huge inputs under random taps could leave float16's range before the conv's activation, which the contract
    rules out; every other combination of recipes stays below 10⁴ in outputs and states.
    """
    delta, conv = span.first.order <= Stage.DELTA.order, Stage.CONV in span
    seen: dict[str, tuple[type[StrEnum], bool]] = {
        "q": (Vectors, delta),
        "k": (Vectors, delta),
        "v": (Fill, True),
        "gates": (Gates, delta),
        "beta": (Betas, delta),
        "state": (States, Stage.DELTA in span),
        "conv": (Taps, conv),
        "z": (Fill, Stage.NORM in span or span.first is Stage.UNPACK),
    }
    drawn: dict[str, Any] = {name: pick(draw, _recipes(enum)) for name, (enum, sees) in seen.items() if sees}
    if drawn.get("z") is Fill.ZEROS:  # it would hide the whole output
        drawn["z"] = Fill.ONES
    if shape.dtypes.activation is DType.F16 and Vectors.HUGE in (drawn.get("q"), drawn.get("k")):
        drawn["conv"] = Taps.MEAN if drawn.get("conv") is Taps.NORMAL else drawn.get("conv", Taps.IDENTITY)
    return Values(seed=pick(draw, range(1024)), **drawn)


@cache
def _recipes(enum: type[StrEnum]) -> tuple[StrEnum, ...]:
    """Each member once, the normal one more often than all others: most cases must be able to tell a wrong kernel.

    Zeros in v or z hide an output, so they are rarer still.
    """
    return (
        *enum,
        *[member for member in enum if member.name == "NORMAL"] * (2 * len(enum) if enum is Fill else len(enum)),
    )


def presented(draw: Draw, conventions: Conventions, case: Case, layout: Presentation) -> Presentation:
    """The layout of the shape, with the values that no kernel is compiled for."""
    first = first_slot(conventions)
    marks = any(None in row.slots for batch in case.batches for row in batch.rows)
    sentinel = pick(draw, conventions.pad_ids(case.slots + first)) if marks else layout.sentinel
    return replace(layout, sentinel=sentinel, first_slot=first, poison=pick(draw, tuple(Poison)))
