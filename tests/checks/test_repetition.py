"""Launches that are made again: what chance, scratch memory, streams and caches decide is found, and nothing else."""

from __future__ import annotations

import pytest
import torch
from repeated import verdicts

from gdn_verify.hosts.circumstances import CARD, PROCESSOR, filled_scratch

TURNS = sum(circumstance.times * circumstance.beside for circumstance in PROCESSOR)
on_a_card = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def test_a_healthy_path_is_never_accused() -> None:
    """All of its launches are compared."""
    tally, messages = verdicts("healthy", "fallback", "mixed", 6, "cpu")
    assert (tally["silent"], tally["compared"]) == (6, 6 * TURNS), messages


def test_an_order_that_changes_is_found() -> None:
    """One launch in three rounds another way; the sentence names the element."""
    tally, messages = verdicts("another_order", "fallback", "decode", 4, "cpu")
    assert tally["red"] >= 3
    assert any("repetition/again: o[" in message and "turn 2" in message for message in messages)


def test_scratch_that_is_trusted_is_found() -> None:
    """The wrapper reads what it did not write; in filled memory it always shows."""
    tally, messages = verdicts("scratch_trusted", "fallback", "decode", 4, "cpu")
    assert tally["red"] == 4
    assert any("repetition/in scratch memory full of NaN" in message for message in messages)


def test_what_a_launch_leaves_behind_is_found() -> None:
    """A path that adds to its own buffer is right once."""
    assert verdicts("grown_state", "fallback", "decode", 4, "cpu")[0]["red"] >= 3


def test_a_path_that_does_not_promise_bits_is_refused() -> None:
    """And says why."""
    tally, messages = verdicts("another_order", "fallback", "decode", 2, "cpu", promises_bits=False)
    assert tally["refused"] == 2
    assert "does not promise the same bits" in messages[0]


def test_filled_scratch_leaves_torch_as_it_was() -> None:
    """The setting is the process's."""
    with filled_scratch():
        assert torch.empty(3).isnan().all()
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()


@on_a_card
@pytest.mark.parametrize(("path", "kind"), [("fallback", "mixed"), ("fused-decode", "decode"), ("dispatch", "mixed")])
def test_a_healthy_path_is_never_accused_on_a_card(path: str, kind: str) -> None:
    """A hundred times, on other streams, in used memory, from empty caches."""
    tally, messages = verdicts("healthy", path, kind, 3, "cuda")
    turns = sum(circumstance.times * circumstance.beside for circumstance in CARD)
    assert (tally["silent"], tally["compared"]) == (3, 3 * turns), messages


@on_a_card
@pytest.mark.parametrize(
    ("defect", "circumstance"),
    [
        ("first_stream", "on another stream"),
        ("shared_scratch", "beside three others"),
        ("scratch_trusted", "in memory that "),
    ],
)
def test_a_defect_is_found_in_its_circumstance(defect: str, circumstance: str) -> None:
    """Nowhere else would it show."""
    tally, messages = verdicts(defect, "fused-decode", "decode", 4, "cuda")
    assert tally["red"] >= 3, messages
    assert any(f"repetition/{circumstance}" in message for message in messages)
