"""Which kinds of rows a launch has: as a fact the host knows (`LaunchPlan`), and row by row on the device (`classify`).

What tells the kinds apart is how fast kernels find a row's state. A *decode* row is a plain row of one token that
resumes in place. A *spec* row is a speculative one that resumes, and a *fresh spec* row one that does not: no engine
makes such rows, and no kernel takes them. All other rows with tokens are *prefill* here: longer ones, those without
initial state, those that read one slot and write another. Rows without tokens are none of them. Slots are not looked
at: a padded row that carries tokens counts as what it looks like.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from gdn_verify.kernels.rows import Tables
from gdn_verify.kernels.tables import Row


@dataclass(frozen=True)
class LaunchPlan:
    """Which kinds of rows a launch has, and whether each of its rows has exactly one token.

    It decides which kernels are launched, so it must hold for every launch that a captured graph is replayed for: a
    kind may be claimed and not occur, but not occur without being claimed, and `one_token_each` must hold for all.
    """

    decode: bool
    spec: bool
    prefill: bool
    one_token_each: bool = False
    fresh_spec: bool = False


@dataclass(frozen=True)
class Classes:
    """The same, row by row: disjoint bool [N] on the device of the tables."""

    decode: Tensor
    spec: Tensor
    prefill: Tensor
    fresh_spec: Tensor


def plan_rows(rows: Iterable[Row], *, pad_to: int | None = None) -> LaunchPlan:
    """The plan of the tables that `build_tables` makes of these rows; no device is asked.

    With `pad_to` the plan is one for capturing: rows may be empty when the graph is replayed.
    """
    rows = tuple(rows)
    kinds = {_kind(row) for row in rows if row.length}
    return LaunchPlan(
        decode="decode" in kinds,
        spec="spec" in kinds,
        prefill="prefill" in kinds,
        one_token_each=pad_to is None and all(row.length == 1 for row in rows),
        fresh_spec="fresh spec" in kinds,
    )


def _kind(row: Row) -> str:
    if row.accepted is not None:
        return "fresh spec" if row.fresh else "spec"
    in_place = row.read_slot in (None, row.slots[0])
    return "decode" if row.length == 1 and in_place and not row.fresh else "prefill"


def classify(tables: Tables) -> Classes:
    """The kind of every row, computed on the device without waiting for it."""
    length = tables.query_start_loc.diff()
    filled = length > 0
    resumed = torch.ones_like(filled) if tables.has_initial_state is None else tables.has_initial_state.bool()
    spec = _speculative(tables, filled)
    in_place = torch.ones_like(filled)
    if tables.read_indices is not None:
        in_place = tables.read_indices == tables.state_indices.reshape(tables.rows, tables.width)[:, 0]
    decode = (length == 1) & resumed & in_place & ~spec
    return Classes(decode, filled & spec & resumed, filled & ~decode & ~spec, filled & spec & ~resumed)


def _speculative(tables: Tables, like: Tensor) -> Tensor:
    if tables.num_accepted_tokens is None:
        return torch.zeros_like(like)
    return torch.ones_like(like) if tables.spec_rows is None else tables.spec_rows.bool()


def read_plan(tables: Tables) -> LaunchPlan:
    """The plan of these tables, read back from their device: this waits for the device, and cannot be captured."""
    classes = classify(tables)
    facts = [mask.any() for mask in (classes.decode, classes.spec, classes.prefill, classes.fresh_spec)]
    facts.append((tables.query_start_loc.diff() == 1).all())
    decode, spec, prefill, fresh_spec, one_token_each = torch.stack(facts).tolist()
    return LaunchPlan(decode, spec, prefill, one_token_each, fresh_spec)
