"""Two transcripts of one scenario, token by token: where they part, and how far apart they are in the same context.

Log-probabilities are compared only where both had seen the same tokens: up to the first that differs, or everywhere
where one was made to follow the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf, isnan

from gdn_verify.e2e.transcript import Request, Step, Transcript

LOOKED_AT = 5
"""Tokens of a step whose log-probabilities are compared: the likeliest of the baseline."""


@dataclass(frozen=True)
class Parting:
    """The first token of a request that differs: its step, both tokens, and by how much each side preferred its own."""

    request: int
    step: int
    tokens: tuple[int, int]
    margins: tuple[float, float]


@dataclass(frozen=True)
class Place:
    """A step of a request."""

    request: int
    step: int


def distance(one: Step, other: Step) -> float:
    """The largest difference of a log-probability among the likeliest tokens of `one`.

    A token that the other does not show has at most the least that it shows: then this is a lower bound. Infinite where
    either holds what is not a number, which compares with nothing.
    """
    if any(isnan(value) for step in (one, other) for value in step.logprobs.values()):
        return inf
    least = other.ranked[-1][1]
    looked = one.ranked[:LOOKED_AT]
    return max(
        abs(value - other.logprobs[token]) if token in other.logprobs else max(value - least, 0.0)
        for token, value in looked
    )


def partings(base: Transcript, other: Transcript) -> tuple[Parting, ...]:
    """The first differing token of each request that has one. Raises ValueError where the prompts are not the same."""
    return tuple(_partings(base, other))


def _partings(base: Transcript, other: Transcript) -> Iterator[Parting]:
    for number, (a, b) in enumerate(pairs(base, other)):
        step = common(a, b)
        if step < len(a.steps):
            here, there = a.steps[step], b.steps[step]
            yield Parting(number, step, (here.token, there.token), (here.margin, there.margin))


def pairs(base: Transcript, other: Transcript) -> Iterator[tuple[Request, Request]]:
    """The requests of both, side by side. Raises ValueError where they are not answers to the same prompts."""
    if [r.prompt for r in base.requests] != [r.prompt for r in other.requests]:
        raise ValueError("transcripts of different prompts cannot be compared; ask both for one scenario")
    yield from zip(base.requests, other.requests, strict=True)


def common(a: Request, b: Request) -> int:
    """How many tokens both generated alike, from the first on."""
    alike = (n for n, (x, y) in enumerate(zip(a.tokens, b.tokens, strict=True)) if x != y)
    return next(alike, len(a.steps))


def distances(base: Transcript, other: Transcript) -> dict[Place, float]:
    """How far apart each step is that both came to in the same context."""
    found: dict[Place, float] = {}
    for number, (a, b) in enumerate(pairs(base, other)):
        for step in range(min(common(a, b) + 1, len(a.steps))):
            found[Place(number, step)] = distance(a.steps[step], b.steps[step])
    return found


def equal_tokens(base: Transcript, other: Transcript) -> tuple[int, int]:
    """Tokens of common beginnings, and tokens in all."""
    return sum(common(a, b) for a, b in pairs(base, other)), base.generated
