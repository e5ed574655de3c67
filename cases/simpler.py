"""Simpler cases than a given one: passes, each of which makes one thing less and leaves the rest alone.

A pass yields cases one by one, the boldest first; whoever asks keeps the first that still shows what is looked for,
and asks again. No pass yields what the contract forbids. None undoes what another does, so that asking ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, replace
from enum import StrEnum
from functools import partial
from typing import Any, TypeVar

from gdn_verify.cases.case import Batch, Case, Move, Row
from gdn_verify.cases.contract import RATIOS, ContractError, DTypes, Options
from gdn_verify.cases.launches import renumbered
from gdn_verify.cases.presentation import Presentation
from gdn_verify.cases.strategies import Fed
from gdn_verify.cases.values import Values

Pass = Callable[[Fed], Iterator[Fed]]
Item = TypeVar("Item")
SIZES = (1, 2, 3, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Head dimensions that are tried for a larger one: powers of two, and others."""


def plain_values(fed: Fed) -> Iterator[Fed]:
    """Recipes as by default, or nearer to the first of their kind, first all at once; and seed 0."""
    case = fed[0]
    yield from _kept(fed, partial(replace, case, values=Values(seed=case.values.seed)))
    for name, default in _defaults(case.values, Values()):
        for other in (default, *_before(getattr(case.values, name))):
            yield from _kept(fed, partial(altered, case, "values", **{name: other}))


def plain_options(fed: Fed) -> Iterator[Fed]:
    """Scalars and activations of the equations as they are by default, one by one."""
    for name, value in _defaults(fed[0].options, Options()):
        yield from _kept(fed, partial(altered, fed[0], "options", **{name: value}))


def plain_presentation(fed: Fed) -> Iterator[Fed]:
    """Fed as by default: first in all respects, then in one."""
    case, shown = fed
    others = [replace(shown, **{name: value}) for name, value in _defaults(shown, Presentation())]
    yield from ((case, other) for other in (Presentation(), *others) if other != shown)


def fewer_launches(fed: Fed) -> Iterator[Fed]:
    """Fewer launches: one alone, a half of them, all but one."""
    for batches in _shorter(fed[0].batches):
        yield from _kept(fed, partial(replace, fed[0], batches=batches))


def fewer_moves(fed: Fed) -> Iterator[Fed]:
    """Fewer states that are moved before a launch, down to none."""
    yield from _batches(fed, lambda batch: (partial(replace, batch, moves=m) for m in _shorter(batch.moves, least=0)))


def fewer_rows(fed: Fed) -> Iterator[Fed]:
    """Fewer rows in a launch: one alone, a half of them, all but one."""
    yield from _batches(fed, lambda batch: (partial(replace, batch, rows=rows) for rows in _shorter(batch.rows)))


def less_padding(fed: Fed) -> Iterator[Fed]:
    """Fewer tokens behind the last row, down to none."""
    yield from _batches(fed, lambda batch: (partial(replace, batch, pad_tokens=t) for t in _lower(batch.pad_tokens)))


def fewer_tokens(fed: Fed) -> Iterator[Fed]:
    """Fewer tokens in a row, down to one."""
    yield from _rows(fed, lambda row: (replace(row, tokens=t) for t in _lower(row.tokens, least=1)))


def plain_rows(fed: Fed) -> Iterator[Fed]:
    """A row that reads where it writes, or of whose draft one token was accepted, or that is no draft."""

    def others(row: Row) -> Iterator[Row]:
        if row.read is not None:
            yield replace(row, read=None)
        if row.accepted is not None:
            if row.tokens <= 1:
                yield Row(row.tokens, row.slots[:1])
            yield from (replace(row, accepted=count) for count in range(1, row.accepted))

    yield from _rows(fed, others)


def near_slots(fed: Fed) -> Iterator[Fed]:
    """Slots numbered in the order in which they are named, in a pool without others; or only fewer others."""
    case, order = fed[0], dict[int, int]()
    for slot in _named(case):
        order.setdefault(slot, len(order))
    if any(slot != number for slot, number in order.items()):
        batches = tuple(renumbered(batch, order.__getitem__) for batch in case.batches)
        for slots in (len(order), case.slots):
            yield from _kept(fed, partial(replace, case, slots=slots, batches=batches))
    for slots in _lower(case.slots, least=max(order, default=0) + 1):
        yield from _kept(fed, partial(replace, case, slots=slots))


def fewer_heads(fed: Fed) -> Iterator[Fed]:
    """Fewer key heads of the same ratio, then a lower ratio."""
    case, g = fed[0], fed[0].geometry
    for H in _lower(g.H, least=1):
        yield from _kept(fed, partial(altered, case, "geometry", H=H, HV=H * g.ratio))
    for ratio in RATIOS:
        if ratio < g.ratio:
            yield from _kept(fed, partial(altered, case, "geometry", HV=g.H * ratio))


def smaller_heads(fed: Fed) -> Iterator[Fed]:
    """Lower head dimensions: both the same, then K, then V."""
    case, g = fed[0], fed[0].geometry
    for names in (("K", "V"), ("K",), ("V",)):
        for size in SIZES:
            if all(size < getattr(g, name) for name in names):
                yield from _kept(fed, partial(altered, case, "geometry", **dict.fromkeys(names, size)))


def shorter_memory(fed: Fed) -> Iterator[Fed]:
    """A narrower conv, and tables of fewer drafts."""
    case, g = fed[0], fed[0].geometry
    for width in range(2, g.W):
        yield from _kept(fed, partial(altered, case, "geometry", W=width))
    for drafts in range(g.num_spec):
        yield from _kept(fed, partial(_narrower, case, drafts))


def plain_dtypes(fed: Fed) -> Iterator[Fed]:
    """Float32 instead of a narrower type: first everywhere, then in one place."""
    case = fed[0]
    yield from _kept(fed, partial(replace, case, dtypes=DTypes()))
    for name, value in _defaults(case.dtypes, DTypes()):
        yield from _kept(fed, partial(altered, case, "dtypes", **{name: value}))


CONTENTS: tuple[Pass, ...] = (
    fewer_launches, fewer_moves, fewer_rows, less_padding, fewer_tokens, plain_rows, near_slots, plain_presentation,
    plain_values,
)  # fmt: skip
"""Passes that leave alone what a GPU's kernels are compiled for."""
SHAPES: tuple[Pass, ...] = (fewer_heads, smaller_heads, shorter_memory, plain_options, plain_dtypes)
"""The others: each case of theirs may be one more compilation."""


def altered(case: Case, part: str, **fields: Any) -> Case:
    """The case with fields of its geometry, dtypes, values or options changed; ContractError if that is illegal."""
    return replace(case, **{part: replace(getattr(case, part), **fields)})


def _kept(fed: Fed, make: Callable[[], Case]) -> Iterator[Fed]:
    """What `make` makes, fed likewise, if the contract allows it and it is another case."""
    try:
        other = make()
    except ContractError:
        return
    if other != fed[0]:
        yield other, fed[1]


def _batches(fed: Fed, others: Callable[[Batch], Iterable[Callable[[], Batch]]]) -> Iterator[Fed]:
    """One launch in the place of another."""
    batches = fed[0].batches

    def put(number: int, make: Callable[[], Batch]) -> Case:
        return replace(fed[0], batches=(*batches[:number], make(), *batches[number + 1 :]))

    for number, batch in enumerate(batches):
        for make in others(batch):
            yield from _kept(fed, partial(put, number, make))


def _rows(fed: Fed, others: Callable[[Row], Iterable[Row]]) -> Iterator[Fed]:
    """One row in the place of another."""

    def changed(batch: Batch) -> Iterator[Callable[[], Batch]]:
        for place, row in enumerate(batch.rows):
            for other in others(row):
                yield partial(replace, batch, rows=(*batch.rows[:place], other, *batch.rows[place + 1 :]))

    yield from _batches(fed, changed)


def _shorter(items: tuple[Item, ...], least: int = 1) -> Iterator[tuple[Item, ...]]:
    """Parts of a sequence, shortest first: one alone, halves, all but one."""
    count = len(items)
    if not least and count:
        yield ()
    if count > 1:
        yield from ((item,) for item in items)
    if count > 3:
        yield items[: count // 2]
        yield items[count // 2 :]
    if count > 2:
        yield from ((*items[:n], *items[n + 1 :]) for n in reversed(range(count)))


def _lower(number: int, least: int = 0) -> Iterator[int]:
    """Lower numbers: the least, then nearer and nearer."""
    seen, gap = set[int](), number - least
    while gap > 0:
        if (lower := number - gap) not in seen:
            seen.add(lower)
            yield lower
        gap //= 2


def _before(value: Any) -> Iterator[Any]:
    """Members of an enum before this one."""
    if isinstance(value, StrEnum):
        members = list(type(value))
        yield from members[: members.index(value)]


def _defaults(now: Any, default: Any) -> Iterator[tuple[str, Any]]:
    """The fields in which two of a kind differ, with the second's value."""
    for each in fields(now):
        if (value := getattr(default, each.name)) != getattr(now, each.name):
            yield each.name, value


def _named(case: Case) -> Iterator[int]:
    """Slots in the order in which the case names them."""
    for batch in case.batches:
        for move in batch.moves:
            yield from (*move.slots, move.to)
        for row in batch.rows:
            yield from (slot for slot in (*row.slots, row.read) if slot is not None)


def _narrower(case: Case, drafts: int) -> Case:
    """The case with `drafts` draft tokens at most: tables lose their last columns."""
    width = drafts + 1

    def row(old: Row) -> Row:
        return old if old.accepted is None else replace(old, slots=old.slots[:width])

    def move(old: Move) -> Move:
        return replace(old, slots=old.slots[:width])

    batches = (replace(b, rows=tuple(map(row, b.rows)), moves=tuple(map(move, b.moves))) for b in case.batches)
    return replace(case, geometry=replace(case.geometry, num_spec=drafts), batches=tuple(batches))
