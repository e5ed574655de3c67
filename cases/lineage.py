"""Lineages: whose state a slot holds, token by token from the request's start.

A case names slots, not requests. Who reads which slot settles who a request is: a fresh row begins one, a row that
reads a slot goes on with the request whose state that is, a move copies it. So it can be asked of any case, of a chain
of two launches as of a trajectory, without a word about requests in its file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gdn_verify.cases.case import Batch, Case, Row


@dataclass(frozen=True)
class Root:
    """A state that the pools held before the first launch: recurrent in `slot`, conv in `conv_slot` from `column` on.

    `conv_slot` may be a slot that the launches wrote meanwhile; what the pools held at first is meant.
    """

    slot: int
    conv_slot: int
    column: int = 0


@dataclass(frozen=True)
class Segment:
    """Tokens of a request in one launch: `tokens` of them from packed position `start` of batch `batch`."""

    batch: int
    start: int
    tokens: int


@dataclass(frozen=True)
class Lineage:
    """All tokens that a state has seen, launch by launch, after `root` (None: after nothing)."""

    root: Root | None
    segments: tuple[Segment, ...] = ()

    @property
    def tokens(self) -> int:
        """How many they are."""
        return sum(segment.tokens for segment in self.segments)

    def after(self, segment: Segment) -> Lineage:
        """The lineage one launch later."""
        return Lineage(self.root, (*self.segments, segment))


Lineages = dict[int, Lineage]


def lineages(case: Case) -> Lineages:
    """Of every slot that a launch or a move wrote, the lineage of its recurrent state at the end."""
    *_, last = evolution(case)
    return last


def evolution(case: Case) -> Iterator[Lineages]:
    """`lineages` after each batch, as far as it is known by then."""
    known: Lineages = {}
    for number, batch in enumerate(case.batches):
        known = moved(known, batch)
        known = {**known, **dict(_written(known, number, batch))}
        yield known


def moved(known: Lineages, batch: Batch) -> Lineages:
    """The lineages when the batch's moves are made."""
    known = dict(known)
    for move in batch.moves:
        root = Root(move.source, move.conv_source, move.accepted - 1)
        known[move.to] = known.get(move.source) or Lineage(root)
    return known


def before(known: Lineages, row: Row) -> Lineage:
    """The lineage that a live row goes on with."""
    if row.fresh:
        return Lineage(None)
    assert row.read_slot is not None
    assert row.conv_slot is not None
    conv = row.conv_slot if row.read is None else row.read
    return known.get(row.read_slot) or Lineage(Root(row.read_slot, conv, (row.accepted or 1) - 1))


def _written(known: Lineages, number: int, batch: Batch) -> Iterator[tuple[int, Lineage]]:
    starts = batch.query_start_loc
    for place, row in batch.live_rows():
        mine = before(known, row)
        for tokens, slot in _stored(row):
            yield slot, mine.after(Segment(number, starts[place], tokens))


def _stored(row: Row) -> Iterator[tuple[int, int]]:
    """How many of the row's tokens the state of each slot has seen."""
    if not row.spec:
        yield from ((row.tokens, slot) for slot in row.written)
        return
    for token, slot in enumerate(row.slots[: row.tokens]):
        if slot is not None:
            yield token + 1, slot
