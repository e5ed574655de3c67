"""Drafts out of a known answer: of every length, mostly right, and nothing for a text that is not known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from gdn_verify.e2e.guide import Guide, guided

PROMPT, ANSWER = (7, 8, 9), tuple(range(20, 60))
GUIDE = Guide(((PROMPT, ANSWER),))


def test_guesses_are_what_follows_with_some_wrong_and_some_short() -> None:
    """So that some are accepted, and some are not."""
    lengths, wrong = set(), 0
    for place in range(1, 30):
        guesses = GUIDE.drafts(3, [*PROMPT, *ANSWER[:place]])
        lengths.add(len(guesses))
        wrong += guesses != list(ANSWER[place : place + len(guesses)])
    assert lengths == {0, 1, 2, 3}
    assert 3 < wrong < 15


def test_an_unknown_text_or_the_end_of_a_known_one_has_no_guess() -> None:
    """Nor has one of which nothing is generated yet."""
    assert GUIDE.drafts(3, [1, 2, 3, 4]) == []
    assert GUIDE.drafts(3, PROMPT) == []
    assert GUIDE.drafts(3, [*PROMPT, *ANSWER]) == []


def test_vllm_s_proposer_is_asked_where_there_is_no_guide() -> None:
    """With a guide only rows that have just been given a token are guessed for."""
    ids = np.array([[*PROMPT, *ANSWER[:4], 0, 0], [1, 1, 1, 0, 0, 0, 0, 0, 0]])
    known: list[Guide | None] = [None]
    proposing = guided(lambda *args, **more: [["own"]], lambda: known[0])
    assert proposing(SimpleNamespace(), 3, [[23], [1]], [7, 3], ids) == [["own"]]
    known[0] = GUIDE
    assert proposing(SimpleNamespace(), 3, [[23], []], [7, 3], ids, slot_mappings=None) == [[24, 25, 26], []]
