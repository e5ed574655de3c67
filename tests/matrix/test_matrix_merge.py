"""Merging: machines stand beside each other, newer cells replace older ones, and what contradicts itself is said."""

from __future__ import annotations

from gdn_verify.matrix.cells import Aspect, Cell, Key, Matrix, Row, Run, State
from gdn_verify.matrix.merge import merged

KIND, OTHER = Key(Aspect.KIND, "decode"), Key(Aspect.KIND, "prefill")
AGREES, WRONG = Cell(State.AGREES, 5), Cell(State.DISAGREES, 5, 1)


def made(date: str, cells: dict[Key, Cell] | None = None, **fields: str) -> Matrix:
    place = {"path": "mine", "span": "delta", "host": "cuda", "version": "1.0", "device": "H100", **fields}
    return Matrix((Row(**place, date=date, cells=cells or {}),), (Run(date, "gdn-verify matrix"),))


def missing(date: str, why: str, host: str = "cuda") -> Matrix:
    return Matrix((Row("mine", "delta", host, date=date, missing=why),))


def test_two_machines_stand_beside_each_other() -> None:
    """With the runs of both, in order of time."""
    both = merged([made("2", {KIND: AGREES}, device="H200"), made("1", {KIND: AGREES})])
    assert [row.device for row in both.rows] == ["H100", "H200"]
    assert [run.date for run in both.runs] == ["1", "2"]
    assert both.conflicts == ()


def test_another_version_is_another_row() -> None:
    """What was mended does not hide what was wrong."""
    both = merged([made("1", {KIND: WRONG}), made("2", {KIND: AGREES}, version="1.1")])
    assert [row.version for row in both.rows] == ["1.0", "1.1"]
    assert not both.ok


def test_the_newer_cell_wins_whatever_the_order_and_the_contradiction_is_said() -> None:
    """By cell, so that a run of one kind does not wipe out another's."""
    older, newer = made("1", {KIND: AGREES, OTHER: AGREES}), made("2", {KIND: WRONG})
    for both in (merged([older, newer]), merged([newer, older])):
        (row,) = both.rows
        assert row.cells == {KIND: WRONG, OTHER: AGREES}
        assert both.conflicts == ("mine 1.0 on cuda, H100: kind decode: disagrees on 2, agrees on 1",)


def test_a_cell_that_is_reached_later_contradicts_nothing() -> None:
    """Not reached is no opinion."""
    both = merged([made("1", {KIND: Cell(State.UNREACHED)}), made("2", {KIND: AGREES})])
    assert both.conflicts == ()
    assert both.rows[0].cells[KIND] == AGREES


def test_what_is_missing_here_and_ran_there_is_not_missing() -> None:
    """But on another host it is."""
    both = merged([missing("3", "no card"), made("1", {KIND: AGREES}), missing("2", "no chip", host="rocm")])
    assert [(row.host, row.missing) for row in both.rows] == [("cuda", ""), ("rocm", "no chip")]


def test_what_is_missing_everywhere_stands_once() -> None:
    """With the newest reason."""
    both = merged([missing("1", "not installed"), missing("2", "no card")])
    assert [row.missing for row in both.rows] == ["no card"]


def test_merging_again_changes_nothing() -> None:
    """A merged file may be merged on."""
    once = merged([made("1", {KIND: AGREES}), made("2", {KIND: WRONG})])
    assert merged([once]) == once
    assert merged([once, once]) == once
