"""A table with strides is laid out so that a kernel which assumes its own reads an id of somebody else's slot."""

import pytest
import torch

from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.contract import DType, DTypes, Geometry
from gdn_verify.cases.presentation import Presentation
from gdn_verify.feed import Feed, feed, initial_pools
from gdn_verify.paths.chunk import ChunkDelta
from gdn_verify.paths.fallback import Fallback

GEOMETRY = Geometry(1, 1, 8, 8, num_spec=2)
PLAIN = (Row(1, (4,)), Row(1, (None,)), Row(3, (7,), read=2), Row(1, (0,)))
DRAFTS = (Row(2, (3, 5, 1), accepted=2), Row(2, (None, 6, 2), accepted=1), Row(1, (7, 0, 4), accepted=1))


def fed(rows: tuple[Row, ...], presentation: Presentation, dtypes: DTypes | None = None) -> Feed:
    case, path = Case(GEOMETRY, dtypes or DTypes(), 8, (Batch(rows),)), Fallback()
    return feed(case, 0, path, presentation, initial_pools(case, path, presentation), "cpu")


@pytest.mark.parametrize("rows", [PLAIN, DRAFTS], ids=["plain", "drafts"])
@pytest.mark.parametrize("pad", [1, 3])
@pytest.mark.parametrize("first", [0, 1])
def test_a_stride_hides_nothing_from_a_kernel_that_reads_it(rows: tuple[Row, ...], pad: int, first: int) -> None:
    """The ids are those of a contiguous table; the rows lie `table_pad` elements further apart."""
    wide, plain = (fed(rows, Presentation(first_slot=first, table_pad=p)).launch for p in (pad, 0))
    for name in {"state_indices", "read_indices"} & set(plain.tensors):
        assert torch.equal(wide[name], plain[name])
        assert plain[name].is_contiguous()
        assert wide[name].stride(0) == plain[name].stride(0) + pad


@pytest.mark.parametrize("rows", [PLAIN, DRAFTS], ids=["plain", "drafts"])
@pytest.mark.parametrize("pad", [1, 3])
def test_a_kernel_with_a_stride_of_its_own_reads_a_wrong_slot(rows: tuple[Row, ...], pad: int) -> None:
    """Every live row after the first gets an id that is not its own."""
    launch = fed(rows, Presentation(table_pad=pad)).launch
    for name in {"state_indices", "read_indices"} & set(launch.tensors):
        table = launch[name]
        wrong = table.as_strided(table.shape, torch.empty(table.shape).stride()).reshape(len(rows), -1)
        for number, row in enumerate(rows[1:], 1):
            if row.live:
                assert wrong[number, 0] != table.reshape(len(rows), -1)[number, 0]


@pytest.mark.parametrize("pad", [0, 2])
def test_columns_lie_apart(pad: int) -> None:
    """The ids are those of a contiguous table; who takes the next element for the next column gets a wrong slot."""
    apart, plain = (fed(DRAFTS, Presentation(table_pad=pad, table_step=n)).launch["state_indices"] for n in (2, 1))
    assert torch.equal(apart, plain)
    assert apart.stride() == (2 * 3 + pad, 2)
    wrong = apart.as_strided(apart.shape, (apart.stride(0), 1))
    assert bool((wrong[:, 1] != plain[:, 1]).all())
    assert bool(((wrong[[0, 2]] >= 0) & (wrong[[0, 2]] < 8)).all())


def test_a_table_of_one_column_has_no_columns_to_lie_apart() -> None:
    """Nor has a list of slots."""
    launch = fed(PLAIN, Presentation(table_step=2)).launch
    assert launch["state_indices"].stride() == (1,)


@pytest.mark.parametrize("rows", [PLAIN, DRAFTS], ids=["plain", "drafts"])
def test_what_stands_between_the_rows_names_slots(rows: tuple[Row, ...]) -> None:
    """Ids within the pool, so that a kernel which reads them does not crash, and no poison tells it."""
    launch = fed(rows, Presentation(table_pad=2)).launch
    table = launch["state_indices"].reshape(len(rows), -1)
    between = table.as_strided((len(rows), 2), (table.stride(0), 1), table.shape[1])
    assert bool(((between >= 0) & (between < 8)).all())


def test_the_memory_between_the_rows_is_watched() -> None:
    """A table is an input, its extra columns too."""
    made = fed(PLAIN, Presentation(table_pad=2))
    table = made.launch["state_indices"]
    table.as_strided((2,), (1,))[1] += 1
    assert [finding.buffer for finding in made.arena.violations()] == ["state_indices"]


def test_parameters_are_rounded_to_types_of_their_own() -> None:
    """Weights to theirs, A_log and dt_bias to theirs."""
    launch = fed(PLAIN, Presentation(), DTypes(weights=DType.BF16, params=DType.F16)).launch
    assert {launch[name].dtype for name in ("conv_weight", "norm_weight")} == {torch.bfloat16}
    assert {launch[name].dtype for name in ("A_log", "dt_bias")} == {torch.float16}


@pytest.mark.parametrize("name", ["num_accepted_tokens", "has_initial_state"])
def test_facts_of_rows_lie_apart(name: str) -> None:
    """They are those of a contiguous table; between two of them stands another than the first one's."""
    apart, plain = (fed(DRAFTS, Presentation(row_step=n)).launch[name] for n in (2, 1))
    assert torch.equal(apart, plain)
    assert apart.stride() == (2,)
    assert bool((apart.as_strided(apart.shape, (2,), 1) != plain).all())


def test_counts_of_rows_that_are_no_drafts_say_nothing() -> None:
    """Nobody may look at them, so they are what a kernel would act on."""
    rows = (DRAFTS[0], *[Row(1, (n,)) for n in (2, 4, 7, 0)])
    assert fed(rows, Presentation()).launch["num_accepted_tokens"].tolist() == [2, 3, 0, -3, 5]


def test_tensors_of_one_shape_have_two_strides() -> None:
    """A kernel that walks over k as over q reads another token's."""
    case, path = Case(GEOMETRY, DTypes(), 8, (Batch(PLAIN),)), ChunkDelta()
    shown = Presentation(row_pad=3)
    launch = feed(case, 0, path, shown, initial_pools(case, path, shown), "cpu").launch
    assert [launch[name].stride(0) for name in ("q", "k", "g", "beta")] == [8 + 3, 8 + 6, 1 + 3, 1 + 6]
