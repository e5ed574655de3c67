"""Drafts that are partly right: guesses out of what a request is known to say, some too short and some wrong.

A tiny model with random weights does not repeat itself, so n-grams that are looked up hardly ever come true, and then
no state of an accepted draft is ever gone on from. The engine's proposer is asked all the same where there is no guide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Tokens = tuple[int, ...]
WRONG_EVERY = 3
"""One draft in so many has a wrong token."""


@dataclass(frozen=True)
class Guide:
    """What follows each prompt: (prompt, continuation)."""

    known: tuple[tuple[Tokens, Tokens], ...]

    def drafts(self, most: int, text: Sequence[int]) -> list[int]:
        """Up to `most` guesses of what follows `text`; the place decides how many, and which is wrong."""
        for prompt, continuation in self.known:
            place = len(text) - len(prompt)
            if place > 0 and tuple(text[: len(prompt)]) == prompt:
                turn = place + len(prompt)
                count = turn % (most + 1)
                guesses = list(continuation[place : place + count])
                if guesses and turn % WRONG_EVERY == 0:
                    guesses[turn % len(guesses)] ^= 1
                return guesses
        return []

    def full_drafts(self, most: int, prompt: Sequence[int], length: int) -> list[int]:
        """Exactly `most` guesses of what follows the `length` tokens of a text that begins with `prompt`: those of
        `drafts`, filled up with wrong ones. Of a text that is not known, zeros, which no text has."""
        continuation = next((said for known, said in self.known if known == tuple(prompt)), ())
        place = length - len(prompt)
        guesses = self.drafts(most, (*prompt, *continuation[:place]))
        wrong = [token ^ 1 for token in continuation[place + len(guesses) : place + most]]
        return [*guesses, *wrong, *[0] * most][:most]


def guided(
    propose: Callable[..., list[list[int]]], guide: Callable[[], Guide | None]
) -> Callable[..., list[list[int]]]:
    """vLLM's `NgramProposer.propose`, or the guide's drafts where there is one."""

    def proposing(drafter: Any, most: int, sampled: Any, counts: Any, ids: Any, **more: Any) -> list[list[int]]:
        known = guide()
        if known is None:
            return propose(drafter, most, sampled, counts, ids, **more)
        return [
            known.drafts(most, ids[row, : counts[row]].tolist()) if len(new) else [] for row, new in enumerate(sampled)
        ]

    return proposing


def exchanged(propose: Callable[..., Any], guide: Callable[[], Guide | None]) -> Callable[..., Any]:
    """vLLM's `GPUModelRunner.propose_draft_token_ids`: the model's own layer drafts, and of each draft the guide's is
    taken where there is one. Lists, as of n-grams, are let be (`guided`)."""

    def proposing(runner: Any, scheduled: Any, sampled: Any, *args: Any, **more: Any) -> Any:
        made, known = propose(runner, scheduled, sampled, *args, **more), guide()
        if known is None or isinstance(made, list):
            return made
        batch = runner.input_batch
        for row, tokens in enumerate(sampled.tolist()):
            before, prompt = int(batch.num_tokens_no_spec[row]), int(batch.num_prompt_tokens[row])
            length = before + sum(token >= 0 for token in tokens)
            ids = batch.token_ids_cpu[row, :prompt].tolist()
            made[row] = made.new_tensor(known.full_drafts(made.shape[1], ids, length))
        return made

    return proposing
