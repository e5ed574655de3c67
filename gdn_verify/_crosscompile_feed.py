"""A path's launches at the shapes that are served, on CPU tensors: what is compiled depends on nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.contract import Geometry, Kind
from gdn_verify.cases.narrow import first_slot
from gdn_verify.cases.presentation import Presentation
from gdn_verify.cases.shapes import Shape, shape_pool
from gdn_verify.feed import feed, initial_pools
from gdn_verify.paths import Launch, Path
from gdn_verify.paths.refusal import refusal_of

_SHAPES = 2
"""A layer of Qwen3-Next, and one shard of four with a draft; for a path that takes neither, the first it takes."""

_DECODE_ROWS = 8
_PROMPTS = (150, 150)
"""Beyond two chunks of 64 tokens; equal, since some paths take no others."""


def production(path: Path) -> Iterator[tuple[str, Launch | str]]:
    """Each kind of launch at each shape, in words and laid out, or why the path refuses it."""
    for shape in shape_pool(path.capabilities, _SHAPES):
        layout = replace(shape.layout, first_slot=first_slot(path.conventions))
        for kind in path.capabilities.kinds:
            if rows := _rows(kind, shape.geometry):
                g = shape.geometry
                label = f"{kind} H={g.H} HV={g.HV} K={g.K} V={g.V} num_spec={g.num_spec}"
                yield label, _laid_out(path, _case(shape, rows), layout)


def _laid_out(path: Path, case: Case, layout: Presentation) -> Launch | str:
    reason = refusal_of(path, case, layout)
    return reason or feed(case, 0, path, layout, initial_pools(case, path, layout), "cpu").launch


def _case(shape: Shape, rows: tuple[Row, ...]) -> Case:
    slots = 1 + max(slot for row in rows for slot in row.slots if slot is not None)
    return Case(shape.geometry, shape.dtypes, slots, (Batch(rows),), options=shape.options)


def _rows(kind: Kind, geometry: Geometry) -> tuple[Row, ...]:
    """Rows of one kind. None are mixed: a mixed launch has the kernels of its parts, and no drafts without num_spec."""
    S = geometry.S
    if kind is Kind.DECODE:
        return tuple(Row(1, (n,)) for n in range(_DECODE_ROWS))
    if kind is Kind.PREFILL:
        return tuple(Row(tokens, (n,)) for n, tokens in enumerate(_PROMPTS))
    if kind is Kind.SPEC and S > 1:
        return tuple(Row(S, tuple(range(n * S, (n + 1) * S)), accepted=1) for n in range(_DECODE_ROWS))
    return ()
