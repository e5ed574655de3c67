"""A path refuses, field by field and by name, exactly what it does not take."""

from dataclasses import fields, replace
from typing import Any

import pytest

from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.contract import (
    Capabilities,
    Conventions,
    ConvLayout,
    Dims,
    DType,
    DTypes,
    Geometry,
    Group,
    IdRule,
    Options,
    Packing,
    Span,
    Stage,
    StateOrder,
)
from gdn_verify.cases.narrow import refuses
from gdn_verify.cases.presentation import IndexType, Presentation

LAYER = Span(Stage.UNPACK, Stage.NORM)
ANY = Capabilities(
    LAYER,
    qk_epsilons=frozenset({1e-6, 1e-5}),
    column_strides=True,
    row_steps=True,
    separate_slots=True,
    beta_scales=frozenset({1.0, 2.0}),
)
PADS = Conventions(pads=tuple((stage, IdRule.MINUS_ONE) for stage in Stage))
GEOMETRY = Geometry(H=2, HV=6, K=24, V=40, W=3, num_spec=1)

PLAIN, PROMPT = Row(1, (0,)), Row(5, (1,))
DRAFT, PAD = Row(2, (2, 3), accepted=2), Row(1, (None,))
EMPTY, EMPTY_PAD = Row(0, (4,)), Row(0, (None,))


def case(*rows: Row, pad_tokens: int = 0, launches: int = 1, **changes: Any) -> Case:
    batch = Batch(rows or (PLAIN,), pad_tokens)
    return replace(Case(GEOMETRY, DTypes(), 6, (batch,) * launches), **changes)


def path(**changes: Any) -> Capabilities:
    return replace(ANY, **changes)


BF16 = DTypes(*[DType.BF16] * 6)
F32 = frozenset({DType.F32})

# field of Capabilities → (its value, what is refused, what is taken, the words that name the trouble)
REFUSALS: dict[str, list[tuple[Any, Case, Case, str]]] = {
    "span": [(Span(Stage.UNPACK, Stage.CONV), case(), case(), "")],
    "groups": [(frozenset({Group.PREFILL}), case(PLAIN), case(PROMPT), "batch 0.rows: no decode rows")],
    "mixes": [(False, case(PLAIN, PROMPT), case(PLAIN, PAD, EMPTY), "decode and prefill rows in one launch")],
    "pool": [
        (False, case(DRAFT), case(PLAIN), "row 0.slots"),
        (False, case(PLAIN, PAD), case(PLAIN, EMPTY), "row 1.slots"),
        (False, case(Row(3, (0,), read=1)), case(PROMPT), "row 0.slots"),
        (False, case(pad_tokens=1), case(), "batch 0.pad_tokens=1"),
        (False, case(launches=2), case(), "case.batches"),
    ],
    "ratios": [(frozenset({1, 2}), case(), case(geometry=Geometry(1, 2, 8, 8)), "geometry.HV=6")],
    "key_dim": [(Dims(power_of_two=True), case(), case(geometry=Geometry(1, 1, 8, 24)), "geometry.K=24")],
    "value_dim": [(Dims(low=64, multiple=64), case(), case(geometry=Geometry(1, 1, 8, 64)), "geometry.V=40")],
    "square": [(True, case(), case(geometry=Geometry(1, 1, 24, 24)), "geometry.V=40")],
    "widths": [(frozenset({4}), case(), case(geometry=Geometry(1, 1, 8, 8, W=4)), "geometry.W=3")],
    "max_spec": [(0, case(), case(geometry=Geometry(1, 1, 8, 8)), "geometry.num_spec=1")],
    "max_tokens": [(4, case(PROMPT), case(PLAIN), "row 0.tokens=5")],
    "min_tokens": [
        (2, case(PLAIN), case(PROMPT), "row 0.tokens=1"),
        (1, case(EMPTY, PLAIN), case(PLAIN, EMPTY), "row 0.tokens=0"),
    ],
    "equal_lengths": [(True, case(PLAIN, PROMPT), case(PLAIN, PAD), "unequal length")],
    "activations": [(F32, case(dtypes=BF16), case(), "dtypes.activation=bfloat16")],
    "states": [(F32, case(dtypes=BF16), case(), "dtypes.state=bfloat16")],
    "conv_states": [(F32, case(dtypes=BF16), case(), "dtypes.conv_state=bfloat16")],
    "params": [(F32, case(dtypes=BF16), case(dtypes=DTypes(weights=DType.BF16)), "dtypes.params=bfloat16")],
    "weights": [(F32, case(dtypes=BF16), case(dtypes=DTypes(params=DType.BF16)), "dtypes.weights=bfloat16")],
    "alike": [
        (
            frozenset({"activation", "state"}),
            case(dtypes=DTypes(state=DType.F16)),
            case(dtypes=BF16),
            "of one type alone",
        ),
        (
            frozenset({"activation", "conv_state"}),
            case(dtypes=DTypes(conv_state=DType.F16)),
            case(),
            "of one type alone",
        ),
    ],
    "paddings": [
        (frozenset(), case(PLAIN, PAD), case(PLAIN), "no a padded row that carries a token"),
        (frozenset(), case(PLAIN, EMPTY_PAD), case(PLAIN, EMPTY), "with a sentinel id"),
        (frozenset(), case(pad_tokens=2), case(), "batch 0.pad_tokens=2"),
    ],
    "separate_slots": [(False, case(Row(3, (0,), read=1)), case(Row(3, (0,), read=0)), "row 0.read=1")],
    "fresh_rows": [(False, case(Row(3, (0,), fresh=True)), case(PROMPT), "row 0.fresh=True")],
    "qk_epsilons": [(frozenset({1e-6}), case(options=Options(qk_eps=1e-5)), case(), "options.qk_eps=1e-05")],
    "beta_scales": [(frozenset({1.0}), case(options=Options(beta_scale=2.0)), case(), "options.beta_scale=2.0")],
    "scales": [(False, case(options=Options(scale=1.0)), case(), "options.scale=1.0")],
}

# The same for fields that a presentation may run into.
LAYOUTS: dict[str, tuple[Any, Presentation, str]] = {
    "state_orders": (frozenset({StateOrder.VK}), Presentation(state_order=StateOrder.KV), "presentation.state_order"),
    "packings": (frozenset({Packing.FLAT}), Presentation(packing=Packing.INTERLEAVED), "presentation.packing"),
    "conv_layouts": (
        frozenset({ConvLayout.C_CONTIGUOUS}),
        Presentation(conv_layout=ConvLayout.D_CONTIGUOUS),
        "presentation.conv_layout",
    ),
    "int64_indices": (False, Presentation(index_type=IndexType.I64), "presentation.index_type"),
    "strided": (False, Presentation(slot_pad=8), "presentation.slot_pad"),
    "misaligned": (False, Presentation(misalign=1), "presentation.misalign"),
    "column_strides": (False, Presentation(table_step=2), "presentation.table_step"),
    "row_steps": (False, Presentation(row_step=2), "presentation.row_step"),
}


@pytest.mark.parametrize(
    ("field", "value", "refused", "taken", "words"),
    [(name, *row) for name, rows in REFUSALS.items() if name != "span" for row in rows],
)
def test_a_capability_refuses_what_it_excludes_and_nothing_else(
    field: str, value: Any, refused: Case, taken: Case, words: str
) -> None:
    """The same case is taken without the restriction, and a case within it is taken with it."""
    narrow = path(**{field: value})
    assert refuses(ANY, PADS, refused, Presentation()) is None
    assert words in (refuses(narrow, PADS, refused, Presentation()) or "taken")
    assert refuses(narrow, PADS, taken, Presentation()) is None


@pytest.mark.parametrize("field", LAYOUTS)
def test_a_layout_is_refused_by_name(field: str) -> None:
    """Packing, orders, strides, index type and alignment are refused where a path declares them away."""
    value, fed, words = LAYOUTS[field]
    assert refuses(ANY, PADS, case(), fed) is None
    assert (refuses(path(**{field: value}), PADS, case(), fed) or "taken").startswith(words)
    assert refuses(path(**{field: value}), PADS, case(), Presentation()) is None


def test_gates_in_memory_are_checked_where_a_path_takes_them() -> None:
    """The dtype of g and β matters at the delta edge; inside a span nobody sees it."""
    low = case(dtypes=DTypes(gates=DType.BF16))
    edge = Capabilities(Span(Stage.DELTA, Stage.DELTA), gates=F32)
    assert "dtypes.gates=bfloat16" in (refuses(edge, PADS, low, Presentation()) or "")
    assert refuses(path(gates=F32), PADS, low, Presentation()) is None


@pytest.mark.parametrize(
    ("span", "seen"),
    [
        (Span(Stage.CONV, Stage.CONV), {"weights"}),
        (Span(Stage.GATES, Stage.DELTA), {"params"}),
        (Span(Stage.NORM, Stage.NORM), {"weights"}),
        (LAYER, {"weights", "params"}),
    ],
)
def test_weights_and_gate_parameters_have_types_of_their_own(span: Span, seen: set[str]) -> None:
    """The conv and the norm meet weights, the gates meet A_log and dt_bias: float32 beside 16-bit weights."""
    narrow = Capabilities(span, params=F32, weights=F32)
    for name in ("weights", "params"):
        reason = refuses(narrow, PADS, case(dtypes=DTypes(**{name: DType.BF16})), Presentation())
        assert (reason is not None) == (name in seen)


def test_a_table_with_a_stride_is_refused_by_name() -> None:
    """By a path that takes no strides, or no table at all."""
    for narrow in (path(strided=False), path(pool=False)):
        assert "presentation.table_pad=2" in (refuses(narrow, PADS, case(), Presentation(table_pad=2)) or "")
    assert refuses(ANY, PADS, case(), Presentation(table_pad=2)) is None


def test_every_capability_is_covered() -> None:
    """A capability added later needs a refusal, and a test here."""
    assert {f.name for f in fields(Capabilities)} == {*REFUSALS, *LAYOUTS, "gates"}


def test_fields_no_stage_sees_never_refuse() -> None:
    """A recurrence takes any conv width, packing and conv dtype."""
    delta = Capabilities(
        Span(Stage.DELTA, Stage.DELTA),
        widths=frozenset({4}),
        conv_states=F32,
        params=F32,
        weights=F32,
        packings=frozenset(),
        max_spec=0,
    )
    odd = case(dtypes=DTypes(conv_state=DType.F16, params=DType.F16, weights=DType.F16))
    assert refuses(delta, PADS, odd, Presentation(packing=Packing.INTERLEAVED)) is None


@pytest.mark.parametrize(
    ("rules", "fed", "words"),
    [
        ((IdRule.MINUS_ONE,), Presentation(sentinel=-1), None),
        ((IdRule.MINUS_ONE,), Presentation(sentinel=-7), "presentation.sentinel=-7"),
        ((IdRule.MINUS_ONE, IdRule.NEGATIVE), Presentation(sentinel=-1), None),
        ((IdRule.NEGATIVE, IdRule.OUTSIDE), Presentation(sentinel=-7), None),
        ((IdRule.OUTSIDE,), Presentation(sentinel=6), None),
        ((IdRule.OUTSIDE,), Presentation(sentinel=6, first_slot=1), "presentation.sentinel=6"),
        ((IdRule.ZERO,), Presentation(sentinel=0, first_slot=1), None),
        ((IdRule.ZERO,), Presentation(sentinel=0), "presentation.first_slot=0"),
        ((IdRule.ZERO, IdRule.MINUS_ONE), Presentation(sentinel=0, first_slot=1), "presentation.sentinel=0"),
        ((), Presentation(), "presentation.sentinel=-1"),
    ],
)
def test_a_sentinel_is_an_id_that_all_stages_take_for_padding(
    rules: tuple[IdRule, ...], fed: Presentation, words: str | None
) -> None:
    """Stages that disagree leave fewer ids, or none; a reserved slot 0 moves the live rows up by one."""
    conventions = Conventions(pads=tuple(zip(Stage, rules, strict=False)))
    reason = refuses(ANY, conventions, case(PLAIN, PAD), fed)
    assert reason is None if words is None else words in (reason or "taken")


def test_a_live_row_never_owns_the_scratch_slot() -> None:
    """Whose contents are anybody's."""
    assert "scratch_slot" in (refuses(ANY, replace(PADS, scratch_slot=0), case(), Presentation()) or "")
    assert refuses(ANY, replace(PADS, scratch_slot=0), case(), Presentation(first_slot=1)) is None
    assert refuses(ANY, replace(PADS, scratch_slot=5), case(), Presentation()) is None
