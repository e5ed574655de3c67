"""What the contract rules out is refused on construction, by a message that names the field."""

from collections.abc import Callable
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.contract import (
    Activation,
    Capabilities,
    ContractError,
    Conventions,
    Dims,
    DType,
    DTypes,
    Geometry,
    Group,
    IdRule,
    Kind,
    Options,
    PadPolicy,
    Span,
    Stage,
)
from gdn_verify.cases.presentation import Presentation
from gdn_verify.cases.values import Values

G = Geometry(H=1, HV=1, K=8, V=8, num_spec=2)


def case(*batches: tuple[Row, ...], slots: int = 8, geometry: Geometry = G) -> Case:
    return Case(geometry, DTypes(), slots, tuple(map(Batch, batches)))


ILLEGAL: list[tuple[str, Callable[[], Any]]] = [
    ("geometry.H=0", lambda: Geometry(0, 1, 8, 8)),
    ("geometry.HV=5", lambda: Geometry(1, 5, 8, 8)),
    ("geometry.HV=3", lambda: Geometry(2, 3, 8, 8)),
    ("geometry.K=257", lambda: Geometry(1, 1, 257, 8)),
    ("geometry.V=257", lambda: Geometry(1, 1, 8, 257)),
    ("geometry.W=1", lambda: Geometry(1, 1, 8, 8, W=1)),
    ("geometry.num_spec=8", lambda: Geometry(1, 1, 8, 8, num_spec=8)),
    ("span.last=", lambda: Span(Stage.DELTA, Stage.CONV)),
    ("span.qk_normalised=True", lambda: Span(Stage.CONV, Stage.DELTA, qk_normalised=True)),
    ("options.scale=inf", lambda: Options(scale=float("inf"))),
    ("options.scale=nan", lambda: Options(scale=float("nan"))),
    ("options.conv_activation=", lambda: Options(conv_activation=Activation.SIGMOID)),
    ("options.norm_activation=", lambda: Options(norm_activation=Activation.NONE)),
    ("options.norm_eps=0", lambda: Options(norm_eps=0.0)),
    ("options.beta_scale=3", lambda: Options(beta_scale=3.0)),
    ("values.seed=-1", lambda: Values(seed=-1)),
    ("presentation.slot_pad=-1", lambda: Presentation(slot_pad=-1)),
    ("presentation.row_pad=5000", lambda: Presentation(row_pad=5000)),
    ("presentation.misalign=65", lambda: Presentation(misalign=65)),
    ("presentation.table_pad=65", lambda: Presentation(table_pad=65)),
    ("presentation.table_step=0", lambda: Presentation(table_step=0)),
    ("presentation.row_step=0", lambda: Presentation(row_step=0)),
    ("presentation.first_slot=2", lambda: Presentation(first_slot=2)),
    ("row.tokens=-1", lambda: Row(-1, (0,))),
    ("row.slots=()", lambda: Row(1, ())),
    ("row.slots=-1", lambda: Row(1, (-1,))),
    ("row.slots=(0, 1)", lambda: Row(1, (0, 1))),
    ("row.accepted=0", lambda: Row(1, (0, 1), accepted=0)),
    ("row.accepted=3", lambda: Row(1, (0, 1), accepted=3)),
    ("row.tokens=3", lambda: Row(3, (0, 1), accepted=1)),
    ("row.fresh=True", lambda: Row(1, (0, 1), accepted=1, fresh=True)),
    ("row.slots=(None, 5, 6): the conv state lives in column 0", lambda: Row(2, (None, 5, 6), accepted=2)),
    ("row.read=5", lambda: Row(1, (0, 1), accepted=1, read=5)),
    ("batch.pad_tokens=-1", lambda: Batch((), -1)),
    ("row 1 slot=0: belongs to row 0", lambda: Batch((Row(1, (0,)), Row(1, (0,))))),
    ("row 1 slot=0: belongs to row 0", lambda: Batch((Row(1, (0,)), Row(2, (1,), read=0)))),
    ("row 1 slot=0: belongs to row 0", lambda: Batch((Row(1, (0,)), Row(0, (0,))))),
    ("row 0 slots=(0, 0): are distinct", lambda: Batch((Row(1, (0, 0), accepted=1),))),
    ("case.slots=0", lambda: case((), slots=0)),
    ("case.batches=()", lambda: case()),
    ("batch 0 row.slots=8", lambda: case((Row(1, (8,)),))),
    ("batch 0 row.slots=(0, 1)", lambda: case((Row(1, (0, 1), accepted=1),))),
]


@pytest.mark.parametrize(("words", "make"), ILLEGAL, ids=[words for words, _ in ILLEGAL])
def test_illegal_records_cannot_be_made(words: str, make: Callable[[], Any]) -> None:
    """The error names field and value."""
    with pytest.raises(ContractError) as refusal:
        make()
    assert words in str(refusal.value)


DRAFT = Row(2, (0, 1, 2), accepted=2)
# The last launch's rows, what follows, and why it may not.
CHAINS: list[tuple[str, tuple[Row, ...], tuple[Row, ...]]] = [
    ("row.accepted=3: counts among the 2 tokens", (DRAFT,), (Row(1, (0, 1, 2), accepted=3),)),
    ("continue the table", (DRAFT,), (Row(1, (0, 3, 4), accepted=1),)),
    ("a commit, or column 0", (DRAFT,), (Row(1, (1,)),)),
    ("a commit, or column 0", (DRAFT,), (Row(4, (5,), read=2),)),
    ("columns read come from one row", (Row(4, (0,)),), (Row(1, (0, 1, 2), accepted=2),)),
    ("columns read come from one row", (DRAFT,), (Row(1, (3, 1, 2), accepted=2),)),
]


@pytest.mark.parametrize(("words", "first", "then"), CHAINS)
def test_illegal_chains_are_refused(words: str, first: tuple[Row, ...], then: tuple[Row, ...]) -> None:
    """What a launch leaves in its slots is read back as the contract allows, or not at all."""
    with pytest.raises(ContractError) as refusal:
        case(first, then)
    assert words in str(refusal.value)
    assert "batch 1" in str(refusal.value)


@pytest.mark.parametrize(
    "then",
    [
        (Row(3, (0, 1, 2), accepted=2),),
        (Row(1, (0,)),),  # column 0: accepted 1
        (Row(5, (0,)),),
        (Row(5, (1,), fresh=True),),
        (Row(1, (5,)), Row(1, (None,))),
        (Row(0, (1,)),),
    ],
)
def test_legal_chains_are_taken(then: tuple[Row, ...]) -> None:
    """The same table, column 0, a fresh start, other slots, or nothing at all may follow a draft."""
    assert len(case((DRAFT,), then).batches) == 2


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        ((Row(1, (0,)), Row(1, (1,))), Kind.DECODE),
        ((Row(1, (0,), fresh=True),), Kind.PREFILL),
        ((Row(1, (0,), read=1),), Kind.PREFILL),
        ((Row(1, (0,), read=0),), Kind.DECODE),  # in place, though it names a slot to read from
        ((Row(7, (0,)), Row(1, (None,)), Row(0, (3,))), Kind.PREFILL),
        ((Row(1, (0, 1), accepted=1),), Kind.SPEC),
        ((Row(1, (0,)), Row(2, (1,))), Kind.MIXED),
        ((Row(1, (None,)),), Kind.DECODE),
        ((Row(1, (None, None), accepted=1), Row(1, (None,))), Kind.SPEC),
        ((), Kind.DECODE),
    ],
)
def test_the_kind_is_read_off_the_live_rows(rows: tuple[Row, ...], kind: Kind) -> None:
    """Padding counts only where nothing is live."""
    assert Batch(rows).kind is kind


def test_a_draft_reads_one_column_and_writes_a_column_a_token() -> None:
    """Column a-1 is read; sentinel columns are not written; the conv state lives in column 0."""
    row = Row(2, (4, None, 6), accepted=3)
    assert (row.read_slot, row.conv_slot, row.written, row.live) == (6, 4, (4,), True)


@pytest.mark.parametrize(
    ("slots", "accepted"), [((4, None, 6), 2), ((None, 5, 6), 1), ((4, 5, None), 3), ((None, 5, None), 3)]
)
def test_a_draft_whose_read_column_is_a_sentinel_is_padded(slots: tuple[int | None, ...], accepted: int) -> None:
    """Whatever its other columns name; so it writes nothing."""
    row = Row(2, slots, accepted=accepted)
    assert (row.padded, row.live, row.written) == (True, False, ())


def test_rows_start_where_the_ones_before_end() -> None:
    """query_start_loc has one entry more than there are rows; padding tokens lie beyond the last."""
    batch = Batch((Row(3, (0,)), Row(0, (1,)), Row(2, (None,))), pad_tokens=4)
    assert batch.query_start_loc == (0, 3, 3, 5)
    assert batch.tokens == 5


def test_records_are_frozen_and_hashable() -> None:
    """A case can be a key, and nobody changes it under one's feet."""
    made = case((DRAFT,))
    assert hash(made) == hash(case((DRAFT,)))
    with pytest.raises(FrozenInstanceError):
        made.slots = 3  # type: ignore[misc]


def test_geometry_derives_what_follows() -> None:
    """Ratio, channels, columns of a conv slot and spec width."""
    g = Geometry(H=2, HV=6, K=24, V=40, W=4, num_spec=3)
    assert (g.ratio, g.D, g.C, g.S) == (3, 2 * 2 * 24 + 6 * 40, 6, 4)


def test_a_span_is_an_interval_of_stages() -> None:
    """It contains, iterates and prints in the order of the layer."""
    span = Span(Stage.CONV, Stage.DELTA)
    assert list(span) == [Stage.CONV, Stage.GATES, Stage.DELTA]
    assert Stage.NORM not in span
    assert (str(span), str(Span(Stage.NORM, Stage.NORM))) == ("conv…delta", "norm")


@pytest.mark.parametrize(
    ("rule", "marked"),
    [
        (IdRule.MINUS_ONE, {-1}),
        (IdRule.ZERO, {0}),
        (IdRule.NEGATIVE, {-1, -7}),
        (IdRule.NOT_POSITIVE, {-1, -7, 0}),
        (IdRule.OUTSIDE, {-1, -7, 4, 9}),
    ],
)
def test_rules_mark_their_ids(rule: IdRule, marked: set[int]) -> None:
    """In a pool of four slots, among the ids that are ever generated; a live slot 3 is never one."""
    assert {i for i in (-7, -1, 0, 3, 4, 9) if rule.marks(i, 4)} == marked
    assert set(Conventions(pads=((Stage.CONV, rule),)).pad_ids(4)) == marked
    assert rule.reserves_zero is (0 in marked)


def test_unstated_conventions_are_the_weakest() -> None:
    """No ids for padding, and padded outputs unspecified."""
    stated = Conventions(pad_outputs=(("o", PadPolicy.ZEROS),))
    assert Conventions().pad_ids(4) == ()
    assert (stated.pad_output("o"), stated.pad_output("z")) == (PadPolicy.ZEROS, PadPolicy.UNSPECIFIED)


def test_kinds_follow_from_groups() -> None:
    """Mixed launches need two groups and a path that mixes them."""
    span = Span(Stage.DELTA, Stage.DELTA)
    assert Capabilities(span).kinds == (Kind.DECODE, Kind.PREFILL, Kind.SPEC, Kind.MIXED)
    assert Capabilities(span, groups=frozenset({Group.SPEC})).kinds == (Kind.SPEC,)
    assert Kind.MIXED not in Capabilities(span, mixes=False).kinds


def test_dims_say_why() -> None:
    """Out of range, no multiple, no power of two."""
    dims = Dims(16, 128, 8, power_of_two=True)
    assert dims.refuses("K", 64) is None
    reasons = [dims.refuses("K", k) or "" for k in (8, 129, 20, 24)]
    for word, reason in zip(("16…128", "16…128", "multiple", "power"), reasons, strict=True):
        assert reason.startswith("K=")
        assert word in reason


@pytest.mark.parametrize(("dtype", "digits", "largest"), [(DType.F32, 24, 3.4e38), (DType.BF16, 8, 3.38e38)])
def test_dtypes_know_their_numbers(dtype: DType, digits: int, largest: float) -> None:
    """Half an ulp at 1, and the largest finite number."""
    assert dtype.unit_roundoff == 2.0**-digits
    assert dtype.largest == pytest.approx(largest, rel=0.01)
