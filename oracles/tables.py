"""The metadata of a launch in plain Python: what any builder of index tensors must come to.

Written row by row from the contract, without tensors and apart from `gdn_verify.feed` and `gdn_verify.kernels.tables`,
which are held to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gdn_verify.cases.case import Batch, Row
from gdn_verify.cases.contract import Group
from gdn_verify.cases.presentation import Presentation


@dataclass(frozen=True)
class Tables:
    """Index tables of a launch of N rows, as tuples.

    `query_start_loc` N + 1 offsets; `state_indices` N rows of one id, or of S ids where the launch has a draft;
    `num_accepted_tokens` N counts, 0 for a row that is no draft, None where there is no draft; `read_indices` N ids,
    None for a row without initial state (it reads nothing, and any id will do), or None where no row reads elsewhere
    than it writes; `padding` the numbers of rows that name no sequence; `groups` the rows that compute, by what they
    are, each in launch order.
    """

    query_start_loc: tuple[int, ...]
    state_indices: tuple[tuple[int, ...], ...]
    has_initial_state: tuple[bool, ...]
    num_accepted_tokens: tuple[int, ...] | None
    read_indices: tuple[int | None, ...] | None
    padding: tuple[int, ...]
    groups: dict[Group, tuple[int, ...]]


def padded(batch: Batch, rows: int) -> Batch:
    """The batch filled up to a captured number of rows: by rows of nobody, without tokens."""
    return replace(batch, rows=(*batch.rows, *[Row(0, (None,))] * (rows - len(batch.rows))))


def tables(batch: Batch, width: int, presentation: Presentation) -> Tables:
    """The tables of `batch` where drafts have `width` slots; ids are those of `presentation`."""
    starts = [0]
    for row in batch.rows:
        starts.append(starts[-1] + row.tokens)
    drafts = any(row.spec for row in batch.rows)
    separate = any(row.read is not None for row in batch.rows)
    return Tables(
        query_start_loc=tuple(starts),
        state_indices=tuple(_ids(row, width if drafts else 1, presentation) for row in batch.rows),
        has_initial_state=tuple(not row.fresh for row in batch.rows),
        num_accepted_tokens=tuple(row.accepted or 0 for row in batch.rows) if drafts else None,
        read_indices=tuple(_read(row, presentation) for row in batch.rows) if separate else None,
        padding=tuple(number for number, row in enumerate(batch.rows) if row.padded),
        groups={group: _members(batch, group) for group in Group},
    )


def _ids(row: Row, width: int, presentation: Presentation) -> tuple[int, ...]:
    """A row's slots, the rest of its columns holding the sentinel."""
    ids = []
    for column in range(width):
        slot = row.slots[column] if column < len(row.slots) else None
        ids.append(presentation.sentinel if slot is None else slot + presentation.first_slot)
    return tuple(ids)


def _read(row: Row, presentation: Presentation) -> int | None:
    if row.fresh:
        return None
    slot = row.slots[0] if row.read is None else row.read
    return presentation.sentinel if slot is None else slot + presentation.first_slot


def _members(batch: Batch, group: Group) -> tuple[int, ...]:
    return tuple(number for number, row in enumerate(batch.rows) if row.live and row.group is group)


@dataclass(frozen=True)
class Copies:
    """What a commit does to pools, as "to: from": slots of recurrent states, and (slot, column) of conv states."""

    states: dict[int, int]
    columns: dict[tuple[int, int], tuple[int, int]]


def committed(batch: Batch, counts: Sequence[int], past: int) -> Copies:
    """The commit of a launch's drafts, of which counts[n] tokens were accepted; conv histories have `past` columns.

    Slots are logical. Rows that are no draft, or that name no slot to go from or to, keep what they have.
    """
    copies = Copies({}, {})
    for row, accepted in zip(batch.rows, counts, strict=True):
        home, source = row.slots[0], row.slots[accepted - 1] if row.spec else None
        if home is not None and source is not None:
            copies.states[home] = source
            copies.columns.update({(home, at): (home, accepted - 1 + at) for at in range(past)})
    return copies
