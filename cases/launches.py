"""Launches: the rows of a case's batches, drawn over numbered slots that `place` then scatters in a pool.

Rows come from tables of prototypes: legal rows over slots 0, 1, …, simplest first, that only fit what the
path takes. Drawing a row is then drawing one number, and shrinking it is shrinking that number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import combinations, cycle, islice
from math import gcd

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from gdn_verify.cases.case import Batch, Row
from gdn_verify.cases.contract import Capabilities, ContractError, Group, Kind, Padding, Stage
from gdn_verify.cases.narrow import taken_groups
from gdn_verify.cases.shapes import Draw, pick

LENGTHS = (*range(1, 9), 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 130, 192, 200, 257, 300)
LONGER = (511, 512, 513, 1000, 1024, 2049, 4096)
SHORT, SHORT_SHARE = 4, 6
"""Rows of fewer tokens are shorter than the commonest conv is wide; how much oftener they read elsewhere."""
Rows = tuple[Row, ...]


@dataclass(frozen=True)
class Room:
    """What a launch may hold: rows, tokens in all and in one row, slots; S columns a draft, ids for padding or not.

    The row that settles the kind has `opening` tokens or more, where there is such a row.
    """

    rows: int
    tokens: int
    row_tokens: int
    slots: int
    S: int
    pads: bool
    opening: int = 1


@dataclass(frozen=True)
class Opening:
    """Tables to draw a launch from: one row of each of `first`, which settle its kind, then any of `more`."""

    first: tuple[Rows, ...]
    more: Rows


def lengths(c: Capabilities, longest: int) -> tuple[int, ...]:
    """Lengths taken of rows that have tokens, shortest first."""
    low = max(c.min_tokens, 1)
    if c.max_tokens is not None and c.max_tokens < low:
        return ()
    high = min(longest, c.max_tokens or longest)
    return tuple(n for n in (*LENGTHS, *LONGER) if low <= n <= high) or (low,)


def prototypes(c: Capabilities, group: Group, room: Room) -> Rows:
    """Every live row of one group that fits, simplest first.

    Resumed prompts come up at least twice as often as fresh ones: a launch of fresh rows cannot show what befalls a
    state.
    """
    taken = lengths(c, room.row_tokens)
    if group is Group.DECODE:
        return tuple(_steps(c)) if 1 in taken else ()
    if group is Group.SPEC:
        return tuple(_drafts([n for n in range(1, room.S + 1) if n in taken], room))
    return tuple(row for n in taken for row in _prompts(c, n))


def _prompts(c: Capabilities, tokens: int) -> Iterator[Row]:
    if c.fresh_rows:
        # One resumed token is a decode row: here requests that begin with one have their share, or they would be rare.
        yield from [Row(tokens, (0,), fresh=True)] * (1 if tokens > 1 else 4)
    if tokens > 1:
        yield from [Row(tokens, (0,))] * 3
    if c.separate_slots and c.pool:
        # Of a row shorter than the conv's window the new history is partly the old one, from another slot.
        yield from [Row(tokens, (0,), read=1)] * (SHORT_SHARE if tokens < SHORT and Stage.CONV in c.span else 1)
        if c.fresh_rows:  # nothing is read then
            yield Row(tokens, (0,), fresh=True, read=1)


def _steps(c: Capabilities) -> Iterator[Row]:
    """One resumed token. Where a path has a table of slots to read from, some rows name their own there too."""
    yield Row(1, (0,))
    if c.separate_slots and c.pool:
        yield from (Row(1, (0,)), Row(1, (0,)), Row(1, (0,), read=0))


def _drafts(taken: Sequence[int], room: Room) -> Iterator[Row]:
    """Drafts of every length and accepted count, and about as often with a sentinel in any column but 0 and a-1."""
    plain = [Row(n, tuple(range(room.S)), accepted=a) for n in taken for a in range(1, room.S + 1)]
    yield from plain * max(room.S - 2, 1)
    if room.pads:
        columns = range(room.S - 1, 0, -1)
        yield from (_without(row, column) for column in columns for row in plain if row.accepted != column + 1)


def _without(row: Row, column: int) -> Row:
    slots = tuple(None if at == column else slot for at, slot in enumerate(row.slots))
    return replace(row, slots=slots)


def fillers(c: Capabilities, kind: Kind, room: Room) -> Rows:
    """Rows that compute nothing and may stand anywhere in a launch: empty ones, and padded ones.

    Plain ones come without an initial state too: no kernel may clear the slot of a row that has no token.
    """
    empty, token = _filler(c, kind, room)
    found = [empty] if c.min_tokens == 0 else []
    if room.pads and c.min_tokens == 0 and Padding.SENTINEL_EMPTY_ROW in c.paddings:
        found.append(_padded(empty))
    if room.pads and Padding.SENTINEL_ROW in c.paddings:
        found += [token, *([replace(token, tokens=room.S)] if token.spec else [])]
        found += _half_padded(c, kind, room)
    if c.fresh_rows:
        found += [replace(row, fresh=True) for row in found if not row.spec]
    return tuple(row for row in found if row.tokens <= (c.max_tokens or row.tokens))


def _half_padded(c: Capabilities, kind: Kind, room: Room) -> Iterator[Row]:
    """Drafts with a sentinel in the column that they read, which makes them padding whatever the others name."""
    drafts = kind is Kind.SPEC or (kind is Kind.MIXED and Group.SPEC in taken_groups(c))
    taken = [n for n in lengths(c, room.row_tokens) if n <= room.S]
    if drafts and taken and room.S > 1:
        longest = Row(taken[-1], tuple(range(room.S)), accepted=1)
        yield from (_without(replace(longest, accepted=a), a - 1) for a in range(1, room.S + 1))


def tails(c: Capabilities, kind: Kind, room: Room) -> tuple[Rows, ...]:
    """Ways to fill a launch up at its end, none first."""
    empty, token = _filler(c, kind, room)
    kinds = {Padding.SENTINEL_ROW: token, Padding.EMPTY_ROW: empty, Padding.SENTINEL_EMPTY_ROW: _padded(empty)}
    usable = [row for pad, row in kinds.items() if pad in c.paddings and (room.pads or not row.padded)]
    alone = [(row,) for row in usable]
    return ((), *alone, *((row, row) for row in usable), *combinations(usable, 2))


def _filler(c: Capabilities, kind: Kind, room: Room) -> tuple[Row, Row]:
    """An empty row, and a padded row of the fewest tokens; among drafts both have a table."""
    least = max(c.min_tokens, 1)
    if kind is Kind.SPEC:
        empty = Row(0, tuple(range(room.S)), accepted=1)
        return empty, _padded(replace(empty, tokens=min(least, room.S)))
    return Row(0, (0,)), _padded(Row(least, (0,)))


def _padded(row: Row) -> Row:
    return replace(row, slots=(None,) * len(row.slots), read=None)


@lru_cache(maxsize=4096)
def openings(c: Capabilities, kind: Kind, room: Room) -> tuple[Opening, ...]:
    """The ways to open a launch of `kind`: one for a single group, one a pair of groups for a mixed launch.

    A path that takes rows of equal length only has one such set a length. Raises ContractError where
    nothing is left.
    """
    groups = taken_groups(c) if kind is Kind.MIXED else (Group(kind.value),)
    tables = {group: prototypes(c, group, room) for group in groups}
    pairs = combinations(groups, 2) if kind is Kind.MIXED else [(group,) for group in groups]
    found: list[Opening] = []
    for names in pairs:
        first = tuple(tables[name] for name in names)
        more = _blend([*tables.values()], fillers(c, kind, room))
        found += _of_equal_length(first, more) if c.equal_lengths else [Opening(first, more)]
    usable = tuple(opening for opening in found if all(opening.first))
    if not usable:
        raise ContractError(f"kind={kind}: capabilities leave no such launch")
    return usable


def _of_equal_length(first: tuple[Rows, ...], more: Rows) -> Iterator[Opening]:
    for tokens in sorted({row.tokens for rows in first for row in rows}):

        def keep(rows: Rows, tokens: int = tokens) -> Rows:
            stretched = (replace(row, tokens=tokens) if row.padded and not row.spec else row for row in rows)
            return tuple(row for row in stretched if row.tokens == tokens)

        yield Opening(tuple(keep(rows) for rows in first), keep(more))


def _blend(tables: Iterable[Rows], fillers: Rows) -> Rows:
    """Rows of all tables equally often, and one filler to three of them."""
    tables = [rows for rows in tables if rows]
    longest = max((len(rows) for rows in tables), default=0)
    longest = max(longest, 3 * len(fillers))
    usual = [row for rank in zip(*(islice(cycle(rows), longest) for rows in tables), strict=True) for row in rank]
    odd = list(islice(cycle(fillers), len(usual) // 3)) if fillers else []
    return (*usual, *odd)


def launch(draw: Draw, c: Capabilities, kind: Kind, room: Room) -> Batch:
    """A launch of `kind`, rows in any order, slots numbered as they come.

    Rows that do not fit the room are left out. Shrinks to the one row (or two, mixed) that settles the kind,
    then to fewer tokens, in plain order, with no padding.
    """
    opening = pick(draw, openings(c, kind, room))
    rows = [pick(draw, _beginning(table, room.opening)) for table in opening.first]
    most = pick(draw, (1, 2, 3, *(room.rows,) * 5))
    room = replace(room, rows=min(room.rows, max(most, len(rows))))
    if opening.more and room.rows > len(rows):
        rows += [opening.more[code] for code in draw(_codes(len(opening.more), room.rows - len(rows)))]
    if room.rows >= 8:
        rows += [_least(opening)] * pick(draw, (0, 0, 0, 0, 0, 0, 6, 17, 33))
    rows = list(fitting(rows, room))
    step = pick(draw, (1, -1, 1, 3, 5))
    rows = [rows[i] for i in scatter(len(rows), range(len(rows)), pick(draw, (0, 1, -1)), step)]
    if c.equal_lengths or not c.pool:
        return Batch(tuple(numbered(rows)))
    rows += pick(draw, tails(c, kind, room))
    rows = list(fitting(rows, room))
    pad_tokens = pick(draw, (0, 0, 0, 1, 3, 17)) if Padding.TOKENS in c.paddings else 0
    batch = Batch(tuple(numbered(rows)), pad_tokens)
    if room.pads and Padding.SENTINEL_ROW in c.paddings and pick(draw, (False,) * 24 + (True,)):
        return _asleep(batch, kind)
    return batch


def _beginning(rows: Rows, tokens: int) -> Rows:
    """The rows of that many tokens or more; all rows where there is none."""
    return tuple(row for row in rows if row.tokens >= tokens) or rows


def _least(opening: Opening) -> Row:
    return min(opening.first[0], key=lambda row: row.tokens)


def _asleep(batch: Batch, kind: Kind) -> Batch:
    """The batch with all rows that have tokens turned into padding, if that leaves its kind as it was."""
    rows = tuple(_padded(row) for row in batch.rows if row.tokens)
    asleep = replace(batch, rows=rows)
    return asleep if asleep.kind is kind else batch


@cache
def _codes(table: int, most: int) -> SearchStrategy[list[int]]:
    return st.lists(st.integers(0, table - 1), max_size=most)


def fitting(rows: Iterable[Row], room: Room) -> Iterator[Row]:
    """The rows for which there is room, in order; those that do not fit are passed over."""
    tokens = slots = count = 0
    for row in rows:
        if count < room.rows and tokens + row.tokens <= room.tokens and slots + _owned(row) <= room.slots:
            count, tokens, slots = count + 1, tokens + row.tokens, slots + _owned(row)
            yield row


def _owned(row: Row) -> int:
    return 1 + max((slot for slot in (*row.slots, row.read) if slot is not None), default=-1)


def numbered(rows: Iterable[Row]) -> Iterator[Row]:
    """The prototypes as rows of one launch: each owns the slots after the row's before it."""
    used = 0
    for row in rows:
        yield moved(row, lambda slot, used=used: slot + used)  # type: ignore[misc]
        used += _owned(row)


def moved(row: Row, to: Callable[[int], int]) -> Row:
    """The row with each slot renumbered."""
    slots = tuple(None if slot is None else to(slot) for slot in row.slots)
    return replace(row, slots=slots, read=None if row.read is None else to(row.read))


def renumbered(batch: Batch, to: Callable[[int], int]) -> Batch:
    """The batch with each slot of its rows and moves renumbered."""
    moves = (replace(move, slots=tuple(map(to, move.slots)), to=to(move.to)) for move in batch.moves)
    return replace(batch, rows=tuple(moved(row, to) for row in batch.rows), moves=tuple(moves))


def scatter(count: int, places: Sequence[int], start: int, step: int) -> list[int]:
    """`count` distinct members of `places`: from `start` on by `step`, or the next step that visits all of them."""
    size = len(places)
    while gcd(step, size) != 1:
        step += 1 if step > 0 else -1
    return [places[(start + i * step) % size] for i in range(count)]


def owned(batches: Iterable[Batch]) -> int:
    """How many slots the numbered rows of `batches` own together."""
    return max((_owned(row) for batch in batches for row in batch.rows), default=0)
