"""What an engine said: tokens of each request, and what it thought of the alternatives at each step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

SHOWN = 20
"""Alternatives that are kept of each step, the likeliest first."""


@dataclass(frozen=True)
class Step:
    """One generated token, and the log-probabilities of the likeliest ones before anything was forced."""

    token: int
    logprobs: Mapping[int, float]

    @cached_property
    def ranked(self) -> tuple[tuple[int, float], ...]:
        """(token, log-probability), the likeliest first; of equal ones the smaller token."""
        return tuple(sorted(self.logprobs.items(), key=lambda item: (-item[1], item[0])))

    @property
    def best(self) -> int:
        """The token that greedy sampling takes, or one of those that tie with it."""
        return self.ranked[0][0]

    @property
    def margin(self) -> float:
        """How far the likeliest token is ahead of the next, in log-probability."""
        return self.ranked[0][1] - self.ranked[1][1]


@dataclass(frozen=True)
class Request:
    """A prompt and what followed; `cached` tokens of it came from the prefix cache."""

    prompt: tuple[int, ...]
    steps: tuple[Step, ...]
    cached: int = 0

    @property
    def tokens(self) -> tuple[int, ...]:
        """What was generated."""
        return tuple(step.token for step in self.steps)


@dataclass(frozen=True)
class Transcript:
    """All requests of a scenario in order, and what the engine did on the way: events by name, with their counts.

    `events` are counted at the model runner: prompts split, one-token chunks, mixed batches, preemptions, … `problems`
    are what was wrong with the run itself: a core that was asked for and did not run. `raised`
    is what the core raised first; it then gave zeros. `seconds` is the time it
    took to generate.
    """

    requests: tuple[Request, ...]
    events: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    raised: str = ""
    seconds: float = 0.0

    @property
    def generated(self) -> int:
        """Tokens in all."""
        return sum(len(request.steps) for request in self.requests)

    @property
    def failure(self) -> str:
        """Why it counts for nothing: what its core raised, and what was wrong with the run; "" if it counts."""
        return "; ".join(filter(None, (self.raised, *self.problems)))
