"""Lineages: whose state a slot holds, read off the rows; and moves, which copy a state between two launches."""

from __future__ import annotations

import pytest

from gdn_verify.cases.case import Batch, Case, Move, Row
from gdn_verify.cases.codec import CaseFile, dumps, loads
from gdn_verify.cases.contract import ContractError, DTypes, Geometry
from gdn_verify.cases.lineage import Lineage, Root, Segment, lineages

GEOMETRY = Geometry(1, 1, 8, 8, num_spec=2)
TABLE = (0, 1, 2)


def case(*batches: Batch) -> Case:
    return Case(GEOMETRY, DTypes(), 6, batches)


def admitted(tokens: int = 5, slot: int = 0) -> Batch:
    return Batch((Row(tokens, (slot,), fresh=True),))


def drafted(tokens: int = 3, accepted: int = 1, *moves: Move) -> Batch:
    return Batch((Row(tokens, TABLE, accepted=accepted),), moves=moves)


def test_a_fresh_row_begins_a_request() -> None:
    """Whatever the slot held before."""
    found = lineages(case(Batch((Row(2, (3,)), Row(4, (0,), fresh=True)))))
    assert found == {3: Lineage(Root(3, 3), (Segment(0, 0, 2),)), 0: Lineage(None, (Segment(0, 2, 4),))}


def test_each_column_of_a_draft_has_a_past_of_its_own() -> None:
    """The accepted count picks the one that is gone on with."""
    found = lineages(case(admitted(), drafted(), drafted(1, 2)))
    begin = Segment(0, 0, 5)
    assert found[0] == Lineage(None, (begin, Segment(1, 0, 2), Segment(2, 0, 1)))
    assert found[1] == Lineage(None, (begin, Segment(1, 0, 2)))
    assert found[2] == Lineage(None, (begin, Segment(1, 0, 3)))


def test_a_move_takes_the_past_along() -> None:
    """And what is moved afterwards goes on alone."""
    fork = Batch((Row(1, (4,)),), moves=(Move(TABLE, 4, accepted=2),))
    found = lineages(case(admitted(), drafted(), fork))
    assert found[4] == Lineage(None, (Segment(0, 0, 5), Segment(1, 0, 2), Segment(2, 0, 1)))
    assert found[0].tokens == 6


def test_a_row_may_read_elsewhere() -> None:
    """Its past is that of the slot that it reads."""
    found = lineages(case(admitted(), Batch((Row(2, (5,), read=0),))))
    assert found[5] == Lineage(None, (Segment(0, 0, 5), Segment(1, 0, 2)))


def test_a_draft_on_what_the_pool_held_has_its_conv_state_in_column_0() -> None:
    """Both slots of the start are part of the root."""
    assert lineages(case(drafted(1, 3)))[0].root == Root(2, 0, 2)


COMMIT = Move(TABLE, 0, accepted=3)


@pytest.mark.parametrize(
    "batches",
    [
        (admitted(), drafted(), Batch((Row(1, (0,)),), moves=(COMMIT,))),
        (admitted(), Batch((Row(1, (3,)),), moves=(Move((0,), 3),))),
        (admitted(), drafted(), Batch((Row(3, (3, 4, 5), accepted=1),), moves=(Move(TABLE, 3, accepted=2),))),
        (Batch((Row(1, (3,)),), moves=(Move((0,), 3), Move((3,), 1))),),
    ],
    ids=["a commit", "a copy", "a copy of a draft drafts on", "one after the other, from the pool"],
)
def test_legal_moves(batches: tuple[Batch, ...]) -> None:
    """A move reads what a row could, and leaves a plain state; a file keeps it."""
    made = case(*batches)
    assert loads(dumps(CaseFile(made))).case == made


@pytest.mark.parametrize(
    ("batches", "words"),
    [
        ((admitted(), drafted(2), Batch((Row(1, (0,)),), moves=(COMMIT,))), "counts among the 2 tokens"),
        ((admitted(), drafted(), Batch((Row(1, (4,)),), moves=(Move((1,), 4),))), "a commit, or column 0"),
        ((admitted(), Batch((Row(1, (0,)),), moves=(Move(TABLE, 3, accepted=2),))), "columns read come from one row"),
        ((admitted(), drafted(1, 1, Move((0,), 9))), "below the pool's 6 slots"),
        ((admitted(), drafted(1, 1, Move((0, 1), 3, accepted=2))), "the S=3 of a draft"),
        ((admitted(), drafted(), Batch((Row(1, TABLE, accepted=2),), moves=(COMMIT,))), "columns read come from"),
    ],
    ids=["rejected tokens", "a column alone", "no draft", "no such slot", "half a table", "counted twice"],
)
def test_illegal_moves(batches: tuple[Batch, ...], words: str) -> None:
    """A chain that no engine could mean is refused, not a failing kernel."""
    with pytest.raises(ContractError, match=words):
        case(*batches)


def test_a_move_moves_something() -> None:
    """To where the state is already, it would only hide a typing error."""
    with pytest.raises(ContractError, match="already"):
        Move((3,), 3)
