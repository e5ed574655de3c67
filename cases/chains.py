"""Chains: launches that take up the slots of the launch before, as a serving engine goes on."""

from __future__ import annotations

from dataclasses import replace

from gdn_verify.cases.case import Batch, Row
from gdn_verify.cases.contract import Capabilities, Group, Padding
from gdn_verify.cases.launches import Room, fitting, lengths, owned
from gdn_verify.cases.narrow import taken_groups
from gdn_verify.cases.shapes import Draw, pick

CHANGES = ("same rows", "fewer rows", "reversed", "fewer rows, padded")


def chain(draw: Draw, c: Capabilities, first: Batch, room: Room) -> tuple[Batch, ...]:
    """`first`, and one time in six one or two launches more on its slots, all rows of a later launch of one group.

    Legal by the contract: a draft goes on in its table with a count accepted from the tokens it had, or as
    a plain row on column 0; a plain row goes on as anything, as a draft with accepted 1. Shrinks to the
    first launch alone.
    """
    batches = [first]
    for _ in range(pick(draw, (0,) * 15 + (1, 1, 2)) if c.pool else 0):
        after = _follow(draw, c, batches, room)
        if after is None:
            break
        batches.append(after)
    return tuple(batches)


def _follow(draw: Draw, c: Capabilities, batches: list[Batch], room: Room) -> Batch | None:
    groups = [group for group in taken_groups(c) if _lengths(c, group, room)]
    before = [row for _, row in batches[-1].live_rows()]
    if not groups or not before:
        return None
    group = pick(draw, groups)
    change = pick(draw, CHANGES if len(before) > 1 else CHANGES[:1])
    turn = pick(draw, range(8))
    kept = before[: (len(before) + 1) // 2] if change.startswith("fewer") else before
    rows = _continued(c, group, kept[:: -1 if change == "reversed" else 1], turn, room, owned(batches))
    rows = list(fitting(rows, replace(room, slots=10**9)))  # the slots were counted as they were handed out
    if not rows:
        return None
    if change.endswith("padded") and room.pads and Padding.SENTINEL_ROW in c.paddings:
        blank = replace(rows[0], slots=(None,) * len(rows[0].slots))
        rows = list(fitting([*rows, *[blank] * (len(before) - len(rows))], replace(room, slots=10**9)))
    return Batch(tuple(rows))


def _lengths(c: Capabilities, group: Group, room: Room) -> tuple[int, ...]:
    taken = lengths(c, room.row_tokens)
    fit = {Group.DECODE: range(1, 2), Group.PREFILL: range(2, 66), Group.SPEC: range(1, room.S + 1)}[group]
    return tuple(n for n in taken if n in fit)


def _continued(c: Capabilities, group: Group, before: list[Row], turn: int, room: Room, used: int) -> list[Row]:
    """Each row of `before` gone on in `group`, with lengths and counts that `turn` varies from row to row."""
    taken = _lengths(c, group, room)
    rows: list[Row] = []
    for number, row in enumerate(before):
        at = turn if c.equal_lengths else turn + number
        tokens = taken[at % len(taken)]
        if group is not Group.SPEC:
            rows.append(Row(tokens, row.slots[:1]))
        elif row.spec:
            readable = [a for a in range(1, row.tokens + 1) if row.slots[a - 1] is not None]
            rows.append(Row(tokens, row.slots, accepted=readable[at % len(readable)]))
        elif used + room.S - 1 <= room.slots:
            table = (*row.slots, *range(used, used + room.S - 1))
            rows.append(Row(tokens, table, accepted=1))
            used += room.S - 1
    return rows
