"""Tables in memory that is allocated once: the same views for every launch of a size, and nothing left in them."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from gdn_verify.kernels.buffers import TableBuffers
from gdn_verify.kernels.rows import Tables
from gdn_verify.kernels.tables import Row, build_tables

DRAFT, PLAIN, FRESH, ELSEWHERE = (
    Row(2, (5, 6), accepted=2),
    Row(1, (7,)),
    Row(3, (8,), fresh=True),
    Row(1, (3,), None, False, 4),
)
NAMES = [field.name for field in fields(Tables)]


def same(a: Tables, b: Tables) -> bool:
    pairs = [(getattr(a, name), getattr(b, name)) for name in NAMES]
    return all(x is y is None or (x.dtype == y.dtype and torch.equal(x, y)) for x, y in pairs)


@pytest.mark.parametrize("rows", [(), (PLAIN,), (DRAFT, PLAIN), (FRESH, PLAIN, DRAFT)], ids=len)
@pytest.mark.parametrize("pad_to", [None, 3, 5])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_what_is_filled_is_what_is_built(rows, pad_to, dtype):
    """Whatever stood there: a full launch of other rows."""
    buffers = TableBuffers(5, width=2, pad_slot_id=0, dtype=dtype)
    buffers.fill([Row(2, (10 + n, 20 + n), accepted=2, fresh=True) for n in range(5)])
    want = build_tables(rows, width=2, pad_to=pad_to, pad_slot_id=0, dtype=dtype)
    assert same(buffers.fill(rows, pad_to=pad_to), want)


def test_views_of_a_size_are_the_same_memory():
    """So that a graph which was captured on the first ones reads what is filled later."""
    buffers = TableBuffers(4, width=2, reads=True)
    captured = buffers.fill([DRAFT, ELSEWHERE], pad_to=4)
    assert captured.read_indices is not None
    assert captured.read_indices.tolist() == [5, 4, -1, -1]
    later = buffers.fill([FRESH], pad_to=4)
    for name in NAMES:
        assert getattr(captured, name).data_ptr() == getattr(later, name).data_ptr()
    assert same(captured, later)
    assert later.read_indices is not None
    assert later.read_indices.tolist() == [8, -1, -1, -1]


def test_a_launch_of_fewer_rows_is_the_beginning_of_the_buffers():
    """Graphs of several sizes share them; the rows behind are not theirs."""
    buffers = TableBuffers(4)
    large, small = buffers.fill([PLAIN] * 4), buffers.fill([FRESH], pad_to=2)
    assert small.state_indices.tolist() == [8, -1]
    assert small.state_indices.data_ptr() == large.state_indices.data_ptr()


@pytest.mark.parametrize(
    ("rows", "pad_to", "message"),
    [
        ([PLAIN] * 3, None, "max_rows=2 is less than the 3 rows wanted"),
        ([PLAIN], 3, "max_rows=2 is less than the 3 rows wanted"),
        ([PLAIN, DRAFT], None, "width=None: row 1 is speculative"),
        ([ELSEWHERE], None, "reads=False: row 0 reads slot 4"),
        ([PLAIN] * 2, 1, "pad_to=1"),
    ],
)
def test_rows_that_do_not_fit_are_refused(rows, pad_to, message):
    """By what is wrong, and with what to change; a row that reads in place needs no table for that."""
    buffers = TableBuffers(2)
    with pytest.raises(ValueError, match=message):
        buffers.fill(rows, pad_to=pad_to)
    assert buffers.fill([Row(1, (3,), read_slot=3)]).read_indices is None
