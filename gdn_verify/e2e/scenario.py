"""What is asked of an engine: its settings, and rounds of prompts, one `generate` after the other.

Rounds after the first find slots that other requests have used. Prompts are drawn from a seed, so that a healthy pair
can be asked again of other ones.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

FIRST_TOKEN = 2
"""0 ends a text and 1 fills one up: no prompt has them."""


@dataclass(frozen=True)
class Settings:
    """How an engine is set up; two variants are compared in one and the same.

    `budget` is how many tokens a step takes at most: smaller ones cut prompts. `blocks` is the size of the cache, 0 for
    what fits: a tiny model's request takes one block for each GDN layer, and one for every few hundred tokens of
    attention. `drafts` are drafts of so many tokens, looked up by n-grams, or with `mtp` made by a layer of the model's
    own. `seam` is the platform whose way layers go: a CPU can go a GPU's, as far as the cores are this suite's.
    `options` are more arguments of vLLM's `LLM`, in JSON, which go before all of these.
    """

    dtype: str = "float32"
    budget: int = 64
    seats: int = 8
    length: int = 1024
    prefix_cache: bool = False
    blocks: int = 40
    drafts: int = 0
    mtp: bool = False
    seam: str = "cpu"
    options: str = ""

    @property
    def given(self) -> Mapping[str, Any]:
        """`options` as arguments. Raises ValueError where they are none."""
        made = json.loads(self.options or "{}")
        if not isinstance(made, dict):
            raise ValueError(f"options={self.options!r} is no JSON object of arguments of vLLM's LLM")
        return made


@dataclass(frozen=True)
class Round:
    """One `generate`: lengths of prompts, how many of each one's tokens are those of a prefix shared by the round,
    the length of a phrase that prompts repeat (0: none), and the tokens that each generates."""

    lengths: tuple[int, ...]
    generate: int = 12
    shared: int = 0
    phrase: int = 0


@dataclass(frozen=True)
class Scenario:
    """Rounds on an engine of these settings. `expects` are events without which it has shown nothing.

    `most` is how many requests of a round are asked at once, 0 for all. `given` are prompts of somebody's own, round by
    round.
    """

    name: str
    rounds: tuple[Round, ...]
    settings: Settings = Settings()
    expects: tuple[str, ...] = ()
    seed: int = 11
    most: int = 0
    given: tuple[tuple[tuple[int, ...], ...], ...] = ()

    @property
    def forcible(self) -> bool:
        """Whether an engine can be made to follow given tokens: not where it verifies drafts."""
        return self.settings.drafts == 0

    def prompts(self, vocabulary: int) -> tuple[tuple[tuple[int, ...], ...], ...]:
        """Tokens of each round's prompts."""
        return self.given or tuple(self._round(number, asked, vocabulary) for number, asked in enumerate(self.rounds))

    def _round(self, number: int, asked: Round, vocabulary: int) -> tuple[tuple[int, ...], ...]:
        # Prompts of a prefix cache share it between rounds; all others are their round's own.
        shared = _tokens(random.Random(f"{self.seed}/shared"), asked.shared, vocabulary)
        source = random.Random(f"{self.seed}/{number}")
        phrase = _tokens(source, asked.phrase, vocabulary)
        made = []
        for length in asked.lengths:
            own = _tokens(source, length - asked.shared, vocabulary)
            made.append((*shared, *(_repeated(phrase, length, source, vocabulary) if phrase else own)))
        return tuple(made)


def _tokens(source: random.Random, count: int, vocabulary: int) -> tuple[int, ...]:
    return tuple(source.randrange(FIRST_TOKEN, vocabulary) for _ in range(count))


def _repeated(phrase: tuple[int, ...], length: int, source: random.Random, vocabulary: int) -> tuple[int, ...]:
    """A first token of its own, then the phrase again and again: text in which n-grams come back."""
    return (*_tokens(source, 1, vocabulary), *(phrase * (length // len(phrase) + 1)))[:length]


CHUNKED = Scenario(
    "chunked",
    (
        Round((1, 5, 17, 65, 130, 33)),
        Round((129, 2, 64, 40, 1, 7)),
        Round((700, 1, 66, 3), generate=8),
    ),
    expects=("split prompts", "one-token chunks", "one-token first chunks", "mixed batches", "recycled slots"),
)
"""Prompts cut at 64 tokens beside decode steps, in batches that mix, over slots that others have used."""
MIXED = replace(CHUNKED, name="mixed", rounds=CHUNKED.rounds[:2], expects=("split prompts", "mixed batches"))
"""The same without the longest prompt."""
SEEDED = Scenario(
    "seeded", (Round((1, 5, 17, 70), generate=6), Round((65, 2, 9, 1, 3), generate=6)), expects=CHUNKED.expects
)
"""The like in little, for the many runs that seeded faults take."""
PREFIX = Scenario(
    "prefix",
    (Round((401, 405), shared=400, generate=8), Round((401, 465, 430), shared=400, generate=8)),
    Settings(budget=512, prefix_cache=True),
    expects=("prefix hits", "split prompts"),
)
"""Requests that begin with 400 tokens of others, of which the engine copies the state behind the first 384."""
PREEMPTION = Scenario(
    "preemption",
    (Round((380, 378, 30), generate=12), Round((376, 380, 5), generate=16)),
    Settings(blocks=9),
    expects=("preemptions", "recycled slots"),
)
"""A cache in which two requests find no room to grow: one makes way, and begins anew."""
NGRAM = Scenario(
    "ngram",
    (Round((40, 65, 18, 33, 1), generate=24, phrase=6), Round((64, 20, 5), generate=16, phrase=4)),
    Settings(drafts=3, blocks=80),
    expects=("drafts", "drafts accepted", "short drafts"),
)
"""Drafts of up to three tokens, looked up in texts that repeat themselves."""
MTP = Scenario(
    "mtp",
    (Round((40, 65, 18, 33, 1), generate=24), Round((64, 20, 5), generate=16)),
    Settings(drafts=2, mtp=True, blocks=120),
    expects=("drafts", "drafts accepted", "turns of the drafter"),
)
"""Two drafts a step by the model's own layer, which runs each time; what it says makes way for what is partly right."""
BRIEF = Scenario("brief", (Round((1, 37, 70), generate=6),), expects=("split prompts", "mixed batches"))
"""Little enough for kernels in an interpreter."""

SCENARIOS: Mapping[str, Scenario] = {
    each.name: each for each in (CHUNKED, MIXED, SEEDED, PREFIX, PREEMPTION, NGRAM, MTP, BRIEF)
}


def seeded(scenario: Scenario, seed: int) -> Scenario:
    """The scenario with other prompts of the same lengths."""
    return replace(scenario, seed=seed)


def in_type(scenario: Scenario, dtype: str) -> Scenario:
    """The scenario on a model of that type."""
    return replace(scenario, settings=replace(scenario.settings, dtype=dtype))


def by_way_of(scenario: Scenario, seam: str) -> Scenario:
    """The scenario on layers that go the way of another platform."""
    return replace(scenario, settings=replace(scenario.settings, seam=seam))


def alone(scenario: Scenario) -> Scenario:
    """The scenario with its requests asked one by one."""
    return cut(scenario, 1)


def cut(scenario: Scenario, size: int) -> Scenario:
    """The scenario in rounds of at most so many requests, in the same order."""
    return replace(scenario, most=size)
