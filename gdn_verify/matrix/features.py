"""Features of a case as one path takes it: state order, types, ratios, sizes, padding ids, views, … each by its name.

A feature says whether a case has it, and makes a case that has it of one that has not: so that what no drawn case has
is asked for, and what a path refuses is refused for this feature and no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from operator import eq
from typing import Any

from gdn_verify.cases.case import Case, Row
from gdn_verify.cases.contract import (
    RATIOS,
    ConvLayout,
    DType,
    Geometry,
    Kind,
    Packing,
    Stage,
    StateOrder,
)
from gdn_verify.cases.narrow import stored
from gdn_verify.cases.presentation import IndexType
from gdn_verify.cases.simpler import altered
from gdn_verify.cases.strategies import Fed
from gdn_verify.cases.topics import Series, Topic
from gdn_verify.paths import Path

Has = Callable[[Fed, Path], bool]
Put = Callable[[Fed, Path], Fed]
PROMPTS: frozenset[Topic] = frozenset({Kind.PREFILL, Kind.MIXED, Series.TRAJECTORY})
LONG = 64
"""Tokens of a chunk: longer rows hand a state from one to the next."""


class NotMadeError(ValueError):
    """The case cannot be made to have the feature; others may."""


class NotOfPathError(NotMadeError):
    """No case on this path can: it is one of the path itself."""


def _any(path: Path) -> bool:
    return True


@dataclass(frozen=True)
class Feature:
    """One thing that a case has or has not, `group` and `word`; `met` by spans, on `topics` if not on all."""

    group: str
    word: str
    has: Has
    put: Put
    met: Callable[[Path], bool] = _any
    topics: frozenset[Topic] | None = None

    @property
    def name(self) -> str:
        """As it stands in a matrix."""
        return f"{self.group}: {self.word}"

    def concerns(self, path: Path, topic: Topic) -> bool:
        """Whether it means anything for such launches of this path."""
        return self.met(path) and (self.topics is None or topic in self.topics)


@cache
def every() -> tuple[Feature, ...]:
    """All features, group by group."""
    return (*_layouts(), *_types(), *_sizes(), *_options(), *_paddings(), *_views(), *_rows(), *_made_of())


def names(fed: Fed, path: Path, topic: Topic) -> frozenset[str]:
    """The features that a case of `topic` has on this path."""
    return frozenset(each.name for each in every() if each.concerns(path, topic) and each.has(fed, path))


def _in(stage: Stage) -> Callable[[Path], bool]:
    return lambda path: stage in path.capabilities.span


def _pooled(path: Path) -> bool:
    return path.capabilities.pool


def _fed(group: str, word: str, met: Callable[[Path], bool], **fields: Any) -> Feature:
    """Fields of the presentation."""

    def has(fed: Fed, path: Path) -> bool:
        return all(getattr(fed[1], name) == value for name, value in fields.items())

    return Feature(group, word, has, lambda fed, path: (fed[0], replace(fed[1], **fields)), met)


def _layouts() -> Iterator[Feature]:
    yield from (_fed("state order", order.value, _in(Stage.DELTA), state_order=order) for order in StateOrder)
    yield from (_fed("packing", packing.value, _in(Stage.UNPACK), packing=packing) for packing in Packing)
    yield from (_fed("conv layout", layout.value, _in(Stage.CONV), conv_layout=layout) for layout in ConvLayout)
    yield from (_fed("indices", kind.value, _pooled, index_type=kind) for kind in IndexType)


def _types() -> Iterator[Feature]:
    for group, name in (("state type", "state"), ("activation type", "activation"), ("conv state type", "conv_state")):
        for dtype in DType:
            yield Feature(group, dtype.value, _is_of(name, dtype), _of_type(name, dtype), partial(_meets, name=name))


def _is_of(name: str, dtype: DType) -> Has:
    return lambda fed, path: getattr(fed[0].dtypes, name) is dtype


def _of_type(name: str, dtype: DType) -> Put:
    """With it, what the path wants of the same type."""

    def put(fed: Fed, path: Path) -> Fed:
        c = path.capabilities
        changed = [other for other in stored(c.span) if other in c.alike] if name in c.alike else [name]
        return altered(fed[0], "dtypes", **dict.fromkeys(changed, dtype)), fed[1]

    return put


def _meets(path: Path, name: str) -> bool:
    return name in stored(path.capabilities.span)


def _sizes() -> Iterator[Feature]:
    yield from (_geometry("ratio", str(ratio), partial(_is_ratio, ratio), partial(_heads, ratio)) for ratio in RATIOS)
    for axis in ("K", "V"):
        yield from (_dim(axis, str(size), partial(eq, size), size) for size in (16, 64, 128, 256))
        yield _dim(axis, "no power of two", lambda d: d & (d - 1) != 0, 24)
    yield _geometry("sizes", "K = V", lambda g: g.K == g.V, lambda g: {"V": g.K})
    yield _geometry("sizes", "K ≠ V", lambda g: g.K != g.V, lambda g: {"V": 32 if g.K != 32 else 16})
    for width in (2, 3, 4, 5):
        of_width = _geometry("conv width", str(width), partial(_is_width, width), partial(_wide, width))
        yield replace(of_width, met=_in(Stage.CONV))


def _is_ratio(ratio: int, g: Geometry) -> bool:
    return g.ratio == ratio


def _heads(ratio: int, g: Geometry) -> dict[str, int]:
    return {"HV": g.H * ratio}


def _wide(width: int, g: Geometry) -> dict[str, int]:
    return {"W": width}


def _is_width(width: int, g: Geometry) -> bool:
    return width == g.W


def _geometry(
    group: str, word: str, has: Callable[[Geometry], bool], fields: Callable[[Geometry], dict[str, int]]
) -> Feature:
    def put(fed: Fed, path: Path) -> Fed:
        return altered(fed[0], "geometry", **fields(fed[0].geometry)), fed[1]

    return Feature(group, word, lambda fed, path: has(fed[0].geometry), put)


def _dim(axis: str, word: str, has: Callable[[int], bool], size: int) -> Feature:
    """A head dimension; of a path that takes them equal, both."""

    def put(fed: Fed, path: Path) -> Fed:
        sizes = dict.fromkeys(("K", "V") if path.capabilities.square else (axis,), size)
        return altered(fed[0], "geometry", **sizes), fed[1]

    return Feature(axis, word, lambda fed, path: has(getattr(fed[0].geometry, axis)), put)


def _options() -> Iterator[Feature]:
    for group, word, name, value in (("scale", "given", "scale", 0.5), ("β", "doubled", "beta_scale", 2.0)):
        yield Feature(group, word, _differs(name), _with_option(name, value), _gated)


def _gated(path: Path) -> bool:
    return Stage.GATES in path.capabilities.span or Stage.DELTA in path.capabilities.span


def _differs(name: str) -> Has:
    return lambda fed, path: getattr(fed[0].options, name) not in (None, 1.0)


def _with_option(name: str, value: float) -> Put:
    return lambda fed, path: (altered(fed[0], "options", **{name: value}), fed[1])


IDS: dict[str, Callable[[int], int]] = {"-1": lambda P: -1, "-7": lambda P: -7, "0": lambda P: 0, "P": lambda P: P}
"""Ids of padded rows in a pool of P slots."""


def _paddings() -> Iterator[Feature]:
    for word, number in IDS.items():
        yield Feature("padding id", word, partial(_marked, number=number), partial(_padded, number=number))
    yield Feature("filling", "row of no tokens", _has_empty, _with_empty)
    yield Feature("filling", "tokens behind", lambda fed, path: any(b.pad_tokens for b in fed[0].batches), _behind)


def _slots(fed: Fed) -> int:
    return fed[0].slots + fed[1].first_slot


def _marked(fed: Fed, path: Path, number: Callable[[int], int]) -> bool:
    padded = any(row.padded and row.tokens for batch in fed[0].batches for row in batch.rows)
    return padded and fed[1].sentinel == number(_slots(fed))


def _padded(fed: Fed, path: Path, number: Callable[[int], int]) -> Fed:
    """With one more row, of nobody, like the others."""
    first = fed[0].batches[0].rows
    tokens = first[0].tokens if first and path.capabilities.equal_lengths else max(path.capabilities.min_tokens, 1)
    case = _ended(fed[0], _like(fed[0], tokens, None))
    shown = fed[1] if number(2) else replace(fed[1], first_slot=1)
    return case, replace(shown, sentinel=number(_slots((case, shown))))


def _like(case: Case, tokens: int, slot: int | None) -> Row:
    """A row that has a table if others have one, of nobody or in slots from `slot` on."""
    if not any(row.spec for row in case.batches[0].rows):
        return Row(tokens, (slot,))
    S = case.geometry.S
    table = (None,) * S if slot is None else tuple(range(slot, slot + S))
    return Row(min(tokens, S), table, accepted=1)


def _ended(case: Case, row: Row) -> Case:
    first = case.batches[0]
    more = max((slot + 1 for slot in row.slots if slot is not None), default=0)
    batches = (replace(first, rows=(*first.rows, row)), *case.batches[1:])
    return replace(case, slots=max(case.slots, more), batches=batches)


def _has_empty(fed: Fed, path: Path) -> bool:
    return any(not row.tokens for batch in fed[0].batches for row in batch.rows)


def _with_empty(fed: Fed, path: Path) -> Fed:
    return _ended(fed[0], _like(fed[0], 0, fed[0].slots)), fed[1]


def _behind(fed: Fed, path: Path) -> Fed:
    first, *others = fed[0].batches
    return replace(fed[0], batches=(replace(first, pad_tokens=3), *others)), fed[1]


def _views() -> Iterator[Feature]:
    for word, name, value, met in (
        ("slots apart", "slot_pad", 16, _pooled), ("tokens apart", "row_pad", 16, _any),
        ("tables apart", "table_pad", 1, _pooled), ("misaligned", "misalign", 1, _any),
    ):  # fmt: skip
        yield Feature("views", word, _apart(name), _laid(name, value), met)


def _apart(name: str) -> Has:
    return lambda fed, path: getattr(fed[1], name) > 0


def _laid(name: str, value: int) -> Put:
    fields: dict[str, Any] = {name: value}
    return lambda fed, path: (fed[0], replace(fed[1], **fields))


def _rows() -> Iterator[Feature]:
    yield Feature("rows", "fresh", _some_row(lambda row: row.fresh), _first_row(fresh=True), topics=PROMPTS)
    yield Feature(
        "rows", "resumed", _some_row(lambda row: not row.fresh and row.tokens > 1), _first_row(fresh=False),
        topics=PROMPTS,
    )  # fmt: skip
    elsewhere = _some_row(lambda row: not row.in_place and not row.fresh)
    yield Feature("rows", "read elsewhere", elsewhere, _reading_elsewhere, topics=PROMPTS)
    long = _some_row(lambda row: row.tokens > LONG)
    yield Feature("rows", "longer than a chunk", long, _first_row(tokens=LONG + 6), topics=PROMPTS)


def _some_row(has: Callable[[Row], bool]) -> Has:
    return lambda fed, path: any(has(row) for batch in fed[0].batches for _, row in batch.live_rows())


def _first_row(**fields: Any) -> Put:
    return lambda fed, path: _changed(fed, lambda row: replace(row, **fields))


def _changed(fed: Fed, change: Callable[[Row], Row]) -> Fed:
    """The first prompt of the first launch changed; raises NotMadeError where there is none."""
    first, *others = fed[0].batches
    place = next((n for n, row in first.live_rows() if not row.spec and row.tokens > 1), None)
    if place is None:
        raise NotMadeError("no prompt")
    rows = tuple(change(row) if n == place else row for n, row in enumerate(first.rows))
    return replace(fed[0], batches=(replace(first, rows=rows), *others)), fed[1]


def _reading_elsewhere(fed: Fed, path: Path) -> Fed:
    wider = replace(fed[0], slots=fed[0].slots + 1), fed[1]
    return _changed(wider, lambda row: replace(row, fresh=False, read=fed[0].slots))


def _made_of() -> Iterator[Feature]:
    """What is of the path itself: all of its cases have it, or none."""
    yield _own("states", "pool in place", _pooled)
    yield _own("states", "dense", lambda path: not path.capabilities.pool)
    yield from (_own("span", stage.value, _in(stage)) for stage in Stage)
    kept, longer = _some_row(lambda row: row.tokens >= LONG), _first_row(tokens=LONG + 6)

    def lengthened(fed: Fed, path: Path) -> Fed:
        if not path.checkpoints:
            raise NotOfPathError("the path keeps no checkpoint states")
        return longer(fed, path)

    yield Feature(
        "checkpoints", "kept", lambda fed, path: path.checkpoints and kept(fed, path), lengthened, topics=PROMPTS
    )


def _own(group: str, word: str, has: Callable[[Path], bool]) -> Feature:
    return Feature(group, word, lambda fed, path: has(path), _cannot)


def _cannot(fed: Fed, path: Path) -> Fed:
    states = "states in a pool" if _pooled(path) else "dense states"
    raise NotOfPathError(f"the path is {path.capabilities.span}, with {states}")
