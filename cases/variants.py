"""Cases that differ from a given one in a single feature, to find out which of its features a finding needs.

Each feature has a name, says how it is in a case, and yields the case with it otherwise: a word or number for how it is
then, and the case. What the contract forbids is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from functools import partial
from typing import Any

from gdn_verify.cases.case import Case, Row
from gdn_verify.cases.contract import RATIOS, ContractError, Options
from gdn_verify.cases.launches import renumbered
from gdn_verify.cases.presentation import Presentation
from gdn_verify.cases.simpler import altered
from gdn_verify.cases.strategies import Fed
from gdn_verify.cases.values import Values

Word = int | float | bool | str | None
Made = Callable[[], Fed]
DIMS = (1, 8, 16, 24, 32, 64, 128)
LENGTHS = (1, 2, 15, 16, 17, 63, 64, 65, 130)
"""Tokens of a row: both sides of the ends of chunks."""
PADS = {"slot_pad": 8, "row_pad": 8, "misalign": 1, "table_pad": 2, "table_step": 2, "row_step": 2, "sentinel": -7}
"""How a presentation is otherwise, beside what has few members."""


@dataclass(frozen=True)
class Feature:
    """One thing about a case: how it is, and the case with it otherwise."""

    name: str
    now: Callable[[Fed], Word]
    made: Callable[[Fed], Iterator[tuple[Word, Made]]]

    def variants(self, fed: Fed) -> Iterator[tuple[Word, Fed]]:
        """Legal cases with this feature as it is not in `fed`."""
        for word, make in self.made(fed):
            try:
                other = make()
            except ContractError:
                continue
            if other != fed:
                yield word, other


def _sizes(name: str, values: tuple[int, ...]) -> Feature:
    def made(fed: Fed) -> Iterator[tuple[Word, Made]]:
        yield from ((value, partial(_altered, fed, "geometry", **{name: value})) for value in values)

    return Feature(name, lambda fed: getattr(fed[0].geometry, name), made)


def _altered(fed: Fed, part: str, **fields: Any) -> Fed:
    return altered(fed[0], part, **fields), fed[1]


def _heads(fed: Fed) -> Iterator[tuple[Word, Made]]:
    ratio = fed[0].geometry.ratio
    yield from ((H, partial(_altered, fed, "geometry", H=H, HV=H * ratio)) for H in (1, 2, 3))


def _ratios(fed: Fed) -> Iterator[tuple[Word, Made]]:
    H = fed[0].geometry.H
    yield from ((ratio, partial(_altered, fed, "geometry", HV=H * ratio)) for ratio in RATIOS)


def _tokens(fed: Fed) -> Iterator[tuple[Word, Made]]:
    yield from ((length, partial(_longest, fed, length)) for length in LENGTHS)


def _longest(fed: Fed, length: int) -> Fed:
    """With so many tokens in its longest row."""
    places = list(_places(fed[0]))
    if not places:
        return fed
    number, place = max(places, key=lambda at: fed[0].batches[at[0]].rows[at[1]].tokens)
    return _changed(fed, number, lambda n, row: replace(row, tokens=length) if n == place else row)


def _places(case: Case) -> Iterator[tuple[int, int]]:
    return ((number, place) for number, batch in enumerate(case.batches) for place in range(len(batch.rows)))


def _changed(fed: Fed, number: int, change: Callable[[int, Row], Row]) -> Fed:
    case, shown = fed
    batch = case.batches[number]
    batch = replace(batch, rows=tuple(change(n, row) for n, row in enumerate(batch.rows)))
    return replace(case, batches=(*case.batches[:number], batch, *case.batches[number + 1 :])), shown


def _neighbours(fed: Fed) -> Iterator[tuple[Word, Made]]:
    yield "one more in front", partial(_joined, fed, True)
    yield "one more behind", partial(_joined, fed, False)


def _joined(fed: Fed, front: bool) -> Fed:
    """The first launch with another row of one token, in a slot of its own."""
    case, shown = fed
    other, first = Row(1, (case.slots,)), case.batches[0]
    rows = (other, *first.rows) if front else (*first.rows, other)
    batches = (replace(first, rows=rows), *case.batches[1:])
    return replace(case, slots=case.slots + 1, batches=batches), shown


def _padding(fed: Fed) -> Iterator[tuple[Word, Made]]:
    yield "a padded row", partial(_ended, fed, Row(1, (None,)))
    yield "a row without tokens", partial(_ended, fed, Row(0, (None,)))


def _ended(fed: Fed, row: Row) -> Fed:
    case, shown = fed
    first = case.batches[0]
    return replace(case, batches=(replace(first, rows=(*first.rows, row)), *case.batches[1:])), shown


def _slots(fed: Fed) -> Iterator[tuple[Word, Made]]:
    yield "one further", partial(_moved, fed)


def _moved(fed: Fed) -> Fed:
    case, shown = fed
    batches = tuple(renumbered(batch, lambda slot: slot + 1) for batch in case.batches)
    return replace(case, slots=case.slots + 1, batches=batches), shown


def _fresh(fed: Fed) -> Iterator[tuple[Word, Made]]:
    for fresh in (False, True):
        word = "none" if fresh else "in all rows"
        yield word, partial(_begun, fed, fresh)


def _begun(fed: Fed, fresh: bool) -> Fed:
    """With the rows of the first launch begun anew, or with states to go on from."""
    return _changed(fed, 0, lambda _, row: replace(row, fresh=fresh))


def _initial(fed: Fed) -> Word:
    fresh = [row.fresh for row in fed[0].batches[0].rows]
    return "none" if all(fresh) else "in some rows" if any(fresh) else "in all rows"


def _choices(value: Any, name: str) -> tuple[Any, ...]:
    """How a field of few members, or of a known other, is otherwise."""
    if isinstance(value, StrEnum):
        return tuple(type(value))
    if isinstance(value, bool):
        return (False, True)
    plain = getattr(Presentation(), name) if name in PADS else None
    return {"scale": (None, 1.0, 0.5), "beta_scale": (1.0, 2.0)}.get(name, (PADS[name], plain) if name in PADS else ())


def _fielded(part: str, name: str) -> Feature:
    """A field of a case's values, options or dtypes, or of its presentation."""

    def held(fed: Fed) -> Any:
        return fed[1] if part == "presentation" else getattr(fed[0], part)

    def put(fed: Fed, value: Any) -> Fed:
        if part == "presentation":
            return fed[0], replace(fed[1], **{name: value})
        return _altered(fed, part, **{name: value})

    def made(fed: Fed) -> Iterator[tuple[Word, Made]]:
        now = getattr(held(fed), name)
        yield from ((_word(value, name), partial(put, fed, value)) for value in _choices(now, name) if value != now)

    title = {"presentation": "", "dtypes": "type of "}.get(part, f"{part}: ")
    return Feature(f"{title}{name}", lambda fed: _word(getattr(held(fed), name), name), made)


def _word(value: Any, name: str = "") -> Word:
    """As it is told; an id is no quantity."""
    return value.value if isinstance(value, StrEnum) else f"id {value}" if name == "sentinel" else value


SHAPE = (
    Feature("H", lambda fed: fed[0].geometry.H, _heads),
    Feature("HV/H", lambda fed: fed[0].geometry.ratio, _ratios),
    _sizes("K", DIMS), _sizes("V", DIMS), _sizes("W", (2, 3, 4)),
)  # fmt: skip
ROWS = (
    Feature("tokens", lambda fed: max((row.tokens for b in fed[0].batches for row in b.rows), default=0), _tokens),
    Feature("rows", lambda fed: len(fed[0].batches[0].rows), _neighbours),
    Feature("padding", lambda fed: "none" if all(r.live for r in fed[0].batches[0].rows) else "some", _padding),
    Feature("slots", lambda fed: "these", _slots),
    Feature("initial state", _initial, _fresh),
)
CONTENT = tuple(
    _fielded(part, each.name)
    for part, kind in (("values", Values), ("options", Options), ("presentation", Presentation))
    for each in fields(kind)
)


def features(dtypes: tuple[str, ...]) -> tuple[Feature, ...]:
    """All that is varied of a case; of types those that the path meets in memory (`cases.narrow.stored`)."""
    return (*ROWS, *SHAPE, *_types(dtypes), *CONTENT)


def kept_by(dtypes: tuple[str, ...]) -> tuple[Feature, ...]:
    """What code or a table may be kept by that outlives a launch, the likeliest first: types, sizes of a tile."""
    return (*_types(dtypes), *sorted(SHAPE, key=lambda each: each.name not in ("K", "V")), *ROWS)


def _types(dtypes: tuple[str, ...]) -> tuple[Feature, ...]:
    return tuple(_fielded("dtypes", name) for name in dtypes)
