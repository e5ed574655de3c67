"""Generated cases are legal, within a path's capabilities, repeatable, and shrink to what a person can read."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, event, find, given, settings
from hypothesis import strategies as st

from gdn_verify.cases.case import Case, Row
from gdn_verify.cases.contract import (
    Capabilities,
    ContractError,
    Conventions,
    Dims,
    DType,
    DTypes,
    Group,
    IdRule,
    Kind,
    Options,
    Padding,
    Span,
    Stage,
    StateOrder,
)
from gdn_verify.cases.narrow import refuses
from gdn_verify.cases.presentation import Presentation
from gdn_verify.cases.sizes import LONG, PREFILL_SMALL, SMALL, WIDE, Size
from gdn_verify.cases.strategies import cases, draw_cases, shape_pool
from gdn_verify.cases.values import Betas, Fill, Gates, States, Taps, Values, Vectors

LAYER = Span(Stage.UNPACK, Stage.NORM)
ANY = Capabilities(LAYER, separate_slots=True, beta_scales=frozenset({1.0, 2.0}))
PADS = Conventions(pads=tuple((stage, IdRule.MINUS_ONE) for stage in Stage))
QUICK = settings(deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))


def drawn(c: Capabilities, kind: Kind, n: int = 100, conventions: Conventions = PADS, **more: Any) -> list[Any]:
    return draw_cases(cases(c, conventions, kind, **more), n, 7)


def subsets(values: Any) -> st.SearchStrategy[frozenset[Any]]:
    return st.frozensets(st.sampled_from(list(values)), min_size=1)


SPANS = [Span(a, b) for a in Stage for b in Stage if a.order <= b.order] + [Span(Stage.DELTA, Stage.NORM, True)]
DIMS = [Dims(), Dims(16, 256), Dims(power_of_two=True), Dims(128, 128), Dims(1, 100, 20), Dims(64, 256, 64, True)]
PATHS = st.builds(
    Capabilities,
    span=st.sampled_from(SPANS),
    groups=subsets(Group),
    mixes=st.booleans(),
    pool=st.booleans(),
    ratios=subsets((1, 2, 3, 4, 6, 8)),
    key_dim=st.sampled_from(DIMS),
    value_dim=st.sampled_from(DIMS),
    square=st.booleans(),
    widths=subsets(range(2, 9)),
    max_spec=st.integers(0, 7),
    max_tokens=st.sampled_from([None, 1, 2, 64, 200]),
    min_tokens=st.sampled_from([0, 0, 1, 2, 64]),
    equal_lengths=st.booleans(),
    activations=subsets(DType),
    states=subsets(DType),
    conv_states=subsets(DType),
    gates=subsets(DType),
    params=subsets(DType),
    weights=subsets(DType),
    alike=st.frozensets(st.sampled_from([field.name for field in fields(DTypes)])),
    state_orders=subsets(StateOrder),
    paddings=st.frozensets(st.sampled_from(list(Padding))),
    int64_indices=st.booleans(),
    strided=st.booleans(),
    misaligned=st.booleans(),
    separate_slots=st.booleans(),
    fresh_rows=st.booleans(),
    beta_scales=subsets((1.0, 2.0)),
    scales=st.booleans(),
)
CONVENTIONS = st.builds(
    Conventions,
    pads=st.lists(st.tuples(st.sampled_from(Stage), st.sampled_from(IdRule)), max_size=3).map(tuple),
    scratch_slot=st.sampled_from([None, None, 0, 1, 3]),
)


@settings(QUICK, max_examples=120)
@given(PATHS, CONVENTIONS, st.sampled_from(Kind), st.sampled_from([SMALL, PREFILL_SMALL, WIDE]))
def test_whatever_is_drawn_is_taken(c: Capabilities, conventions: Conventions, kind: Kind, size: Size) -> None:
    """For any path: either no case of the kind exists, which is said at once, or every draw is accepted."""
    try:
        found = drawn(c, kind, 12, conventions, size=size)
    except ContractError as error:
        event("refused at once")
        if not any(words in str(error) for words in ("kind=", "leave no")):
            raise
        return
    for case, fed in found:
        assert refuses(c, conventions, case, fed) is None
        assert case.batches[0].kind is kind


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("size", [SMALL, PREFILL_SMALL, WIDE, LONG], ids=["small", "prefill", "wide", "long"])
def test_sizes_bound_the_cases(kind: Kind, size: Size) -> None:
    """Rows, tokens, heads, dims and slots stay within the bounds, in every launch; the rare bounds included."""
    row_tokens = max(size.max_row_tokens, size.rare_row_tokens)
    for case, _ in drawn(ANY, kind, size=size):
        g = case.geometry
        assert size.max_value_heads >= g.HV or size.rare_value_heads == g.HV
        assert max(g.K, g.V) <= size.max_dim
        assert case.slots <= size.max_slots
        for batch in case.batches:
            assert len(batch.rows) <= size.max_rows
            assert max(row.tokens for row in batch.rows) <= row_tokens
            assert batch.tokens <= max(size.max_tokens, row_tokens)
            assert batch.tokens * g.HV * g.K * g.V <= max(size.max_work, size.rare_work)


def work(case: Case) -> int:
    g = case.geometry
    return max(batch.tokens for batch in case.batches) * g.HV * g.K * g.V


def longest(case: Case) -> int:
    return max(row.tokens for batch in case.batches for row in batch.rows)


@pytest.mark.parametrize("kind", [Kind.PREFILL, Kind.MIXED])
def test_a_few_wide_cases_have_more_work(kind: Kind) -> None:
    """At most one in sixteen exceeds the usual bound, and production's dims meet rows longer than a chunk."""
    only = replace(ANY, key_dim=Dims(128, 128), value_dim=Dims(128, 128))
    found = [case for case, _ in drawn(only, kind, 600, size=WIDE)]
    # Two drafts may take more than the bound, whatever they cost.
    heavy = [c for c in found if work(c) > WIDE.max_work and c.batches[0].tokens > 2 * c.geometry.S]
    assert 600 * 0.02 < len(heavy) < 600 * 0.1
    assert any(longest(case) > 64 and case.geometry.HV >= 8 for case in heavy)


@pytest.mark.parametrize("size", [PREFILL_SMALL, WIDE], ids=["prefill", "wide"])
def test_a_few_prefills_have_a_longer_row(size: Size) -> None:
    """One in thirty-two draws a row beyond the usual bound, if there is work left for it."""
    found = [case for case, _ in drawn(ANY, Kind.PREFILL, 600, size=size)]
    long = [case for case in found if longest(case) > size.max_row_tokens]
    assert 600 * 0.005 < len(long) < 600 * 0.06
    assert max(map(longest, long)) == 513


def test_long_rows_come_in_a_size_of_their_own() -> None:
    """Up to 2049 tokens, 33 chunks, over few and small heads."""
    assert max(longest(case) for case, _ in drawn(ANY, Kind.PREFILL, 100, size=LONG)) == 2049


def test_a_path_too_large_for_the_size_still_gets_its_smallest_geometry() -> None:
    """A kernel for K = V = 128 and ratio 8 alone is tested with those, whatever the size asks for."""
    only = replace(ANY, key_dim=Dims(128, 128), value_dim=Dims(128, 128), ratios=frozenset({8}))
    assert {(c.geometry.HV, c.geometry.K) for c, _ in drawn(only, Kind.DECODE, 20)} == {(8, 128)}


def test_dense_paths_see_row_numbers_for_slots() -> None:
    """Row n owns slot n, in one launch, without padding."""
    dense = replace(ANY, pool=False, groups=frozenset({Group.DECODE, Group.PREFILL}))
    for case, _ in drawn(dense, Kind.MIXED, conventions=Conventions()):
        (batch,) = case.batches
        assert [row.slots for row in batch.rows] == [(n,) for n in range(len(batch.rows))]


@pytest.mark.parametrize("kind", [Kind.DECODE, Kind.MIXED])
def test_a_kind_the_path_lacks_is_refused_at_once(kind: Kind) -> None:
    """Before anything is drawn, with the kinds of rows it does take."""
    with pytest.raises(ContractError, match=f"kind={kind}: the path takes prefill"):
        cases(replace(ANY, groups=frozenset({Group.PREFILL})), PADS, kind)


def test_equal_seeds_give_equal_cases_and_a_prefix() -> None:
    """The same list for the same arguments; asking for more only appends; another seed gives others."""
    strategy = cases(ANY, PADS, Kind.MIXED)
    assert draw_cases(strategy, 30, 1) == draw_cases(cases(ANY, PADS, Kind.MIXED), 30, 1)
    assert draw_cases(strategy, 50, 1)[:30] == draw_cases(strategy, 30, 1)
    assert draw_cases(strategy, 30, 2) != draw_cases(strategy, 30, 1)


SCRIPT = """
import hashlib
from gdn_verify.cases.contract import Kind, Span, Stage
from gdn_verify.cases.reach import ANY_CONVENTIONS, any_capabilities
from gdn_verify.cases.strategies import cases, draw_cases
strategy = cases(any_capabilities(Span(Stage.UNPACK, Stage.NORM)), ANY_CONVENTIONS, Kind.MIXED)
import sys; sys.stdout.write(hashlib.sha256(repr(draw_cases(strategy, 40, 3)).encode()).hexdigest())
"""


def test_cases_do_not_depend_on_the_process() -> None:
    """Hash seed, import order and earlier draws leave the drawn cases alone."""
    outputs = set()
    for seed, before in (("0", ""), ("1", "import decimal, http.client\n")):
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        done = subprocess.run([sys.executable, "-c", before + SCRIPT], env=env, capture_output=True, check=True)
        outputs.add(done.stdout)
    assert len(outputs) == 1


def least(kind: Kind, holds: Callable[[Case, Presentation], bool], size: Size = PREFILL_SMALL) -> Any:
    """The simplest case that `holds`, as the shrinker finds it."""
    quiet = settings(QUICK, max_examples=3000, phases=[Phase.generate, Phase.shrink])
    return find(cases(ANY, PADS, kind, size=size), lambda fed: holds(*fed), settings=quiet)


RECIPES: dict[str, type[StrEnum]] = {
    "q": Vectors,
    "k": Vectors,
    "v": Fill,
    "gates": Gates,
    "beta": Betas,
    "state": States,
    "conv": Taps,
    "z": Fill,
}
SIMPLEST = {
    Kind.DECODE: (Row(1, (0,)),),
    Kind.PREFILL: (Row(1, (0,), fresh=True),),
    Kind.SPEC: (Row(1, (0, 1), accepted=1),),
    Kind.MIXED: (Row(1, (0,)), Row(1, (1,), fresh=True)),
}


@pytest.mark.parametrize("kind", Kind)
def test_shrinking_ends_at_the_simplest_case(kind: Kind) -> None:
    """One row of one token (two rows, mixed), slots in order, one head, K = V, float32, first recipes, no padding."""
    case, fed = least(kind, lambda case, _: True)
    g = case.geometry
    assert [batch.rows for batch in case.batches] == [SIMPLEST[kind]]
    assert case.batches[0].pad_tokens == 0
    assert (g.H, g.HV, g.K, g.V, g.W, g.num_spec) == (1, 1, 8, 8, 4, int(kind is Kind.SPEC))
    assert case.slots == sum(len(row.slots) for row in SIMPLEST[kind])
    first: dict[str, Any] = {name: next(iter(enum)) for name, enum in RECIPES.items()}
    assert case.values == Values(seed=0, **first | {"z": Fill.ONES})  # zeros would hide the output
    assert (case.dtypes, case.options, fed) == (DTypes(), Options(), Presentation())


def test_a_shrunk_case_keeps_only_what_the_failure_needs() -> None:
    """A long row under spikes is all that stays of a prefill that needs it."""
    case, fed = least(
        Kind.PREFILL,
        lambda case, _: case.values.gates is Gates.SPIKE and any(row.tokens > 60 for row in case.batches[0].rows),
    )
    (row,) = case.batches[0].rows
    assert row == Row(row.tokens, (0,), fresh=True)
    assert 60 < row.tokens <= 65  # lengths around a chunk's are offered first
    assert (case.geometry.HV, case.geometry.K, case.dtypes, fed) == (1, 8, DTypes(), Presentation())


def test_a_failure_of_the_layout_shrinks_to_the_layout_alone() -> None:
    """State order KV with K ≠ V, and nothing else."""
    case, fed = least(
        Kind.DECODE, lambda case, fed: fed.state_order is StateOrder.KV and case.geometry.K != case.geometry.V
    )
    assert fed == Presentation(state_order=StateOrder.KV)
    assert {case.geometry.K, case.geometry.V} == {8, 16}
    assert case.batches[0].rows == (Row(1, (0,)),)


def test_padding_shrinks_to_one_live_and_one_padded_row() -> None:
    """The sentinel stays at its default."""
    case, fed = least(Kind.DECODE, lambda case, _: any(row.padded and row.tokens for row in case.batches[0].rows))
    assert fed.sentinel == -1
    assert len(case.batches[0].rows) <= 2


@pytest.mark.parametrize("kind", Kind)
def test_a_pool_of_shapes_bounds_the_compile_keys(kind: Kind) -> None:
    """Geometry, dtypes, options and layout come from the pool alone; the rest stays free."""
    pool = shape_pool(ANY, 8, 1)
    found = drawn(ANY, kind, size=WIDE, shapes=pool)
    keys = {(c.geometry, c.dtypes, c.options, replace(p, sentinel=-1, poison=pool[0].layout.poison)) for c, p in found}
    assert keys <= {(s.geometry, s.dtypes, s.options, s.layout) for s in pool}
    assert len({c.batches for c, _ in found}) > 80


def test_a_small_pool_of_shapes_is_diverse_and_repeatable() -> None:
    """A dozen shapes show every dtype, K below and above V, ratio 3, and dims that are no powers of two."""
    pool = shape_pool(ANY, 12, 1, size=SMALL)
    assert pool == shape_pool(ANY, 12, 1, size=SMALL)
    assert len(set(pool)) == len(pool) <= 12
    geometries = [shape.geometry for shape in pool]
    assert {g.ratio for g in geometries} >= {1, 2, 3, 4}
    assert {(g.K > g.V) - (g.K < g.V) for g in geometries} == {-1, 0, 1}
    assert {shape.dtypes.activation for shape in pool} == set(DType)
    assert any(g.K & (g.K - 1) for g in geometries)


def test_most_shapes_of_a_pool_tell_head_maps_apart() -> None:
    """One key head, or one a value head, hides a wrong map, and the gate asks that most cases would show it."""
    pool = shape_pool(ANY, 12, size=WIDE)
    assert sum(1 < shape.geometry.H < shape.geometry.HV for shape in pool) >= 8
    alike = shape_pool(replace(ANY, ratios=frozenset({1})), 6, size=WIDE)
    assert len(alike) == 6


@pytest.mark.parametrize("lacks", [{}, {"activations": frozenset({DType.BF16, DType.F16})}, {"max_spec": 0}])
def test_a_wide_pool_of_shapes_begins_with_production(lacks: dict[str, Any]) -> None:
    """A layer of 16 key and 32 value heads of 128, and a quarter of it, with bf16 activations and a float32 state."""
    pool = shape_pool(replace(ANY, **lacks), 12, size=WIDE)
    assert [(s.geometry.H, s.geometry.HV, s.geometry.K, s.geometry.V) for s in pool[:2]] == [
        (16, 32, 128, 128),
        (4, 8, 128, 128),
    ]
    for shape in pool[:2]:
        d = shape.dtypes
        assert (d.activation, d.state, d.weights, d.params) == (DType.BF16, DType.F32, DType.BF16, DType.F32)


@pytest.mark.parametrize(
    "lacks", [{"ratios": frozenset({1})}, {"key_dim": Dims(1, 64)}, {"widths": frozenset({3})}, {"square": True}]
)
def test_production_shapes_are_left_out_where_a_path_lacks_them(lacks: dict[str, Any]) -> None:
    """A shape that a path does not take is no compile key of it."""
    narrow = replace(ANY, **lacks)
    pool = shape_pool(narrow, 6, size=WIDE)
    assert any(s.geometry.HV == 32 for s in pool) == ("square" in lacks)
    for case, fed in drawn(narrow, Kind.DECODE, 50, size=WIDE, shapes=pool):
        assert refuses(narrow, PADS, case, fed) is None


@pytest.mark.parametrize("activations", [frozenset(DType), frozenset({DType.BF16, DType.F16})])
def test_a_pool_of_shapes_is_not_mostly_float16(activations: frozenset[DType]) -> None:
    """At most a third of the compile keys; bfloat16 is what is served."""
    for n in (6, 12):
        pool = shape_pool(replace(ANY, activations=activations), n, size=WIDE)
        found = [shape.dtypes.activation for shape in pool]
        assert 1 <= found.count(DType.F16) <= n / 3
        assert found.count(DType.BF16) >= n / 3


def test_float16_never_meets_huge_inputs_under_random_taps() -> None:
    """That conv could leave float16's range; other dtypes do meet the pair."""
    found = [(case.dtypes.activation, case.values) for case, _ in drawn(ANY, Kind.DECODE, 2000)]
    wild = {d for d, v in found if Vectors.HUGE in (v.q, v.k) and v.conv is Taps.NORMAL}
    assert wild == {DType.F32, DType.BF16}


def test_chains_go_on_where_a_launch_ended() -> None:
    """About one case in six has two or three launches, and each takes up slots of the one before."""
    for kind in Kind:
        found = [case for case, _ in drawn(ANY, kind, 300) if len(case.batches) > 1]
        assert 300 * 0.08 < len(found) < 300 * 0.3
        for case in found:
            before, after = ({r.conv_slot for _, r in batch.live_rows()} for batch in case.batches[:2])
            assert after <= before
