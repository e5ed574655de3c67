"""What `test_on_gpu` asks, asked in the interpreter, small: so that on a card only the card can fail it."""

from __future__ import annotations

from unittest.mock import patch

import pytest

from . import bodies
from .families import SPLIT, STAGED
from .problems import Problem, one_each

pytest.importorskip("triton")
SMALL = Problem(rows=one_each(3, 1, 5), H=1, K=4, V=4, packing="interleaved")
SOME = [("decode", SPLIT), ("spec", "4 splits"), ("two-launch", STAGED)]


@pytest.mark.parametrize(("kernel", "family"), SOME)
def test_repeats(interpreted, kernel, family):
    """From the same bits to the same bits."""
    interpreted(bodies.repeated, kernel, bodies.sized(kernel, SMALL), family, "cpu", 2)


@pytest.mark.parametrize(("kernel", "family"), [*SOME, *bodies.ROUTES])
def test_replays(interpreted, kernel, family):
    """With fewer rows each time."""
    interpreted(bodies.replayed, kernel, bodies.sized(kernel, SMALL), family, "cpu")


def test_replays_without_offsets(interpreted):
    """Rows that are gone have a token and no slot."""
    interpreted(bodies.replayed, "decode", SMALL, SPLIT, "cpu")


def at_once(shared: bool) -> None:
    """In the interpreter's process."""
    bodies.at_once(SMALL, SPLIT, "cpu", shared=shared, count=2, rounds=1)


@pytest.mark.parametrize("shared", [True, False])
def test_streams(interpreted, shared):
    """Two of them, taking turns."""
    interpreted(at_once, shared)


def far_away(kernel: str, family: str) -> None:
    """In the interpreter's process."""
    bodies.far_away(kernel, bodies.sized(kernel, SMALL), family, "cpu", slots=40)


def many_rows(kernel: str, family: str) -> None:
    """In the interpreter's process."""
    bodies.many_rows(kernel, SMALL, family, "cpu", rows=8, at_a_time=3)


@pytest.mark.parametrize(("kernel", "family"), SOME[:2])
def test_far_slots_and_many_rows(interpreted, kernel, family):
    """Not so far, not so many."""
    interpreted(far_away, kernel, family)
    interpreted(many_rows, kernel, family)


@pytest.mark.parametrize(("kernel", "family"), SOME)
def test_sanitizer_launches(interpreted, kernel, family):
    """They are legal, and right."""
    interpreted(bodies.sanitized, kernel, family, "cpu")


def said_of(launch, body, *args, **named) -> str | None:
    """In the interpreter's process: what `body` says of kernels that are launched like this."""
    with patch.object(bodies, "launch", launch):
        try:
            body("decode", SMALL, SPLIT, "cpu", *args, **named)
        except AssertionError as error:
            return str(error)
    return None


def defective_repeat() -> str | None:
    """The second run differs in one bit."""
    right, calls = bodies.launch, []

    def launch(problem, on, family):
        right(problem, on, family)
        calls.append(None)
        if len(calls) == 2:
            on.pool.view[3, 0, 0, 0] *= 1 + 2**-23

    return said_of(launch, bodies.repeated, 2)


def test_one_bit_is_enough(interpreted):
    """A repeat that differs in the last bit of one number is found."""
    assert interpreted(defective_repeat) == "pool: repeat 0 differs"


def defective_large_launch() -> str | None:
    """A row beyond the fifth is forgotten."""
    right = bodies.launch

    def launch(problem, on, family):
        before = on.copy()
        right(problem, on, family)
        if on.tables.rows > 5:
            on.output.view[5].copy_(before.output.view[5])

    return said_of(launch, bodies.many_rows, rows=8, at_a_time=3)


def test_a_forgotten_row_of_many_is_found(interpreted):
    """By launches of a few."""
    assert interpreted(defective_large_launch) == "output: 8 rows in one launch"


def no_launch() -> str | None:
    """Nothing is done at all."""
    return said_of(lambda problem, on, family: None, bodies.many_rows, rows=8, at_a_time=3)


def test_many_rows_that_are_not_computed_are_found(interpreted):
    """Many and few agree then."""
    assert str(interpreted(no_launch)).startswith("nothing was written for a live row")
