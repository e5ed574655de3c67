"""Drafts out of a known answer: of every length, mostly right, and nothing for a text that is not known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch

from gdn_verify.e2e.guide import Guide, exchanged, guided

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


def test_drafts_that_are_short_are_filled_up_with_wrong_ones() -> None:
    """A layer that drafts always has as many; a text that is not known, or is at its end, has none that come true."""
    for length in range(len(PROMPT) + 1, len(PROMPT) + 30):
        given = GUIDE.drafts(3, [*PROMPT, *ANSWER[: length - len(PROMPT)]])
        full = GUIDE.full_drafts(3, PROMPT, length)
        assert len(full) == 3
        assert full[: len(given)] == given
        due = ANSWER[length - len(PROMPT) :]
        assert all(token != right for token, right in zip(full[len(given) :], due[len(given) :], strict=False))
    assert GUIDE.full_drafts(3, (1, 1), 5) == [0, 0, 0]
    assert GUIDE.full_drafts(3, PROMPT, len(PROMPT) + len(ANSWER)) == [0, 0, 0]


def test_what_the_model_s_own_layer_drafts_makes_way_for_the_guide_s() -> None:
    """By each row's length once what was kept of a step is there; without a guide, or of lists, nothing is changed."""
    ids = np.array([[*PROMPT, *ANSWER[:4], 0, 0], [1, 1, 1, 0, 0, 0, 0, 0, 0]])
    batch = SimpleNamespace(num_tokens_no_spec=[7, 3], num_prompt_tokens=[3, 3], token_ids_cpu=ids)
    runner, sampled = SimpleNamespace(input_batch=batch), torch.tensor([[24, 25, -1], [5, -1, -1]])
    known: list[Guide | None] = [None]

    def proposed(own: object) -> object:
        return exchanged(lambda *args: own, lambda: known[0])(runner, None, sampled)

    own = torch.tensor([[9, 9], [9, 9]])
    assert proposed(own) is own
    known[0] = GUIDE
    assert proposed([[9]]) == [[9]]
    made = proposed(own.clone())
    assert isinstance(made, torch.Tensor)
    assert made.tolist() == [GUIDE.full_drafts(2, PROMPT, 9), [0, 0]]
