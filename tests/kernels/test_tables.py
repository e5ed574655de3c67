"""Index tensors from descriptions of rows: literal expectations, padding to a captured size, refusals."""

from __future__ import annotations

import pytest
import torch

from gdn_verify.kernels.rows import Tables
from gdn_verify.kernels.tables import Row, build_tables, state_slots


def lists(tables: Tables) -> dict[str, list | None]:
    return {name: None if x is None else x.tolist() for name, x in vars(tables).items()}


def test_plain_rows_have_one_slot_each():
    """A one-dimensional table, and no tensor that a plain launch does not need."""
    assert lists(build_tables([Row(1, (4,)), Row(3, (2,), fresh=True)])) == {
        "query_start_loc": [0, 1, 4],
        "state_indices": [4, 2],
        "has_initial_state": [True, False],
        "num_accepted_tokens": None,
        "spec_rows": None,
        "read_indices": None,
    }


def test_a_mixed_launch_is_filled_to_one_width():
    """Plain rows use column 0 of the table of a mixed launch; their count is a harmless 1."""
    tables = build_tables([Row(2, (5, 6, 7), accepted=3), Row(9, (1,), read_slot=8)], pad_slot_id=0)
    assert lists(tables) == {
        "query_start_loc": [0, 2, 11],
        "state_indices": [[5, 6, 7], [1, 0, 0]],
        "has_initial_state": [True, True],
        "num_accepted_tokens": [3, 1],
        "spec_rows": [True, False],
        "read_indices": [5, 8],
    }


def test_rows_are_padded_to_the_captured_size():
    """Added rows have sentinel slots and no tokens."""
    tables = build_tables([Row(1, (5,))], pad_to=3, pad_slot_id=-7, dtype=torch.int64)
    assert tables.query_start_loc.tolist() == [0, 1, 1, 1]
    assert tables.state_indices.tolist() == [5, -7, -7]
    assert tables.state_indices.dtype == tables.query_start_loc.dtype == torch.int64


def test_a_fixed_width_gives_the_same_shapes_with_and_without_spec_rows():
    """What a captured graph needs to be replayed."""
    with_spec = build_tables([Row(2, (5, 6), accepted=1)], width=2, pad_to=2)
    without = build_tables([], width=2, pad_to=2)
    shapes = [{n: getattr(x, "shape", None) for n, x in vars(t).items()} for t in (with_spec, without)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"length": -1, "slots": (0,)}, "length=-1"),
        ({"length": 1, "slots": ()}, "slots is empty"),
        ({"length": 1, "slots": (1, 2)}, "plain row"),
        ({"length": 1, "slots": (1, 2), "accepted": 1, "read_slot": 3}, "read_slot"),
    ],
)
def test_a_row_without_meaning_is_refused(fields, message):
    """The message names the argument."""
    with pytest.raises(ValueError, match=message):
        Row(**fields)


def test_rows_that_do_not_fit_are_refused():
    """Too narrow a table, too small a captured size."""
    with pytest.raises(ValueError, match="width=1: row 0 has 2 slots"):
        build_tables([Row(1, (1, 2), accepted=1)], width=1)
    with pytest.raises(ValueError, match="pad_to=1"):
        build_tables([Row(1, (1,)), Row(1, (2,))], pad_to=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query_start_loc": torch.tensor([0])}, "query_start_loc has shape"),
        ({"state_indices": torch.tensor([0.0])}, "state_indices has dtype"),
        ({"state_indices": torch.zeros(1, 0, dtype=torch.int32)}, "no columns"),
        ({"has_initial_state": torch.tensor([True, False])}, "has_initial_state has shape"),
        ({"read_indices": torch.tensor([1], dtype=torch.int16)}, "read_indices has dtype"),
    ],
)
def test_tables_of_wrong_shapes_and_dtypes_are_refused(change, message):
    """On construction, by name."""
    good = {"query_start_loc": torch.tensor([0, 1]), "state_indices": torch.tensor([0])}
    with pytest.raises(ValueError, match=message):
        Tables(**{**good, **change})


def test_a_state_is_found_by_the_number_of_tokens():
    """The first token after a block is in the next column; a request without tokens has no state."""
    blocks = torch.tensor([[5, 6, -1]]).expand(6, 3)
    tokens = torch.tensor([0, 1, 63, 64, 65, 128])
    assert state_slots(blocks, tokens, 64).tolist() == [-1, 5, 5, 5, 6, 6]


def test_another_caches_block_size_ends_behind_the_columns():
    """An error, and no read past the table."""
    with pytest.raises(ValueError, match=r"tokens\[1\]=128 end in column 7 of blocks of 16 tokens"):
        state_slots(torch.tensor([[5, 6], [7, 8]]), torch.tensor([1, 128]), 16)
