"""This project's table builders: the kernels' own, eager and in memory for graphs, and the suite's feed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import TYPE_CHECKING

from gdn_verify.cases.case import Batch
from gdn_verify.cases.case import Row as Nobody
from gdn_verify.cases.contract import Conventions, Group, IdRule, Stage
from gdn_verify.cases.presentation import IndexType, Presentation
from gdn_verify.paths.base import Missing
from gdn_verify.paths.builder import Builder, Built, Commit, Maker, Roster, Setup, Split

if TYPE_CHECKING:
    import torch

    from gdn_verify.kernels.plan import LaunchPlan
    from gdn_verify.kernels.rows import Tables
    from gdn_verify.kernels.tables import Row

NULL = Conventions(pads=((Stage.DELTA, IdRule.ZERO),))
"""Slot 0 is nobody's, and marks padding."""
MANY = 1 << 30
"""Slots: more than any id names."""
BLOCK = 64
"""Tokens between two states that an engine keeps of a request."""


class _Own(Builder):
    """A builder of this project: it runs wherever torch does."""

    least_reach = 0.99

    def __init__(self, name: str = "", conventions: Conventions | None = None) -> None:
        self.name = name or self.name
        self.conventions = conventions or self.conventions

    def missing(self, host: str) -> Missing | None:
        return None

    def load(self, host: str) -> str:
        import gdn_verify.kernels.buffers

        return gdn_verify.__version__


class KernelTables(_Own):
    """`gdn_verify.kernels.tables`, anew for each launch: one-dimensional where there is no draft."""

    name = "tables"

    def begin(self, setup: Setup) -> Maker:
        from gdn_verify.kernels.tables import build_tables

        shown = setup.presentation

        def build(roster: Roster) -> Built:
            rows = self._rows(roster, shown)
            widest = max((len(row.slots) for row in rows), default=1)  # where that is S, the helper finds it too
            made = build_tables(
                rows, width=setup.width if roster.drafts and widest != setup.width else None, pad_to=roster.pad_to,
                pad_slot_id=shown.sentinel, dtype=_dtype(shown),
            )  # fmt: skip
            drafts, reads = any(row.accepted for row in rows), any(row.read_slot is not None for row in rows)
            _promised(made, wide=(roster.drafts and widest != setup.width) or drafts, reads=reads)
            return _built(made, rows, roster, shown)

        return Maker(build, _commit(shown, setup.conv_width))

    def _rows(self, roster: Roster, shown: Presentation) -> list[Row]:
        """The rows as the engine gives them to the helpers."""
        return kernel_rows(roster, shown)


class BufferedTables(_Own):
    """`gdn_verify.kernels.buffers`, as an engine with captured graphs uses them."""

    name = "tables-buffers"
    persistent = True

    def begin(self, setup: Setup) -> Maker:
        from gdn_verify.kernels.buffers import TableBuffers

        shown = setup.presentation
        buffers = TableBuffers(
            setup.max_rows, width=setup.width, reads=setup.reads, pad_slot_id=shown.sentinel, dtype=_dtype(shown)
        )

        def build(roster: Roster) -> Built:
            rows = kernel_rows(roster, shown)
            made = buffers.fill(rows, pad_to=roster.pad_to)
            _promised(made, wide=setup.width is not None, reads=setup.reads)
            return _built(made, rows, roster, shown)

        return Maker(build, _commit(shown))


class BlockedTables(KernelTables):
    """`tables` of an engine that keeps a state every so many tokens, and finds by their number where it goes on."""

    name = "tables-blocks"

    def _rows(self, roster: Roster, shown: Presentation) -> list[Row]:
        return _looked_up(super()._rows(roster, shown), shown)


def _looked_up(rows: list[Row], shown: Presentation) -> list[Row]:
    """The rows as such an engine knows them: the slots of plain ones are found in tables of blocks.

    Before a resumed row there are one block of tokens, or two or three; its states lie in the columns of that token and
    of its last, in one slot where it is updated in place. All else is nobody's.
    """
    import torch

    from gdn_verify.kernels import tables

    before = [0 if row.fresh else BLOCK * (1 + number % 3) for number, row in enumerate(rows)]
    after = [tokens + row.length for tokens, row in zip(before, rows, strict=True)]
    blocks = torch.full((len(rows), max(after, default=0) // BLOCK + 1), shown.sentinel)
    for table, first, last, row in zip(blocks, before, after, rows, strict=True):
        if first:
            table[(first - 1) // BLOCK] = row.slots[0] if row.read_slot is None else row.read_slot
        table[max(last - 1, 0) // BLOCK] = row.slots[0]
    read = tables.state_slots(blocks, torch.tensor(before), BLOCK).tolist()
    own = tables.state_slots(blocks, torch.tensor(after), BLOCK).tolist()
    told = shown.sentinel != tables.DROPPED  # else a row of nobody would look like one without a state
    return [
        replace(
            row, slots=(to,), fresh=source == tables.DROPPED if told else row.fresh,
            read_slot=row.read_slot if row.fresh else None if source == to else source,
        )
        if row.accepted is None and row.length
        else row
        for row, source, to in zip(rows, read, own, strict=True)
    ]  # fmt: skip


class FedTables(_Own):
    """`gdn_verify.feed`: what every other path of the suite is given, in guarded memory and with strides."""

    name = "tables-feed"

    def begin(self, setup: Setup) -> Maker:
        from gdn_verify.arena import Arena
        from gdn_verify.feed import place_tables

        def build(roster: Roster) -> Built:
            batch = _filled(roster)
            arena = Arena("cpu")
            return Built(place_tables(arena, batch, setup.width or 1, setup.presentation, self.capabilities))

        return Maker(build)


def _filled(roster: Roster) -> Batch:
    """The rows as a case has them, those of nobody among them."""
    blank = Nobody(0, (None,))
    return Batch((*roster.rows, *[blank] * ((roster.pad_to or len(roster.rows)) - len(roster.rows))))


def kernel_rows(roster: Roster, shown: Presentation) -> list[Row]:
    """The rows as the kernels' helpers take them: a draft names no more slots than it has."""
    from gdn_verify.kernels.tables import Row

    return [
        Row(
            row.tokens,
            tuple(shown.physical(slot) for slot in row.slots[: _named(row.slots)]),
            accepted=row.accepted,
            fresh=row.fresh,
            read_slot=None if row.read is None else shown.physical(row.read),
        )
        for row in roster.rows
    ]


def _named(slots: Sequence[int | None]) -> int:
    """How many columns there are up to the last with a slot, one at least."""
    return max((column + 1 for column, slot in enumerate(slots) if slot is not None), default=1)


def _dtype(shown: Presentation) -> torch.dtype:
    import torch

    return torch.int64 if shown.index_type is IndexType.I64 else torch.int32


def _commit(shown: Presentation, conv_width: int | None = None) -> Commit:
    """The helper's, told the width of the conv and given a pool with a column to spare; or left to work it out."""
    import torch

    from gdn_verify.kernels.tables import commit

    ours = partial(commit, width=conv_width, pad_slot_id=shown.sentinel)
    if conv_width is None:
        return ours

    def spared(pool: torch.Tensor, conv_pool: torch.Tensor, table: torch.Tensor, counts: torch.Tensor) -> None:
        wide = torch.cat([conv_pool, conv_pool[:, :, :1]], 2)
        ours(pool, wide, table, counts)
        conv_pool.copy_(wide[:, :, :-1])

    return spared


def _promised(made: Tables, *, wide: bool, reads: bool) -> None:
    """Raises ValueError where tables have a form that the helpers' pages rule out, though a reader could take it."""
    if (made.state_indices.ndim == 2) != wide:
        raise ValueError(f"state_indices has {made.state_indices.ndim} dimensions; of drafts alone it has two")
    if (made.read_indices is not None) != reads:
        raise ValueError(f"read_indices is {made.read_indices}; it is given exactly if a row has a slot to read")


def _built(made: Tables, rows: Sequence[Row], roster: Roster, shown: Presentation) -> Built:
    """The tables, which the kernels' own reader takes, and how the rows are split."""
    from gdn_verify.kernels.plan import plan_rows, read_plan
    from gdn_verify.kernels.rows import live_rows

    live_rows(made, sum(row.length for row in rows), MANY, conv=True, pad_slot_id=shown.sentinel)
    named = {field.name: getattr(made, field.name) for field in fields(made)}
    splits = {
        "device": _by_row(made),
        "host": _planned(plan_rows(rows, pad_to=roster.pad_to)),
        "read back": _planned(read_plan(made)),
    }
    _fresh_drafts(made, rows)
    return Built({name: table for name, table in named.items() if table is not None}, splits)


def _fresh_drafts(made: Tables, rows: Sequence[Row]) -> None:
    """Raises ValueError where drafts that began from nothing are not told from those that resume; no case has them."""
    import torch

    from gdn_verify.kernels.plan import plan_rows, read_plan

    begun = [row if row.accepted is None else replace(row, fresh=True) for row in rows]
    drafts = made.spec_rows if made.spec_rows is not None else torch.zeros(made.rows, dtype=torch.bool)
    known = drafts if made.has_initial_state is None else ~made.has_initial_state | drafts
    for plan in (plan_rows(begun), read_plan(replace(made, has_initial_state=~known))):
        if plan.spec or plan.fresh_spec != any(row.accepted and row.length for row in rows):
            raise ValueError(f"of {begun} the plan is {plan}")
    idle = replace(made, has_initial_state=~known, query_start_loc=torch.zeros_like(made.query_start_loc))
    if read_plan(idle).fresh_spec:
        raise ValueError(f"of {begun} without a token the plan has fresh_spec")


def _by_row(made: Tables) -> Split:
    """What the dispatcher sees on the device."""
    from gdn_verify.kernels.plan import classify

    classes = classify(made)
    if classes.fresh_spec.any():
        raise ValueError(f"fresh_spec={classes.fresh_spec.tolist()}: no row is a draft that began from nothing")
    masks = {Group.DECODE: classes.decode, Group.PREFILL: classes.prefill, Group.SPEC: classes.spec}
    rows = {group: tuple(mask.nonzero()[:, 0].tolist()) for group, mask in masks.items()}
    return Split(frozenset(group for group, members in rows.items() if members), rows)


def _planned(plan: LaunchPlan) -> Split:
    if plan.fresh_spec:
        raise ValueError(f"{plan}: no row is a draft that began from nothing")
    claimed = {Group.DECODE: plan.decode, Group.PREFILL: plan.prefill, Group.SPEC: plan.spec}
    return Split(frozenset(group for group, is_there in claimed.items() if is_there), None, plan.one_token_each)


def builders() -> Iterable[Builder]:
    """The builders of this project, both conventions of a padding id among them."""
    return (
        KernelTables(),
        KernelTables("tables-null", NULL),
        BlockedTables(),
        BufferedTables(),
        BufferedTables("tables-buffers-null", NULL),
        FedTables(),
    )
