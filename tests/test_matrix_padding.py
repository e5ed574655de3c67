"""What is observed of padded rows: in outputs, in slots of nobody, and in what becomes of the process."""

from __future__ import annotations

import pytest
from matrix_toys import AtPads, first_slot, ones, raising

from gdn_verify.cases.contract import Kind
from gdn_verify.hosts import HOSTS
from gdn_verify.matrix.cells import Cell, State
from gdn_verify.matrix.padding import PadsOf, observe, questions
from gdn_verify.paths import Path, find

CPU = HOSTS["cpu"]


def seen(path: Path, kind: Kind = Kind.DECODE, id: int = -1) -> Cell:
    found = observe(path, CPU, kind, id)
    assert found is not None
    return found.cell


@pytest.mark.parametrize("kind", [Kind.DECODE, Kind.PREFILL, Kind.SPEC])
def test_a_path_that_keeps_its_promise_agrees(kind: Kind) -> None:
    """And what it did is told in words."""
    cell = seen(find("fallback"), kind)
    assert cell.state is State.AGREES
    assert "out zeros" in cell.why
    assert "ssm_pool untouched, conv_pool untouched, other memory untouched" in cell.why


@pytest.mark.parametrize("kind", [Kind.DECODE, Kind.PREFILL, Kind.SPEC])
def test_an_output_that_is_written_is_not_what_is_declared(kind: Kind) -> None:
    """Observed beside declared."""
    cell = seen(AtPads("wrong", ones), kind)
    assert cell.state is State.DISAGREES
    assert cell.why.startswith("out written, declared zeros")


def test_a_slot_of_nobody_that_is_written_is_named() -> None:
    """Though no live row comes out wrong."""
    cell = seen(AtPads("wrong", first_slot))
    assert cell.state is State.DISAGREES
    assert "ssm_pool written: slot 0 of 4" in cell.why


def test_an_id_that_is_not_declared_is_told_and_judged_by_nobody() -> None:
    """Slot 0 is a slot like any other, to the fallback."""
    cell = seen(find("fallback"), id=0)
    assert cell.state is State.REFUSED
    assert cell.why.startswith("not declared; out written")
    assert "ssm_pool written: slot 0" in cell.why
    assert "conv_pool written: slot 0" in cell.why


def test_what_is_raised_is_what_was_seen() -> None:
    """A promise is not kept by raising."""
    cell = seen(AtPads("loud", raising))
    assert (cell.state, "raises IndexError: an id of nobody" in cell.why) == (State.DISAGREES, True)
    assert seen(AtPads("loud", raising), id=0).state is State.REFUSED


def test_the_death_of_a_worker_is_an_answer() -> None:
    """By itself, an id and a kind each."""
    question = PadsOf("fallback", "cpu", (Kind.DECODE,))
    singly = list(question.singly())
    assert [each.ids for each in singly] == [(-1,), (-7,), (0,)]
    (cell,) = singly[0].lost("…\nSIGSEGV").values()
    assert (cell.state, cell.why) == (State.DISAGREES, "ends its worker: SIGSEGV")
    (cell,) = singly[2].lost("SIGSEGV").values()
    assert cell.state is State.REFUSED


def test_dense_paths_have_no_slots_to_ask_for() -> None:
    """Nor rows of nobody."""
    assert questions([(find("transformers-recurrent"), "cpu")], list(Kind)) == []
