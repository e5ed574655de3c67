"""Shapes: everything about a case that a kernel is compiled for, drawn within bounds or from a small pool."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from itertools import islice, product
from random import Random
from typing import Any, TypeVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from gdn_verify.cases.case import Batch, Case
from gdn_verify.cases.contract import (
    QK_EPSILONS,
    RATIOS,
    Activation,
    Capabilities,
    ContractError,
    Conventions,
    ConvLayout,
    Dims,
    DType,
    DTypes,
    Geometry,
    Group,
    Kind,
    Options,
    Packing,
    Stage,
    StateOrder,
)
from gdn_verify.cases.narrow import refuses, stored, taken_dtypes, taken_groups
from gdn_verify.cases.presentation import IndexType, Presentation
from gdn_verify.cases.sizes import WIDE, Size

T = TypeVar("T")
Draw = Callable[[SearchStrategy[Any]], Any]


@dataclass(frozen=True)
class Shape:
    """A compile key: what a kernel is specialised for, so that a new one costs seconds on a GPU.

    Geometry, dtypes and options become constants of the code; of the presentation, packing, state order,
    conv layout, index type, strides and alignment do (a compiler assumes divisibility by 16 where it
    holds). Sentinel, first slot and poison are values and stay at their defaults here, like all else that
    is free: lengths, slots, padding, accepted counts, recipes.
    """

    geometry: Geometry
    dtypes: DTypes
    options: Options
    layout: Presentation


HEADS = (1, 2, 3, 4, 8, 16)
BEYOND = ((1, 3, 64, 43), (1, 1, 8, 1))
"""H, HV, K, V of which D, or HV·V, is one more than threads of a block: 257 and 129, or one."""
DIMS = (8, 16, 24, 32, 40, 48, 60, 64, 96, 128, 160, 192, 256)
WIDTHS = (4, 2, 3, 5)  # the default first: it is left out of case files


def pick(draw: Draw, options: Sequence[T]) -> T:
    """One of `options`, shrinking towards the first; no draw at all where there is no choice."""
    return options[0] if len(options) == 1 else options[draw(_index(len(options)))]


@cache
def _index(options: int) -> SearchStrategy[int]:
    return st.integers(0, options - 1)


def within(table: Sequence[T], ok: Callable[[T], bool], what: str) -> tuple[T, ...]:
    """The entries that are `ok`; a ContractError says that `what` leaves none."""
    kept = tuple(entry for entry in table if ok(entry))
    if not kept:
        raise ContractError(f"capabilities leave no {what}")
    return kept


def shapes(capabilities: Capabilities, kind: Kind, size: Size) -> SearchStrategy[Shape]:
    """Shapes that a path takes for launches of `kind`.

    Fields that no stage of the span sees stay at their defaults. Shrinks, field by field, towards one head,
    K = V = the smallest taken, W = 4, float32, no options, plain and aligned buffers.
    """
    tables = _Tables(capabilities, kind, size)

    @st.composite
    def shape(draw: Draw) -> Shape:
        return Shape(
            tables.geometry(draw),
            tables.dtypes(draw),
            Options(**{name: pick(draw, table) for name, table in tables.options.items()}),
            Presentation(**{name: pick(draw, table) for name, table in tables.layout.items()}),
        )

    built: SearchStrategy[Shape] = shape()
    return built


class _Tables:
    """What each field of a shape is drawn from, simplest first; entries stand twice to come up more often."""

    def __init__(self, capabilities: Capabilities, kind: Kind, size: Size) -> None:
        c = capabilities
        self.heads = _heads(c, size)
        self.dims = _dims(c, size)
        self.odd = _odd(c, size)
        conv = Stage.CONV in c.span
        self.widths = within((*WIDTHS, 6, 7, 8), c.widths.__contains__, "conv width") if conv else (4,)
        self.widths = self.widths[: len(WIDTHS)]
        self.num_spec = _num_spec(c, kind)
        self.stored = {name: _dtypes(c, name) for name in stored(c.span)}
        self.alike = [name for name in self.stored if name in c.alike]
        common = set(DType).intersection(*(self.stored[name] for name in self.alike))
        self.common = within(tuple(DType), common.__contains__, f"dtype of {', '.join(self.alike)} alike")
        self.options = _options(c)
        self.layout = _layout(c, kind)

    def geometry(self, draw: Draw) -> Geometry:
        H, ratio = pick(draw, self.heads)
        K, values = pick(draw, self.dims)
        sizes = H, H * ratio, K, pick(draw, values)
        sizes = pick(draw, self.odd) or sizes
        return Geometry(*sizes, pick(draw, self.widths), pick(draw, self.num_spec))

    def dtypes(self, draw: Draw) -> DTypes:
        alike = dict.fromkeys(self.alike, pick(draw, self.common)) if self.alike else {}
        return DTypes(**alike, **{name: pick(draw, table) for name, table in self.stored.items() if name not in alike})

    def nearest(self, wish: DTypes) -> DTypes:
        """`wish`, or the simplest type taken where one is not; of those that must be alike that of the activations."""
        wished = {name: getattr(wish, name) for name in self.stored}
        wished |= dict.fromkeys(self.alike, wish.activation)
        tables = self.stored | dict.fromkeys(self.alike, self.common)
        return DTypes(**{name: dtype if dtype in tables[name] else tables[name][0] for name, dtype in wished.items()})


def _odd(c: Capabilities, size: Size) -> tuple[tuple[int, int, int, int] | None, ...]:
    """Sizes that are drawn one time in 32 each, not at an end, which Hypothesis prefers; None for any other."""
    odd = [sizes for sizes in BEYOND if _fits(c, size, *sizes)]
    return (*[None] * 16, *odd, *[None] * 15) if odd else (None,)


def _fits(c: Capabilities, size: Size, H: int, HV: int, K: int, V: int) -> bool:
    """Whether a path takes these sizes. The norm of a single number is its sign: noise makes that a coin's."""
    least = 2 if Stage.NORM in c.span else 1
    taken = HV // H in c.ratios and not (c.key_dim.refuses("K", K) or c.value_dim.refuses("V", V))
    small = least <= V and max(K, V) <= size.max_dim and size.max_value_heads >= HV
    return taken and small and (K == V or not c.square)


def _is_beyond(g: Geometry) -> bool:
    return (g.H, g.HV, g.K, g.V) in BEYOND


def _heads(c: Capabilities, size: Size) -> tuple[tuple[int, int], ...]:
    """Pairs (H, ratio), fewest value heads first; several key heads thrice, as one cannot show a wrong head map."""
    pairs = sorted(product(HEADS, RATIOS), key=lambda pair: (pair[0] * pair[1], pair[0]))
    taken = within(pairs, lambda pair: pair[1] in c.ratios, "ratio of heads")
    small = tuple(p for p in taken if p[0] * p[1] <= size.max_value_heads) or taken[:1]
    many = tuple(p for p in taken if p[0] * p[1] == size.rare_value_heads)
    return (*small, *[p for p in small if p[0] > 1] * 2, *many)


def _dims(c: Capabilities, size: Size) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """Each K with the V's that go with it: half the time V = K, where that is taken."""
    values = _sizes(c.value_dim, "V", size)
    keys = _sizes(c.key_dim, "K", size)
    if c.square:
        both = within(range(1, 257), lambda d: not (c.key_dim.refuses("", d) or c.value_dim.refuses("", d)), "K = V")
        keys = tuple(k for k in keys if k in both) or both[:1]
        return tuple((k, (k,)) for k in keys)
    same = {k: (k,) * len(values) if k in values else () for k in keys}
    return tuple((k, (*same[k], *values)) for k in keys)


def _sizes(dims: Dims, name: str, size: Size) -> tuple[int, ...]:
    taken = within(range(1, 257), lambda d: dims.refuses(name, d) is None, name)
    small = [d for d in taken if d <= size.max_dim] or taken[:1]
    return tuple(d for d in small if d in DIMS) or tuple(small[:3])


def _num_spec(c: Capabilities, kind: Kind) -> tuple[int, ...]:
    """Drafts need S > 1 to mean something; elsewhere it only widens the conv slot."""
    drafts = Group.SPEC in taken_groups(c)
    some = tuple(n for n in (1, 2, 3, 4, 7) if n <= c.max_spec)
    if kind is Kind.SPEC:
        return some or (0,)
    if not (drafts or Stage.CONV in c.span):
        return (0,)
    return (0, 0, *some) if kind is Kind.MIXED and drafts else (0, 0, 0, 0, *some)


def _dtypes(c: Capabilities, name: str) -> tuple[DType, ...]:
    return within(tuple(DType), taken_dtypes(c, name).__contains__, f"dtype of {name}")


def _options(c: Capabilities) -> dict[str, tuple[Any, ...]]:
    conv, norm = Stage.CONV in c.span, Stage.NORM in c.span
    gated = Stage.GATES in c.span or Stage.DELTA in c.span
    out: dict[str, tuple[Any, ...]] = {}
    if gated and c.scales:
        # A scale of 0 hides everything but the state, so it is rare: not at an end, which Hypothesis prefers.
        out["scale"] = (*(None,) * 10, 0.0, *(1.0, 0.125, 2.0) * 4, *(None,) * 10)
    if gated:
        out["beta_scale"] = within((1.0, 2.0), c.beta_scales.__contains__, "beta_scale")
        out["qk_eps"] = within(QK_EPSILONS, c.qk_epsilons.__contains__, "qk_eps")
    if conv:
        out["conv_activation"] = (Activation.SILU, Activation.NONE)
        out["conv_bias"] = (False, True)
    if norm:
        out["norm_activation"] = (Activation.SILU, Activation.SIGMOID)
        out["norm_eps"] = (1e-6, 1e-5)
    return out


def _layout(c: Capabilities, kind: Kind) -> dict[str, tuple[Any, ...]]:
    out: dict[str, tuple[Any, ...]] = {}
    if Stage.UNPACK in c.span:
        out["packing"] = within(tuple(Packing), c.packings.__contains__, "packing")
    if Stage.DELTA in c.span:
        out["state_order"] = within(tuple(StateOrder), c.state_orders.__contains__, "state order")
    if Stage.CONV in c.span:
        out["conv_layout"] = within(tuple(ConvLayout), c.conv_layouts.__contains__, "conv layout")
    if c.pool and c.int64_indices:
        out["index_type"] = tuple(IndexType)
    if c.pool and c.strided:
        out["slot_pad"] = (0, 0, 16, 5, 640)
    if c.strided:
        out["row_pad"] = (0, 0, 16, 3)
    if c.misaligned:
        out["misalign"] = (0, 0, 0, 8, 1)
    if c.pool and c.strided:
        out["table_pad"] = (0, 0, 0, 1, 5)
    if c.pool and c.column_strides and kind in (Kind.SPEC, Kind.MIXED):
        out["table_step"] = (1, 1, 1, 2)
    if c.pool and c.row_steps:
        out["row_step"] = (1, 1, 1, 1, 1, 2)
    return out


def draw_cases(strategy: SearchStrategy[T], n: int, seed: int) -> list[T]:
    """`n` examples of `strategy`, the same for the same seed in every process; the first of more are a prefix."""
    return [example for example, _ in islice(drawn_cases(strategy, seed), n)]


def drawn_cases(strategy: SearchStrategy[T], seed: int) -> Iterator[tuple[T, bytes]]:
    """Examples without end, each with the bytes that it was made of, for `smallest`.

    The choices come from a seeded stream of bytes. Hypothesis's own generation would also mutate earlier
    examples and mix in constants of whatever modules happen to be imported.
    """
    drawn: list[T] = []

    @settings(database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def keep(example: T) -> None:
        drawn.append(example)

    feed = keep.hypothesis.fuzz_one_input  # type: ignore[attr-defined]
    stream = Random(seed)
    while True:
        choices = stream.randbytes(4096)
        feed(choices)
        while drawn:
            yield drawn.pop(), choices


@lru_cache(maxsize=64)
def shape_pool(capabilities: Capabilities, n: int, seed: int = 0, *, size: Size = WIDE) -> tuple[Shape, ...]:
    """At most `n` shapes: production's where `size` has such dims, then few and diverse ones.

    For `cases(shapes=...)` where every shape is a compilation. One after the other, whichever adds most values not
    yet seen: K ≠ V, each ratio, dims that are no powers of two, drafts and each dtype come in early where the path
    takes them; float16, which few models are served in, breaks no tie, and is a third at most where anything else is
    taken. Two thirds of them tell head maps apart, if any do: the gate asks that of most cases.
    """
    kinds = [kind for kind in capabilities.kinds if kind is not Kind.MIXED]
    drawn = [s for kind in kinds for s in draw_cases(shapes(capabilities, kind, size), 16 * n, seed)]
    # A scale of 0 hides everything but the state, sizes beyond a block are nobody's, and n shapes are few.
    served = (shape for shape in drawn if shape.options.scale != 0.0 and not _is_beyond(shape.geometry))
    left = [(shape, _features(shape)) for shape in served]
    pool = list(_production(capabilities, size))[:n]
    seen = {feature for shape in pool for feature in _features(shape)}
    while left and len(pool) < n:
        crowded = 3 * sum(_maps_agree(shape) for shape in pool) >= n
        plenty = 3 * (sum(shape.dtypes.activation is DType.F16 for shape in pool) + 1) > n
        able = [item for item in left if not (crowded and _maps_agree(item[0]))] or left
        able = [item for item in able if not (plenty and item[0].dtypes.activation is DType.F16)] or able
        best = max(able, key=lambda item: (len(item[1] - seen), item[0].dtypes.activation is not DType.F16))
        if best[0] not in pool:
            pool.append(best[0])
        seen |= best[1]
        left.remove(best)
    return tuple(pool)


# H, HV and num_spec of a layer of Qwen3-Next, and of one shard of four with drafts; K = V = 128.
PRODUCTION = ((16, 32, 0), (4, 8, 1))
_SERVED = DTypes(activation=DType.BF16, conv_state=DType.BF16, weights=DType.BF16)


def _production(c: Capabilities, size: Size) -> Iterator[Shape]:
    """The shapes that are served, as near as the path takes them, whatever the bound on value heads."""
    tables = _Tables(c, Kind.DECODE, size)
    options = Options(**{name: table[0] for name, table in tables.options.items()})
    layout = Presentation(**{name: table[0] for name, table in tables.layout.items()})
    for H, HV, num_spec in PRODUCTION if size.max_dim >= 128 else ():
        geometry = Geometry(H, HV, 128, 128, num_spec=num_spec if num_spec in tables.num_spec else 0)
        shape = Shape(geometry, tables.nearest(_SERVED), options, layout)
        if _takes(c, shape):
            yield shape


def _takes(c: Capabilities, shape: Shape) -> bool:
    nothing = Case(shape.geometry, shape.dtypes, 1, (Batch(()),), options=shape.options)
    return refuses(c, Conventions(), nothing, shape.layout) is None


def _maps_agree(shape: Shape) -> bool:
    """Whether value heads j have the same key head by j // ratio and by j % H."""
    return shape.geometry.H == 1 or shape.geometry.ratio == 1


def _features(shape: Shape) -> set[Any]:
    g = shape.geometry
    fields = {**asdict(g), **asdict(shape.dtypes), **asdict(shape.options), **asdict(shape.layout)}
    pairs = {("ratio", g.ratio), ("K:V", (g.K > g.V) - (g.K < g.V)), ("HV>1 and K!=V", g.HV > 1 and g.K != g.V)}
    return pairs | set(fields.items())


def table_shapes(capabilities: Capabilities) -> tuple[Shape, ...]:
    """Shapes for who makes tables and computes nothing: S, W, types and strides of indices; the least of all else."""
    c = capabilities
    specs = [n for n in (0, 2, 1, 3, 7) if n <= c.max_spec]
    types = tuple(IndexType) if c.int64_indices else (IndexType.I32,)
    pads = (0, 5) if c.strided else (0,)
    return tuple(
        Shape(Geometry(1, 1, 8, 8, W, n), DTypes(), Options(), Presentation(index_type=kind, table_pad=pad))
        for n, W, kind, pad in product(specs, (4, 2), types, pads)
    )
