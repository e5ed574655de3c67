"""Single defects planted in a copy of any table builder, by changing what it makes. No source file is touched.

Each function takes a builder and returns a defective `begin`. Tables are changed where they lie, so that a captured
graph reads the defect; some remember the launches before, as an engine's buffers do. Most are the like of a bug of the
catalogue, whose file names them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from unittest.mock import patch

import torch
from torch import Tensor

from gdn_verify.cases.contract import Group
from gdn_verify.mutants.remembered import Alter, altered, keeping
from gdn_verify.paths.builder import Begin, Builder, Built, Commit, Maker, Roster, Setup, Split


def _always(builder: Builder, alter: Callable[[Built, Roster, Setup], Built]) -> Begin:
    return altered(builder, lambda setup: lambda built, roster: alter(built, roster, setup))


def _with(built: Built, **tensors: Tensor) -> Built:
    return replace(built, tensors={**built.tensors, **tensors})


def _splits(built: Built, change: Callable[[Split], Split]) -> Built:
    return replace(built, splits={by: change(split) for by, split in built.splits.items()})


def _size(built: Built) -> int:
    return len(built.tensors["state_indices"])


def _filling(built: Built, roster: Roster) -> Iterable[int]:
    """The rows that fill a launch up."""
    return range(len(roster.rows), _size(built))


def stale_tail(builder: Builder) -> Begin:
    """Rows that fill a launch up have the slots of whoever stood there in a larger launch."""
    return keeping(builder, "state_indices", _filling)


def sleeping_row_keeps_its_slot(builder: Builder) -> Begin:
    """A row of nobody that carries a token has the slot of whoever stood in its place before."""
    return keeping(builder, "state_indices", lambda _, roster: (n for n, r in enumerate(roster.rows) if r.padded))


def counts_not_reset(builder: Builder) -> Begin:
    """A row that is no draft has the count of the draft that stood in its place before."""
    return keeping(
        builder,
        "num_accepted_tokens",
        lambda built, roster: {*range(_size(built))} - {n for n, row in enumerate(roster.rows) if row.spec},
    )


def padding_counted_as_steps(builder: Builder) -> Begin:
    """Rows that fill a launch up count as decode rows."""

    def alter(built: Built, roster: Roster, setup: Setup) -> Built:
        filling = tuple(_filling(built, roster))

        def change(split: Split) -> Split:
            if split.rows is None or not filling:
                return split
            steps = (*split.rows.get(Group.DECODE, ()), *filling)
            return replace(split, kinds=split.kinds | {Group.DECODE}, rows={**split.rows, Group.DECODE: steps})

        return _splits(built, change)

    return _always(builder, alter)


def sliced_by_tokens(builder: Builder) -> Begin:
    """Tables of rows are cut to the number of tokens, or filled up to it."""

    def alter(built: Built, roster: Roster, setup: Setup) -> Built:
        tokens = sum(row.tokens for row in roster.rows)
        return _with(
            built,
            **{
                name: torch.cat([table, table[:1].expand(tokens, *table.shape[1:])])[:tokens]
                for name, table in built.tensors.items()
                if name in ("state_indices", "num_accepted_tokens")
            },
        )

    return _always(builder, alter)


def first_token_as_a_step(builder: Builder) -> Begin:
    """A row of one token counts as a decode row, whether or not it has a state to go on from."""

    def alter(built: Built, roster: Roster, setup: Setup) -> Built:
        first = {n for n, row in enumerate(roster.rows) if row.fresh and row.tokens == 1 and not row.spec}
        return _splits(built, lambda split: _to_decode(split, first)) if first else built

    return _always(builder, alter)


def _to_decode(split: Split, moved: set[int]) -> Split:
    if split.rows is None:
        return replace(split, kinds=split.kinds | {Group.DECODE})
    rest = {group: tuple(n for n in members if n not in moved) for group, members in split.rows.items()}
    rest[Group.DECODE] = tuple(sorted({*rest.get(Group.DECODE, ()), *moved}))
    return Split(frozenset(group for group, members in rest.items() if members), rest, split.one_token_each)


def prompts_leave_the_buffers(builder: Builder) -> Begin:
    """Tables of a launch with a prompt are made beside the buffers, which keep those of the launch before."""

    def remembering(setup: Setup) -> Alter:
        before: dict[int, Mapping[str, Tensor]] = {}

        def alter(built: Built, roster: Roster) -> Built:
            made = {name: table.clone() for name, table in built.tensors.items()}
            if any(row.live and row.group is Group.PREFILL for row in roster.rows):
                for name, table in before.get(_size(built), {}).items():
                    if name in built.tensors and built.tensors[name].shape == table.shape:
                        built.tensors[name].copy_(table)
                return replace(built, tensors=made)
            before[_size(built)] = made
            return built

        return alter

    return altered(builder, remembering)


def zeros_after_a_resize(builder: Builder) -> Begin:
    """When a launch has more rows or fewer than the one before, all its ids are 0."""

    def remembering(setup: Setup) -> Alter:
        sizes: list[int] = []

        def alter(built: Built, roster: Roster) -> Built:
            if sizes and sizes[-1] != _size(built):
                built.tensors["state_indices"].zero_()
            sizes.append(_size(built))
            return built

        return alter

    return altered(builder, remembering)


def groups_out_of_order(builder: Builder) -> Begin:
    """The rows of a group are in the order of an unstable sort."""

    def change(split: Split) -> Split:
        rows = split.rows and {group: members[::-1] for group, members in split.rows.items()}
        return replace(split, rows=rows)

    return _always(builder, lambda built, roster, setup: _splits(built, change))


def plan_of_the_capture(builder: Builder) -> Begin:
    """What the host plans for the first launch of a size, it plans for all that follow."""

    def remembering(setup: Setup) -> Alter:
        plans: dict[int, Split] = {}

        def alter(built: Built, roster: Roster) -> Built:
            if (host := built.splits.get("host")) is None:
                return built
            return replace(built, splits={**built.splits, "host": plans.setdefault(_size(built), host)})

        return alter

    return altered(builder, remembering)


def offsets_go_on_in_padding(builder: Builder) -> Begin:
    """Rows that fill a launch up have a token each."""

    def alter(built: Built, roster: Roster, setup: Setup) -> Built:
        for extra, n in enumerate(_filling(built, roster), 1):
            built.tensors["query_start_loc"][n + 1] += extra
        return built

    return _always(builder, alter)


def tables_kept_by_size(builder: Builder) -> Begin:
    """Launches of one size are given the same tensors, filled anew, by a builder that says nothing of it."""

    def remembering(setup: Setup) -> Alter:
        kept: dict[tuple[str, torch.Size], Tensor] = {}

        def alter(built: Built, roster: Roster) -> Built:
            own = {name: kept.setdefault((name, table.shape), table) for name, table in built.tensors.items()}
            for name, table in own.items():
                table.copy_(built.tensors[name])
            return replace(built, tensors=own)

        return alter

    return altered(builder, remembering)


def padding_id_of_the_other_convention(builder: Builder) -> Begin:
    """Padding has the id 0, where -1 or another id that is no slot was asked for; and -1, where 0 was."""

    def alter(built: Built, roster: Roster, setup: Setup) -> Built:
        table, sentinel = built.tensors["state_indices"], setup.presentation.sentinel
        table[table == sentinel] = 0 if sentinel else -1
        return built

    return _always(builder, alter)


def counts_of_another_row(builder: Builder) -> Begin:
    """Each draft has the count of the draft after it."""

    def alter(built: Built, roster: Roster, setup: Setup) -> Built:
        drafts = [n for n, row in enumerate(roster.rows) if row.spec]
        if drafts:
            counts = built.tensors["num_accepted_tokens"]
            counts[drafts] = counts[drafts].roll(1)
        return built

    return _always(builder, alter)


def counts_of_drafts_alone(builder: Builder) -> Begin:
    """A count leaves out the token that is always accepted, and so begins with 0."""

    def alter(built: Built, roster: Roster, setup: Setup) -> Built:
        drafts = [n for n, row in enumerate(roster.rows) if row.spec]
        if drafts:
            built.tensors["num_accepted_tokens"][drafts] -= 1
        return built

    return _always(builder, alter)


def offsets_without_the_first(builder: Builder) -> Begin:
    """Row n is said to begin where row n + 1 does."""

    def alter(built: Built, roster: Roster, setup: Setup) -> Built:
        starts = built.tensors["query_start_loc"]
        starts[:-1] = starts[1:].clone()
        return built

    return _always(builder, alter)


def narrow_ids(builder: Builder) -> Begin:
    """Ids are stored in 16 bits."""
    return _always(builder, lambda built, r, s: _with(built, state_indices=built.tensors["state_indices"].short()))


def narrow_draft_table(builder: Builder) -> Begin:
    """A draft has one slot too few, as if the token that it begins with had none."""

    def alter(built: Built, roster: Roster, setup: Setup) -> Built:
        table = built.tensors["state_indices"]
        return _with(built, state_indices=table[:, :-1]) if table.ndim == 2 and table.shape[1] > 1 else built

    return _always(builder, alter)


def drafts_not_marked(builder: Builder) -> Begin:
    """Beside plain rows, no row is marked as a draft."""

    def alter(built: Built, roster: Roster, setup: Setup) -> Built:
        if "spec_rows" in built.tensors:
            built.tensors["spec_rows"].zero_()
        return built

    return _always(builder, alter)


def every_row_resumed(builder: Builder) -> Begin:
    """Every row is said to have an initial state."""

    def alter(built: Built, roster: Roster, setup: Setup) -> Built:
        built.tensors["has_initial_state"].fill_(True)
        return built

    return _always(builder, alter)


def read_where_it_writes(builder: Builder) -> Begin:
    """A row that goes on from another slot is said to read its own."""

    def alter(built: Built, roster: Roster, setup: Setup) -> Built:
        if (reads := built.tensors.get("read_indices")) is not None:
            reads.copy_(built.tensors["state_indices"].reshape(len(reads), -1)[:, 0])
        return built

    return _always(builder, alter)


def _committing(builder: Builder, commit: Callable[[Commit], Commit]) -> Begin:
    def begin(setup: Setup) -> Maker:
        maker = builder.begin(setup)
        return maker if maker.commit is None else replace(maker, commit=commit(maker.commit))

    return begin


def nothing_committed(builder: Builder) -> Begin:
    """Accepted states stay where the draft has left them."""
    return _committing(builder, lambda right: lambda pool, conv_pool, table, counts: None)


def conv_state_not_committed(builder: Builder) -> Begin:
    """The recurrent state is committed, the conv state is not."""
    return _committing(
        builder, lambda right: lambda pool, conv_pool, table, counts: right(pool, conv_pool.clone(), table, counts)
    )


def column_of_another_block_size(builder: Builder) -> Begin:
    """States are looked up in tables of blocks with the block size of another cache, a quarter of their own."""
    from gdn_verify.kernels import tables

    right = tables.state_slots

    def begin(setup: Setup) -> Maker:
        maker = builder.begin(setup)

        def build(roster: Roster) -> Built:
            with patch.object(tables, "state_slots", lambda blocks, tokens, block: right(blocks, tokens, block // 4)):
                return maker.build(roster)

        return replace(maker, build=build)

    return begin
