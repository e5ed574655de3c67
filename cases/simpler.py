"""Simpler cases than a given one: passes, each of which makes one thing less and leaves the rest alone.

A pass yields cases one by one, the boldest first; whoever asks keeps the first that still shows what is looked for,
and asks again. No pass yields what the contract forbids. None undoes what another does, so that asking ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, replace
from enum import StrEnum
from typing import Any, TypeVar

from gdn_verify.cases.case import Batch, Case, Move, Row
from gdn_verify.cases.contract import RATIOS, ContractError, DType, DTypes, Options
from gdn_verify.cases.presentation import Presentation
from gdn_verify.cases.values import Values

Fed = tuple[Case, Presentation]
Pass = Callable[[Fed], Iterator[Fed]]
Item = TypeVar("Item")
SIZES = (1, 2, 3, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Head dimensions that are tried for a larger one: powers of two, and others."""


def plain_values(fed: Fed) -> Iterator[Fed]:
    """Recipes as by default, or nearer to the first of their kind; first all at once. And seed 0."""
    case, shown = fed
    yield from _kept(fed, lambda: (replace(case, values=Values(seed=case.values.seed)), shown))
    for name, default in _defaults(case.values, Values()):
        for other in (default, *_before(getattr(case.values, name))):
            yield from _kept(fed, lambda n=name, o=other: (_valued(case, n, o), shown))  # type: ignore[misc]


def plain_options(fed: Fed) -> Iterator[Fed]:
    """Scalars and activations of the equations as they are by default, one by one."""
    case, shown = fed
    for name, value in _defaults(case.options, Options()):
        options = replace(case.options, **{name: value})
        yield from _kept(fed, lambda o=options: (replace(case, options=o), shown))  # type: ignore[misc]


def plain_presentation(fed: Fed) -> Iterator[Fed]:
    """Fed as by default: first in all respects, then in one."""
    case, shown = fed
    yield from _kept(fed, lambda: (case, Presentation()))
    for name, value in _defaults(shown, Presentation()):
        yield from _kept(fed, lambda n=name, v=value: (case, replace(shown, **{n: v})))  # type: ignore[misc]


def fewer_launches(fed: Fed) -> Iterator[Fed]:
    """Without some of the launches: all but one, a half, one."""
    case, shown = fed
    for batches in _shorter(case.batches):
        yield from _kept(fed, lambda b=batches: (replace(case, batches=b), shown))  # type: ignore[misc]


def fewer_moves(fed: Fed) -> Iterator[Fed]:
    """Without one of the states that are moved between launches."""
    for number, batch in enumerate(fed[0].batches):
        for moves in _shorter(batch.moves, least=0):
            yield from _with_batch(fed, number, lambda b=batch, m=moves: replace(b, moves=m))  # type: ignore[misc]


def fewer_rows(fed: Fed) -> Iterator[Fed]:
    """Without some of the rows of a launch: all but one, a half, one."""
    for number, batch in enumerate(fed[0].batches):
        for rows in _shorter(batch.rows):
            yield from _with_batch(fed, number, lambda b=batch, r=rows: replace(b, rows=r))  # type: ignore[misc]


def less_padding(fed: Fed) -> Iterator[Fed]:
    """Fewer tokens behind the last row."""
    for number, batch in enumerate(fed[0].batches):
        for tokens in _lower(batch.pad_tokens):
            yield from _with_batch(fed, number, lambda b=batch, t=tokens: replace(b, pad_tokens=t))  # type: ignore[misc]


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
    case, shown = fed
    order: dict[int, int] = {}
    for slot in _named(case):
        order.setdefault(slot, len(order))
    least = max(order, default=0) + 1
    if any(slot != number for slot, number in order.items()):
        yield from _kept(fed, lambda: (_renumbered(case, order, max(len(order), 1)), shown))
        yield from _kept(fed, lambda: (_renumbered(case, order, case.slots), shown))
    for slots in _lower(case.slots, least=least):
        yield from _kept(fed, lambda s=slots: (replace(case, slots=s), shown))  # type: ignore[misc]


def fewer_heads(fed: Fed) -> Iterator[Fed]:
    """Fewer key heads of the same ratio, then a lower ratio."""
    g = fed[0].geometry
    for H in _lower(g.H, least=1):
        yield from _sized(fed, H=H, HV=H * g.ratio)
    for ratio in RATIOS:
        if ratio < g.ratio:
            yield from _sized(fed, HV=g.H * ratio)


def smaller_heads(fed: Fed) -> Iterator[Fed]:
    """Lower head dimensions: both the same, then K, then V."""
    g = fed[0].geometry
    for size in SIZES:
        if size < min(g.K, g.V):
            yield from _sized(fed, K=size, V=size)
    for name in ("K", "V"):
        for size in SIZES:
            if size < getattr(g, name):
                yield from _sized(fed, **{name: size})


def shorter_memory(fed: Fed) -> Iterator[Fed]:
    """A narrower conv, and tables of fewer drafts."""
    case, shown = fed
    g = case.geometry
    for width in range(2, g.W):
        yield from _sized(fed, W=width)
    for drafts in range(g.num_spec):
        yield from _kept(fed, lambda d=drafts: (_narrower(case, d), shown))  # type: ignore[misc]


def plain_dtypes(fed: Fed) -> Iterator[Fed]:
    """Float32 instead of a narrower type: first everywhere, then in one place."""
    case, shown = fed
    yield from _kept(fed, lambda: (replace(case, dtypes=DTypes()), shown))
    for each in fields(DTypes):
        dtypes = replace(case.dtypes, **{each.name: DType.F32})
        yield from _kept(fed, lambda d=dtypes: (replace(case, dtypes=d), shown))  # type: ignore[misc]


CONTENTS: tuple[Pass, ...] = (
    fewer_launches, fewer_moves, fewer_rows, less_padding, fewer_tokens, plain_rows, near_slots, plain_presentation,
    plain_values,
)  # fmt: skip
"""Passes that leave alone what a GPU's kernels are compiled for."""
SHAPES: tuple[Pass, ...] = (fewer_heads, smaller_heads, shorter_memory, plain_options, plain_dtypes)
"""The others: each case of theirs may be one more compilation."""


def _kept(fed: Fed, make: Callable[[], Fed]) -> Iterator[Fed]:
    """What `make` makes, if the contract allows it and it is another case."""
    try:
        other = make()
    except ContractError:
        return
    if other != fed:
        yield other


def _with_batch(fed: Fed, number: int, make: Callable[[], Batch]) -> Iterator[Fed]:
    case, shown = fed

    def made() -> Fed:
        batches = (*case.batches[:number], make(), *case.batches[number + 1 :])
        return replace(case, batches=batches), shown

    yield from _kept(fed, made)


def _rows(fed: Fed, others: Callable[[Row], Iterable[Row]]) -> Iterator[Fed]:
    """One row in the place of another."""
    for number, batch in enumerate(fed[0].batches):
        for place, row in enumerate(batch.rows):
            for other in others(row):
                rows = (*batch.rows[:place], other, *batch.rows[place + 1 :])
                yield from _with_batch(fed, number, lambda b=batch, r=rows: replace(b, rows=r))  # type: ignore[misc]


def _sized(fed: Fed, **sizes: int) -> Iterator[Fed]:
    case, shown = fed
    yield from _kept(fed, lambda: (replace(case, geometry=replace(case.geometry, **sizes)), shown))


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


def _valued(case: Case, name: str, recipe: Any) -> Case:
    return replace(case, values=replace(case.values, **{name: recipe}))


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


def _renumbered(case: Case, order: dict[int, int], slots: int) -> Case:
    def row(old: Row) -> Row:
        own = tuple(None if slot is None else order[slot] for slot in old.slots)
        return replace(old, slots=own, read=None if old.read is None else order[old.read])

    def move(old: Move) -> Move:
        return replace(old, slots=tuple(order[slot] for slot in old.slots), to=order[old.to])

    batches = (replace(b, rows=tuple(map(row, b.rows)), moves=tuple(map(move, b.moves))) for b in case.batches)
    return replace(case, slots=slots, batches=tuple(batches))


def _narrower(case: Case, drafts: int) -> Case:
    """The case with `drafts` draft tokens at most: tables lose their last columns."""
    width = drafts + 1

    def row(old: Row) -> Row:
        return old if old.accepted is None else replace(old, slots=old.slots[:width])

    def move(old: Move) -> Move:
        return replace(old, slots=old.slots[:width])

    batches = (replace(b, rows=tuple(map(row, b.rows)), moves=tuple(map(move, b.moves))) for b in case.batches)
    return replace(case, geometry=replace(case.geometry, num_spec=drafts), batches=tuple(batches))
