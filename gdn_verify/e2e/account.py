"""What a model runner is about to do, by its scheduler's own numbers: apart from the tables that are made of them.

A `Turn` is one step of the engine. The layers' launches are held to it: how many rows of what kind a core must have
been given, and which tokens are behind each state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gdn_verify.cases.case import Row
from gdn_verify.cases.contract import Kind


@dataclass(frozen=True)
class Seat:
    """One request's part of a turn: `length` tokens from `start` on, of which the last `drafts` are guesses.

    `tokens` are all tokens up to its last, guesses included; `prompt` is how many the request came with. `accepted` is
    the count of its launch before where the engine drafts, else None. `new` on its first turn, `resumed` on its first
    after a preemption.
    """

    request: str
    start: int
    length: int
    tokens: tuple[int, ...]
    prompt: int
    drafts: int = 0
    accepted: int | None = None
    new: bool = False
    resumed: bool = False

    @property
    def row(self) -> Row:
        """The row of a launch that this is, its slots left open."""
        if self.accepted is not None:
            width = max(self.length, self.accepted)
            return Row(self.length, tuple(range(width)), accepted=self.accepted)
        return Row(self.length, (0,), fresh=self.start == 0)

    def prefix(self, token: int) -> tuple[int, ...]:
        """All tokens that the state after token number `token` of this turn has seen."""
        return self.tokens[: self.start + token + 1]


@dataclass(frozen=True)
class Turn:
    """One step of the engine: who is in the batch, in order."""

    seats: tuple[Seat, ...]

    @property
    def kind(self) -> Kind:
        """The label of the launches that this turn makes."""
        groups = {seat.row.group for seat in self.seats if seat.length}
        return Kind(next(iter(groups)).value) if len(groups) == 1 else Kind.MIXED

    @property
    def tokens(self) -> int:
        """Tokens of all rows."""
        return sum(seat.length for seat in self.seats)


def turn_of(runner: Any, scheduled: Any) -> Turn:
    """The turn that vLLM's model runner has prepared: `scheduled` is its scheduler's output."""
    batch, new = runner.input_batch, {request.req_id for request in scheduled.scheduled_new_reqs}
    resumed = scheduled.scheduled_cached_reqs.resumed_req_ids
    drafts = runner.speculative_config is not None
    seats = []
    for number, name in enumerate(batch.req_ids):
        start = int(batch.num_computed_tokens_cpu[number])
        length = int(scheduled.num_scheduled_tokens[name])
        prompt = int(batch.num_prompt_tokens[number])
        guesses = len(scheduled.scheduled_spec_decode_tokens.get(name, ()))
        verifies = drafts and start >= prompt and length == guesses + 1
        seats.append(
            Seat(
                name, start, length, tuple(batch.token_ids_cpu[number, : start + length].tolist()), prompt, guesses,
                accepted=int(runner.num_accepted_tokens.np[number]) if verifies else None,
                new=name in new, resumed=name in resumed,
            )
        )  # fmt: skip
    return Turn(tuple(seats))


@dataclass
class Account:
    """All turns since it was begun: kinds of launches that each layer owes, and what happened."""

    kinds: Counter[Kind] = field(default_factory=Counter)
    tokens: int = 0
    events: Counter[str] = field(default_factory=Counter)
    spec_width: int = 1

    def enter(self, turn: Turn) -> None:
        """The engine is about to make this turn."""
        self.kinds[turn.kind] += 1
        self.tokens += turn.tokens
        self.events.update(self._events(turn))

    def _events(self, turn: Turn) -> Mapping[str, int]:
        seats = turn.seats
        prompts = [seat for seat in seats if seat.start < seat.prompt]
        steps = [seat for seat in seats if seat.start >= seat.prompt]
        last_chunks = [seat for seat in prompts if seat.start + seat.length == seat.prompt]
        drafted = [seat for seat in seats if seat.accepted is not None]
        return {
            "turns": 1,
            "split prompts": sum(seat.start + seat.length < seat.prompt for seat in prompts),
            "one-token chunks": sum(seat.length == 1 and seat.start > 0 for seat in last_chunks),
            "one-token first chunks": sum(seat.length == 1 and seat.start == 0 for seat in prompts),
            "mixed batches": int(bool(prompts) and bool(steps)),
            "preemptions": sum(seat.resumed for seat in seats),
            "prefix hits": sum(seat.new and seat.start > 0 for seat in seats),
            "drafts": sum(seat.drafts for seat in seats),
            "drafts accepted": sum((seat.accepted or 1) - 1 for seat in drafted),
            "short drafts": sum(seat.length < self.spec_width for seat in drafted),
        }
