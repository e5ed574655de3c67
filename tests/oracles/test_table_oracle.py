"""The metadata oracle, and the two builders that are held to it: the suite's feed and the kernels' own helper."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.contract import Group, Kind
from gdn_verify.cases.presentation import Presentation
from gdn_verify.cases.sizes import SMALL
from gdn_verify.cases.strategies import cases
from gdn_verify.feed import feed, initial_pools
from gdn_verify.kernels import tables as kernels
from gdn_verify.oracles.tables import Tables, committed, padded, tables
from gdn_verify.paths.fallback import Fallback

PATH = Fallback()
FED = st.sampled_from(Kind).flatmap(lambda kind: cases(PATH.capabilities, PATH.conventions, kind, size=SMALL))


def test_a_mixed_launch_by_hand() -> None:
    """A draft, a resumed token, a fresh prompt and a padded row; slot 0 reserved."""
    rows = (
        Row(2, (4, 1, 2), accepted=2),
        Row(1, (0,)),
        Row(3, (5,), fresh=True),
        Row(1, (None,)),
    )
    made = tables(Batch(rows), 3, Presentation(sentinel=0, first_slot=1))
    assert made == Tables(
        query_start_loc=(0, 2, 3, 6, 7),
        state_indices=((5, 2, 3), (1, 0, 0), (6, 0, 0), (0, 0, 0)),
        has_initial_state=(True, True, False, True),
        num_accepted_tokens=(2, 0, 0, 0),
        read_indices=None,
        padding=(3,),
        groups={Group.DECODE: (1,), Group.PREFILL: (2,), Group.SPEC: (0,)},
    )


def test_separate_reads_by_hand() -> None:
    """A row reads where it says, or in place; one without initial state reads nothing."""
    rows = (Row(2, (4,), read=1), Row(2, (0,)), Row(3, (5,), fresh=True), Row(1, (None,)))
    assert tables(Batch(rows), 1, Presentation(sentinel=-1)).read_indices == (1, 0, None, -1)


def test_a_launch_is_filled_up_by_rows_of_nobody() -> None:
    """They begin where the last row ends, name the sentinel in every column, and are in no group."""
    draft = Row(2, (4, 1, 2), accepted=2)
    made = tables(padded(Batch((draft,), pad_tokens=3), 3), 3, Presentation(sentinel=-7))
    assert made.query_start_loc == (0, 2, 2, 2)
    assert made.state_indices == ((4, 1, 2), (-7, -7, -7), (-7, -7, -7))
    assert made.num_accepted_tokens == (2, 0, 0)
    assert made.padding == (1, 2)
    assert made.groups == {Group.DECODE: (), Group.PREFILL: (), Group.SPEC: (0,)}


def test_a_commit_by_hand() -> None:
    """State a-1 to column 0, and its window of the conv state to the front; nothing of plain rows and padding."""
    rows = (
        Row(3, (4, 1, 2), accepted=1),
        Row(3, (5, 6, None), accepted=1),
        Row(1, (7,)),
        Row(2, (None, 3, None), accepted=1),
    )
    made = committed(Batch(rows), (2, 3, 1, 2), past=2)
    assert made.states == {4: 1}
    assert made.columns == {(4, 0): (4, 1), (4, 1): (4, 2)}


def _wide(table: object) -> list[list[int]]:
    values = table.tolist()  # type: ignore[attr-defined]
    return [row if isinstance(row, list) else [row] for row in values]


def _listed(table: torch.Tensor | None) -> tuple[int, ...] | None:
    return None if table is None else tuple(table.tolist())


def _same(got: tuple[int, ...] | None, want: tuple[int | None, ...] | None) -> bool:
    """None stands for any number."""
    if got is None or want is None:
        return got is want
    return len(got) == len(want) and all(id_ is None or id_ == mine for mine, id_ in zip(got, want, strict=True))


@settings(max_examples=150, deadline=None)
@given(FED)
def test_what_a_path_is_fed_is_what_the_oracle_says(fed: tuple[Case, Presentation]) -> None:
    """Every table of a launch, of any kind, padding and sentinel."""
    case, shown = fed
    want = tables(case.batches[0], case.geometry.S, shown)
    launch = feed(case, 0, PATH, shown, initial_pools(case, PATH, shown), "cpu").launch
    assert tuple(launch["query_start_loc"].tolist()) == want.query_start_loc
    assert _wide(launch["state_indices"]) == [list(ids) for ids in want.state_indices]
    assert tuple(launch["has_initial_state"].tolist()) == want.has_initial_state
    counts = _listed(launch.get("num_accepted_tokens"))
    if counts is not None:  # of a row that is no draft it may be anything
        counts = tuple(n if row.spec else 0 for n, row in zip(counts, case.batches[0].rows, strict=True))
    assert _same(counts, want.num_accepted_tokens)
    assert _same(_listed(launch.get("read_indices")), want.read_indices)


@settings(max_examples=150, deadline=None)
@given(FED)
def test_the_kernels_own_helper_agrees(fed: tuple[Case, Presentation]) -> None:
    """`kernels.tables.build_tables`, given the same rows, makes the same tables."""
    case, shown = fed
    batch = case.batches[0]
    want = tables(batch, case.geometry.S, shown)
    drafts = want.num_accepted_tokens is not None
    rows = [
        kernels.Row(
            row.tokens,
            tuple(shown.physical(slot) for slot in row.slots),
            row.accepted,
            row.fresh,
            None if row.read is None else shown.physical(row.read),
        )
        for row in batch.rows
    ]
    made = kernels.build_tables(rows, width=case.geometry.S if drafts else None, pad_slot_id=shown.sentinel)
    assert tuple(made.query_start_loc.tolist()) == want.query_start_loc
    assert _wide(made.state_indices) == [list(ids) for ids in want.state_indices]
    assert made.has_initial_state is not None
    assert tuple(made.has_initial_state.tolist()) == want.has_initial_state


@pytest.mark.parametrize("kind", Kind)
def test_every_live_row_is_in_one_group(kind: Kind) -> None:
    """Padding and idle rows are in none, and no row is lost."""

    @settings(max_examples=40, deadline=None)
    @given(cases(PATH.capabilities, PATH.conventions, kind, size=SMALL))
    def check(fed: tuple[Case, Presentation]) -> None:
        case, shown = fed
        made = tables(case.batches[0], case.geometry.S, shown)
        named = sorted(number for members in made.groups.values() for number in members)
        assert named == [number for number, _ in case.batches[0].live_rows()]
        assert not set(named) & set(made.padding)

    check()
