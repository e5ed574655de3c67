"""Contract: an access that is wrong is found, named and kept from doing harm; right kernels are not accused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gdn_verify.emulator.access import Access, Fault

Interpreted = Callable[..., Any]
RACES = {Fault.READ_AFTER_WRITE, Fault.WRITE_AFTER_READ, Fault.WRITE_AFTER_WRITE}


@pytest.fixture
def check(interpreted: Interpreted) -> Callable[..., list[Access]]:
    """Run a scenario of `hazards` in the interpreter's process."""
    return lambda scenario, *args: interpreted(f"hazards:{scenario}", *args)


def faults(accesses: list[Access]) -> list[Fault]:
    """What was found, by kind."""
    return [access.fault for access in accesses]


# -- bounds ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", [False, True])
def test_a_right_kernel_is_not_accused(check, inside):
    """Rows read and written in place through one pointer, also within a larger allocation."""
    assert check("rows", [0, 2, 3], 3, inside) == []


@pytest.mark.parametrize("row", [-1, 4])
@pytest.mark.parametrize("inside", [False, True])
def test_a_row_beyond_the_view_is_found_on_both_sides(check, row, inside):
    """Whether memory of the same allocation lies there or not; one run tells of the load and of the store."""
    read, write = check("rows", [0, row, 3], 3, inside)
    assert (read.fault, write.fault) == (Fault.READ_OUTSIDE, Fault.WRITE_OUTSIDE)
    for access in (read, write):
        assert (access.argument, access.index, access.shape) == ("pool", (row, 0), (4, 32))
        assert (access.kernel, access.program, access.lanes) == ("update_rows", (1, 0, 0), 32)
    assert read.line.startswith("hazards.py:")
    assert read.line.endswith("in update_rows `value = tl.load(pool + row * stride + column)`")


def test_a_short_output_is_found(check):
    """Only the store that does not fit."""
    (access,) = check("rows", [0, 1, 2], 2)
    assert (access.fault, access.argument, access.index) == (Fault.WRITE_OUTSIDE, "out", (2, 0))


@pytest.mark.parametrize("bounded", [False, True])
def test_blocks_of_block_pointers_are_checked(check, bounded):
    """A block that is larger than its tensor is right where its bounds are checked, and only there."""
    outside = [] if bounded else [Fault.READ_OUTSIDE, Fault.WRITE_OUTSIDE]
    assert faults(check("block_copied", bounded)) == outside


def test_holes_of_a_view_are_outside(check):
    """Columns behind those that a view has, between two of its rows."""
    accesses = check("rows", [0, 1], 2, True, 16)
    assert faults(accesses) == [Fault.READ_OUTSIDE, Fault.WRITE_OUTSIDE]
    assert {(a.argument, a.index[1], a.lanes, a.programs) for a in accesses} == {("pool", 16, 32, 2)}


def test_what_lies_beside_a_view_is_not_damaged(check):
    """Lanes outside are masked, the others are not."""
    assert check("damage_is_kept_out")


def test_an_offset_that_wraps_at_32_bits_is_found(check):
    """Slots that seem 2³¹ elements apart need no such memory; an offset in 64 bits reaches them, and torch does."""
    accesses = check("rows_in_int32")
    assert faults(accesses) == [Fault.READ_OUTSIDE, Fault.WRITE_OUTSIDE]
    assert check("stretched_rows_are_right") == ([], True)


# -- values that nobody wrote --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prepare", "lanes"),
    [("empty", 64), ("new_empty", 64), ("empty_like", 64), ("half by a kernel", 32), ("zeros", 0), ("by torch", 0),
     ("by torch, later", 0), ("by a kernel", 0)],
)  # fmt: skip
def test_scratch_holds_nothing_until_it_is_written(check, prepare, lanes):
    """By a kernel, element by element, or by torch."""
    accesses = check("copied", prepare)
    assert [(a.fault, a.argument, a.lanes) for a in accesses] == [(Fault.UNINITIALISED, "source", lanes)] * bool(lanes)


@pytest.mark.parametrize(
    ("how", "use"),
    [
        ("dropped", None),
        ("masked", None),
        ("moved", None),
        ("rows of a product", None),
        ("times zero", "stored to target"),
        ("summed", "stored to target"),
        ("an address", "decides what is accessed"),
        ("a branch", "decides a branch"),
    ],
)
def test_undefined_values_may_be_read_and_dropped(check, how, use):
    """A block's second half holds nothing: found where it matters, at the line that loaded it."""
    accesses = check("undefined", how)
    assert [access.fault for access in accesses] == [Fault.UNINITIALISED] * (use is not None)
    if use is not None:
        assert use in accesses[0].other
        assert (accesses[0].argument, accesses[0].index) == ("source", (16,))
        assert accesses[0].line.endswith("`value = tl.load(source + lane)`")


def test_what_is_known_of_slots_is_heeded(check):
    """Slot 1 holds nothing, slot 2 is not to be written either, slot 3 is anybody's: no read and no race counts."""
    assert check("free_slots", [0]) == []
    assert faults(check("free_slots", [1])) == [Fault.UNINITIALISED]
    assert faults(check("free_slots", [2])) == [Fault.UNINITIALISED, Fault.SEALED]
    assert check("free_slots", [3, 3]) == []


def test_elements_that_no_kernel_wrote_are_counted(check):
    """Of those that had to be written."""
    assert check("unwritten", 4) is None
    access = check("unwritten", 3)
    assert (access.fault, access.index, access.lanes) == (Fault.UNWRITTEN, (48,), 15)


# -- programs against each other -----------------------------------------------------------------------


def test_two_programs_of_one_row_race(check):
    """Both read and write it; each finding names the other program."""
    accesses = check("rows", [1, 1, 2])
    assert set(faults(accesses)) == RACES
    assert all("against program (0, 0, 0) at hazards.py" in access.other for access in accesses)


def test_a_shift_in_place_races_at_the_seams(check):
    """Write after read and read after write, whatever order the programs run in."""
    assert set(faults(check("shifted", 4))) >= {Fault.WRITE_AFTER_READ, Fault.READ_AFTER_WRITE}


def test_atomics_do_not_race_with_each_other(check):
    """But with a plain load they do."""
    assert check("counted", False) == []
    assert set(faults(check("counted", True))) <= RACES
    assert check("counted", True)


@pytest.mark.parametrize("order", ["acquire", "release", "relaxed"])
def test_a_counter_orders_stores_if_it_acquires_and_releases(check, order):
    """The last program may read what all have stored: not with half of the order."""
    assert check("joined", "acq_rel") == []
    accesses = check("joined", order)
    assert [(a.fault, a.argument, a.lanes) for a in accesses] == [(Fault.READ_AFTER_WRITE, "partial", 48)]


def test_a_release_speaks_for_stores_before_a_barrier_only(check):
    """One thread takes the ticket; without a barrier it knows of no other's stores."""
    assert faults(check("joined", "acq_rel", False)) == [Fault.READ_AFTER_WRITE]


def test_a_relaxed_counter_orders_reads_before_a_write(check):
    """The last of four may overwrite what all have read; of six, two others have yet to read."""
    assert check("cleared", 4) == []
    assert faults(check("cleared", 6)) == [Fault.READ_AFTER_WRITE]


def test_launches_are_ordered(check):
    """What an earlier launch did races with nothing."""
    assert check("over_two_launches") == []


# -- lanes of one program --------------------------------------------------------------------------------


def test_two_lanes_of_one_store_are_found(check):
    """Where they write one element; no barrier could help."""
    assert [(a.fault, a.lanes) for a in check("in_one_program", "halved")] == [(Fault.TWO_LANES, 8)]


def test_a_tile_that_is_updated_in_place_needs_no_barrier(check):
    """Each lane reads and writes its own element."""
    assert check("in_one_program", "increment") == []


def test_a_branch_on_a_sum_waits_for_what_was_summed(check):
    """As good as a barrier between those loads and the stores in the branch."""
    assert check("in_one_program", "clear_if_positive") == []


@pytest.mark.parametrize("kernel", ["slide_window", "scatter_then_gather", "clear_after_sum"])
def test_a_missing_barrier_is_found(check, kernel):
    """A load and a later store, or a store and a later load, of one element by lanes of different tiles or places.

    A barrier between them is enough, and so is a store that waits for a sum of all that was loaded.
    """
    assert faults(check("in_one_program", kernel, False)) == [Fault.HAZARD]
    assert check("in_one_program", kernel, True) == []


# -- around a check -----------------------------------------------------------------------------------


def test_the_interpreter_is_as_before_afterwards(interpreted):
    """Also after a kernel has raised; a check within a check is refused, and so is one without the interpreter."""
    assert interpreted("hazards:leaves_no_trace") == []


def test_it_says_that_it_needs_the_interpreter(python):
    """In a process where kernels would be compiled."""
    script = "from gdn_verify.emulator.memory_check import checked\nwith checked():\n    pass\n"
    assert "EmulatorError: checked() needs install() first" in python(script).stderr


def test_a_finding_reads_as_a_sentence(check):
    """Place, argument, program, the other party, how much, and the line."""
    (access,) = check("joined", "relaxed")
    number = int(access.line.split(":")[1].split()[0])
    assert str(access) == (
        "race, read after write: partial[16] of shape [64] by program (0, 0, 0) of last_sums, against program "
        f"(1, 0, 0) at hazards.py:{number - 4} in last_sums; 48 lanes of 1 program, "
        f"at hazards.py:{number} in last_sums `whole = tl.load(partial + tl.arange(0, N * B))`"
    )
