"""Errors are told by where they are and by what right numbers they are like, and only by what is so."""

from __future__ import annotations

import numpy as np
import pytest

from gdn_verify.oracles.compose import Array
from gdn_verify.patterns import Mask, Place, looks, places, rounded_once

AXES = ("token", "value head")


def drawn(*shape: int) -> Array:
    return np.random.default_rng(3).standard_normal(shape)


def said(got: Array, want: Array, axes: tuple[str, ...] = AXES) -> list[str]:
    wrong: Mask = np.asarray((np.abs(got - want) > 1e-9).any(-1) | ~np.isfinite(got).all(-1))
    return list(looks(got, want, wrong, axes))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ((3,), "token 3"),
        ((0, 1, 2, 3, 4, 5, 6, 7), "every token"),
        ((5, 6, 7), "tokens from 5 on"),
        ((1, 2, 3), "tokens 1 to 3"),
        ((0, 3, 5), "tokens 0, 3, 5"),
        ((0, 1, 2, 3, 4, 6, 7), "7 of 8 tokens, the first 0"),
    ],
)
def test_places_have_short_names(wrong: tuple[int, ...], words: str) -> None:
    """One, all, the last, a range, a few, or how many."""
    assert str(Place("token", wrong, 8)) == words


def test_the_only_place_is_called_so() -> None:
    """A case that was made small has one token."""
    assert str(Place("token", (0,), 1)) == "the only token"


def test_wrong_places_are_told_axis_by_axis() -> None:
    """Each by the indices at which something is wrong."""
    wrong = np.zeros((6, 4), bool)
    wrong[2:, 1] = True
    assert [str(place) for place in places(wrong, AXES)] == ["tokens from 2 on", "value head 1"]


def test_numbers_that_are_not_finite_are_counted() -> None:
    """And nothing else is said of them."""
    want = drawn(2, 2, 4)
    got = want.copy()
    got[0, 1, :3] = np.nan
    assert said(got, want) == ["3 of 4 numbers not finite"]


def test_zeros_are_zeros() -> None:
    """Not a factor of what is right."""
    want = drawn(2, 2, 4)
    assert said(0 * want, want) == ["zeros"]


@pytest.mark.parametrize(("factor", "words"), [(-1.0, "the sign reversed"), (2.0, "2 times what is right")])
def test_factors_are_named(factor: float, words: str) -> None:
    """One factor for all that is wrong."""
    want = drawn(5, 3, 8)
    assert said(factor * want, want) == [words]


def test_numbers_of_another_place_are_recognised() -> None:
    """The value heads of one token each moved on by one."""
    want = drawn(5, 4, 8)
    got = want.copy()
    got[:, :3] = want[:, 1:]
    assert said(got, want) == ["what is right 1 value head further on"]


def test_a_transposed_state_is_recognised() -> None:
    """Square or not: the memory read in the other order."""
    want = drawn(2, 3, 4, 8)
    got = want.swapaxes(-1, -2).reshape(want.shape)
    assert said(got, want, ("state", "value head", "V")) == ["the state transposed"]


def test_a_loss_of_precision_is_told_from_a_mistake() -> None:
    """By the size of the error."""
    want = drawn(5, 3, 8)
    assert said(want * (1 + 1e-3 * drawn(5, 3, 8)), want)[0].startswith("a loss of precision: relative error")


def test_of_unrelated_numbers_nothing_is_said() -> None:
    """Silence is better than a guess."""
    want = drawn(5, 3, 8)
    assert said(want + drawn(5, 3, 8)[::-1], want) == []


def test_numbers_rounded_once_are_told_from_others() -> None:
    """They are of a 16-bit type, and as near as one rounding leaves them; not finite ones are no roundings."""
    want, spare = drawn(3, 8), np.full(3, 1e-6)
    half = want.astype(np.float16).astype(np.float64)
    assert rounded_once(half, want, spare)
    assert not rounded_once(want * (1 + 1e-4), want, spare)
    assert not rounded_once((want * (1 + 1e-3)).astype(np.float16).astype(np.float64), want, spare)
    assert not rounded_once(np.where(half > 1, np.inf, half), want, spare)
    wide = (np.float32(want).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32).astype(np.float64)
    assert rounded_once(wide, wide * (1 + 2.0**-10), spare)
