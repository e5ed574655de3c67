"""Passes: what they yield is legal, another case, and less in what they are for; asked again and again, they end."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gdn_verify.cases import simpler
from gdn_verify.cases.case import Batch, Case, Move, Row
from gdn_verify.cases.contract import DType, DTypes, Geometry, Kind, Options
from gdn_verify.cases.presentation import IndexType, Presentation
from gdn_verify.cases.simpler import CONTENTS, SHAPES, Pass
from gdn_verify.cases.sizes import SMALL
from gdn_verify.cases.strategies import Fed, cases
from gdn_verify.cases.values import Gates, Values, Vectors
from gdn_verify.paths.fallback import Fallback

PATH = Fallback()
ALL = (*CONTENTS, *SHAPES)
FED = st.sampled_from(Kind).flatmap(lambda kind: cases(PATH.capabilities, PATH.conventions, kind, size=SMALL))


EMPTY_DRAFT = Case(Geometry(1, 1, 8, 8, num_spec=1), DTypes(), 2, (Batch((Row(0, (0, 1), accepted=2),)),))


def last(fed: Fed, passes: tuple[Pass, ...] = ALL) -> Fed:
    """What is left where everything simpler is taken."""
    for _ in range(10_000):
        following = next((other for each in passes for other in each(fed)), None)
        if following is None:
            return fed
        fed = following
    raise AssertionError("the passes do not end")


@settings(max_examples=60, deadline=None)
@given(FED)
def test_what_is_simpler_is_another_legal_case(fed: Fed) -> None:
    """Construction checks it; none is the case itself, and each pass is a function with a name and a promise."""
    for each in ALL:
        assert each.__doc__
        assert fed not in list(each(fed))


@settings(max_examples=60, deadline=None)
@given(FED)
@example((EMPTY_DRAFT, Presentation()))
def test_where_anything_will_do_the_simplest_case_is_left(fed: Fed) -> None:
    """One launch of one row of one token on a pool of one slot, of one head of one number, fed as by default."""
    case, shown = last(fed)
    g = case.geometry
    assert (g.H, g.HV, g.K, g.V, g.W, g.num_spec) == (1, 1, 1, 1, 2, 0)
    assert shown == Presentation()
    (batch,) = case.batches
    (row,) = batch.rows
    assert (row.tokens <= 1, batch.pad_tokens, row.read, row.accepted) == (True, 0, None, None)
    assert (case.slots, case.options, case.dtypes) == (1, Options(), DTypes())
    assert case.values == Values()


ROW = Row(70, (3,), read=1)
SPEC = Row(2, (4, 0, 5), accepted=3)
CASE = Case(
    Geometry(H=4, HV=12, K=64, V=32, num_spec=2),
    DTypes(activation=DType.BF16),
    slots=9,
    batches=(Batch((ROW, SPEC), pad_tokens=5), Batch((Row(1, (3,)),), moves=(Move((3,), 7),))),
    values=Values(seed=9, k=Vectors.NORMAL, gates=Gates.SPIKE),
)
SHOWN = Presentation(slot_pad=3, sentinel=0, first_slot=1, index_type=IndexType.I64)


@pytest.mark.parametrize(
    ("each", "first"),
    [
        (simpler.fewer_launches, lambda c: len(c.batches) == 1),
        (simpler.fewer_rows, lambda c: c.batches[0].rows == (ROW,)),
        (simpler.less_padding, lambda c: c.batches[0].pad_tokens == 0),
        (simpler.fewer_tokens, lambda c: c.batches[0].rows[0].tokens == 1),
        (simpler.fewer_moves, lambda c: not c.batches[1].moves),
        (simpler.plain_rows, lambda c: c.batches[0].rows[0].read is None),
        (simpler.near_slots, lambda c: c.batches[0].rows[0].slots == (0,) and c.slots == 6),
        (simpler.fewer_heads, lambda c: (c.geometry.H, c.geometry.HV) == (1, 3)),
        (simpler.smaller_heads, lambda c: (c.geometry.K, c.geometry.V) == (1, 1)),
        (simpler.shorter_memory, lambda c: c.geometry.W == 2),
        (simpler.plain_dtypes, lambda c: c.dtypes == DTypes()),
        (simpler.plain_values, lambda c: c.values == Values(seed=9)),
    ],
)
def test_the_boldest_comes_first(each: Pass, first: Callable[[Case], bool]) -> None:
    """Of a large case, what saves most is tried before what saves little."""
    case, shown = next(each((CASE, SHOWN)))
    assert first(case)
    assert shown == SHOWN


def test_a_table_of_fewer_drafts_keeps_the_count() -> None:
    """A case whose accepted count needs a column that would go is not offered."""
    drafts = [case.geometry.num_spec for case, _ in simpler.shorter_memory((CASE, SHOWN))]
    assert set(drafts) == {2}
    fewer = Case(CASE.geometry, CASE.dtypes, 9, (Batch((Row(1, (4, 0, 5), accepted=2),)),))
    narrow = [case for case, _ in simpler.shorter_memory((fewer, SHOWN)) if case.geometry.num_spec < 2]
    assert [(case.geometry.num_spec, case.batches[0].rows[0].slots) for case in narrow] == [(1, (4, 0))]
