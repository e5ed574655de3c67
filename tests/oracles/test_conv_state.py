"""The conv slot before and after a launch, as the contract has it for plain and for spec rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdn_verify.oracles.stages import conv_history, next_conv_state

D = 2


def slot_of(columns: int, dtype: type = np.uint16) -> np.ndarray:
    """A slot whose element (d, c) is 100 d + c + 1."""
    return (100 * np.arange(D)[:, None] + np.arange(columns) + 1).astype(dtype)


def tokens(count: int, dtype: type = np.uint16) -> np.ndarray:
    """Raw inputs [count, D]; element (t, d) is 1000 (d + 1) + t."""
    return (1000 * (1 + np.arange(D)) + np.arange(count)[:, None]).astype(dtype)


@pytest.mark.parametrize("length", range(6))
@pytest.mark.parametrize("width", [1, 2, 4])
def test_a_plain_row_keeps_its_last_inputs(width, length):
    """Columns [0, W-1) hold the last W-1 inputs, older ones from before; spec columns keep their bytes."""
    slot = slot_of(width + 1)
    new = next_conv_state(slot, tokens(length), width)
    for d in range(D):
        seen = [*slot[d, : width - 1], *tokens(length)[:, d]]
        assert new[d].tolist() == [*seen[len(seen) - width + 1 :], *slot[d, width - 1 :]]


@pytest.mark.parametrize("length", [1, 2, 5])
def test_a_row_without_initial_state_starts_from_zeros(length):
    """What the free slot held does not matter, a NaN pattern included; spec columns still keep theirs."""
    width, slot = 4, np.full((D, 5), np.nan)
    new = next_conv_state(slot, tokens(length, float), width, has_initial_state=False)
    padded = [*[0.0] * (width - 1), *tokens(length, float)[:, 0]]
    assert new[0, : width - 1].tolist() == padded[1 - width :]
    assert np.isnan(new[:, width - 1 :]).all()
    assert not conv_history(slot, width, has_initial_state=False).any()


@pytest.mark.parametrize("accepted", [None, 1, 3])
@pytest.mark.parametrize("has_initial_state", [True, False])
def test_a_row_without_tokens_leaves_its_bytes(has_initial_state, accepted):
    """Whatever else is said of it; the result is a copy all the same."""
    slot = np.array([[np.nan, -0.0, np.inf, 1.0, 2.0]], dtype=np.float32)
    new = next_conv_state(slot, np.zeros((0, 1), np.float32), 4, has_initial_state, accepted)
    assert new.tobytes() == slot.tobytes()
    assert new is not slot


@given(st.integers(2, 5), st.integers(1, 4), st.data())
def test_a_spec_row_follows_the_contract(width, spec, data):
    """History [a-1, a+W-2); then old[a : a+W-2] ‖ x from column 0; the columns behind keep their bytes."""
    accepted, length = data.draw(st.integers(1, spec)), data.draw(st.integers(1, spec))
    slot = slot_of(width - 2 + spec)
    new = next_conv_state(slot, tokens(length), width, accepted=accepted)
    written = width - 2 + length
    for d in range(D):
        want = [*slot[d, accepted : accepted + width - 2], *tokens(length)[:, d], *slot[d, written:]]
        assert new[d].tolist() == want
    assert np.array_equal(conv_history(slot, width, accepted=accepted), slot[:, accepted - 1 : accepted + width - 2])


@given(st.integers(2, 5), st.integers(1, 4), st.data())
def test_acceptance_continues_the_accepted_stream(width, spec, data):
    """After a′ accepted tokens the next history is the W-1 inputs that end with the a′-th, at every launch.

    This holds launch after launch, with commits to a plain row in between: the state rules compose.
    """
    slot, accepted = slot_of(width - 2 + spec), 1
    stream = [*slot[0, : width - 1]]
    for _ in range(data.draw(st.integers(1, 4))):
        length = data.draw(st.integers(1, spec))
        x = data.draw(st.lists(st.integers(0, 60000), min_size=length, max_size=length))
        assert conv_history(slot, width, accepted=accepted)[0].tolist() == stream[1 - width :]
        slot = next_conv_state(slot, np.tile(np.array(x, np.uint16)[:, None], D), width, accepted=accepted)
        accepted = data.draw(st.integers(1, length))
        stream += x[:accepted]
        if data.draw(st.booleans()):
            slot[:, : width - 1] = slot[:, accepted - 1 : accepted + width - 2].copy()  # commit
            accepted = 1
            assert conv_history(slot, width)[0].tolist() == stream[1 - width :]


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.float16, np.float32])
def test_bit_patterns_survive(dtype):
    """Every dtype is copied exactly, signalling NaN patterns of narrow types too."""
    bits = np.uint16 if np.dtype(dtype).itemsize == 2 else np.uint32
    x = np.array([[0x7F81], [0x8000]], dtype=bits).view(dtype)
    new = next_conv_state(np.zeros((1, 3), dtype), x, 3)
    assert new.dtype == dtype
    assert new.view(bits)[0, :2].tolist() == [0x7F81, 0x8000]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"accepted": 0}, "accepted is 0, expected 1 to S = 3"),
        ({"accepted": 4}, "accepted is 4, expected 1 to S = 3"),
        ({"accepted": 1, "x": tokens(4)}, "x has 4 tokens, expected at most S = 3"),
        ({"x": tokens(2, float)}, "x is float64"),
        ({"x": tokens(2)[:, :1]}, r"expected uint16 \(any, 2\)"),
        ({"width": 8}, r"slot has shape \(2, 5\), expected \(any, at least 7\)"),
        ({"width": 1, "accepted": 1}, "width is 1, expected at least 2"),
    ],
)
def test_a_wrong_argument_is_named(change, message):
    """ValueError with the argument and what was expected."""
    with pytest.raises(ValueError, match=message):
        next_conv_state(**{"slot": slot_of(5), "x": tokens(2), "width": 4, **change})
