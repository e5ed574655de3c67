"""An engine in small: requests that come, go on, draft, rest, are copied and end, over one pool of slots.

It is told wishes, four small numbers each, and does what is legal and what the path takes; a wish that cannot be had
is passed over, or becomes the next simpler one. So every list of wishes makes a legal case, and so does every list
with some of them left out: that is what shrinking does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import TypeVar

from gdn_verify.cases.case import Batch, Move, Row
from gdn_verify.cases.contract import Capabilities, Group, Padding
from gdn_verify.cases.launches import Room
from gdn_verify.cases.narrow import taken_groups

T = TypeVar("T")
LENGTHS = (1, 2, 3, 5, 8, 17, 65)


class Act(IntEnum):
    """What a wish is for, simplest first."""

    STEP = 0
    """A request goes on without a draft: one token, or a chunk of its prompt. After a draft of which it took more than
    one token, its state is committed first."""
    ADMIT = 1
    """A request begins, in the slot that was freed last."""
    DRAFT = 2
    """A request verifies a draft; one of a single token is a step without drafts, with the count of the step before."""
    FREE = 3
    """A request ends. Its slots keep their bytes."""
    PREEMPT = 4
    """A request makes way: its state goes to another slot, and its old slots are free."""
    FORK = 5
    """A request begins with the state of another: moved, or read where it is."""
    PAD = 6
    """A row of nobody, with tokens."""
    ROUND = 7
    """Every request verifies a draft, as all do step after step in an engine that drafts; in the order of the launch
    before, or the other way round."""


@dataclass(frozen=True)
class Wish:
    """An act; of whom, with how many tokens, after how many accepted ones: numbers to be taken modulo what there is."""

    act: Act
    who: int = 0
    tokens: int = 0
    count: int = 0


@dataclass(frozen=True)
class Request:
    """Where a request's state is: in one slot, or in the table of its last draft, which had `draft` tokens."""

    slots: tuple[int, ...]
    draft: int = 0

    def accepted(self, count: int) -> int:
        """One of the counts that may be accepted."""
        return 1 + count % self.draft if self.draft else 1


@dataclass
class Engine:
    """The requests, the free slots (the last is handed out next) and the batches so far."""

    capabilities: Capabilities
    room: Room
    free: list[int]
    requests: list[Request] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    busy: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        c, drafts = self.capabilities, range(1, self.room.S + 1)
        self.groups = taken_groups(c)
        low, high = max(c.min_tokens, 1), min(self.room.row_tokens, c.max_tokens or self.room.row_tokens)
        taken = sorted({*LENGTHS, self.room.S}, key=lambda n: (n != 1, n))
        least = (low,) if low <= (c.max_tokens or low) else ()
        self.chunks = tuple(n for n in taken if low <= n <= high) or least
        self.drafts = tuple(n for n in drafts if low <= n <= (c.max_tokens or n))
        if not self.admits:
            self._found()

    @property
    def admits(self) -> bool:
        """Whether the path can begin a request."""
        return Group.PREFILL in self.groups and self.capabilities.fresh_rows and bool(self.chunks)

    @property
    def plain(self) -> bool:
        """Whether the path takes rows that are no drafts."""
        return self.groups != (Group.SPEC,)

    def _found(self) -> None:
        """Requests begun elsewhere, where the path cannot begin any: the pool holds their states at the start."""
        for _ in range(min(3, max(len(self.free) // self.room.S, 1))):
            self.requests.append(Request((self.free.pop(),)))

    def launch(self, wishes: Sequence[Wish], filled: bool) -> None:
        """One launch; `filled` adds rows of nobody until there are as many rows as in the launch before."""
        acts: dict[Act, Callable[[Wish], bool]] = {
            Act.STEP: self._step, Act.ADMIT: self._admit, Act.DRAFT: self._draft, Act.FREE: self._end,
            Act.PREEMPT: self._preempt, Act.FORK: self._fork, Act.PAD: self._pad, Act.ROUND: self._round,
        }  # fmt: skip
        for wish in wishes:
            acts[wish.act](wish)
        before = len(self.batches[-1].rows) if self.batches else 0
        while filled and 0 < len(self.rows) < before and self._pad(Wish(Act.PAD)):
            pass
        if self.rows:
            self.batches.append(Batch(tuple(self.rows), moves=tuple(self.moves)))
            self.moves = []
        self.rows = []
        self.requests += self.busy
        self.busy = []

    def _step(self, wish: Wish) -> bool:
        if not self.plain:
            return self._draft(wish)
        if (at := self._who(wish)) is None:
            return not self.requests and not self.busy and self._admit(wish)
        request = self.requests[at]
        home = request.slots[:1]
        row = self._fitting(wish, (Row(n, home) for n in self.chunks))
        if row is None:
            return False
        accepted = request.accepted(wish.count)
        if accepted > 1:
            self.moves.append(Move(request.slots, home[0], accepted))
        self._release(request.slots[1:])
        self._go(at, row, Request(home))
        return True

    def _admit(self, wish: Wish) -> bool:
        if not (self.free and self.admits):
            return bool(self.requests) and self._step(wish)
        row = self._fitting(wish, (Row(n, (self.free[-1],), fresh=True) for n in self.chunks))
        if row is not None:
            self._go(None, row, Request((self.free.pop(),)))
        return row is not None

    def _draft(self, wish: Wish) -> bool:
        at = self._who(wish)
        more = 0 if at is None or self.requests[at].draft else self.room.S - 1
        if at is None or Group.SPEC not in self.groups or more > len(self.free):
            return self.plain and self._step(wish)
        request = self.requests[at]
        table = (*request.slots, *self.free[::-1][:more])
        accepted = request.accepted(wish.count)
        row = self._fitting(wish, (Row(n, table, accepted=accepted) for n in self.drafts))
        if row is not None:
            del self.free[len(self.free) - more :]
            self._go(at, row, Request(table, row.tokens))
        return row is not None

    def _round(self, wish: Wish) -> bool:
        count = len(self.requests)
        each = (replace(wish, who=-1 if wish.who % 2 else 0, count=wish.count + n) for n in range(count))
        drafted = [self._draft(one) for one in each]
        return any(drafted)

    def _end(self, wish: Wish) -> bool:
        at = self._who(wish)
        if at is None or not self.admits:
            return False
        self._release(self.requests.pop(at).slots)
        return True

    def _preempt(self, wish: Wish) -> bool:
        at = self._who(wish)
        if at is None or not self.free:
            return False
        request = self.requests.pop(at)
        to = self.free.pop()
        self.moves.append(Move(request.slots, to, request.accepted(wish.count)))
        self._release(request.slots)
        self.busy.append(Request((to,)))
        return True

    def _fork(self, wish: Wish) -> bool:
        at = self._who(wish)
        if at is None or not self.free:
            return self._step(wish)
        request, to = self.requests[at], self.free[-1]
        separate = self.capabilities.separate_slots and not request.draft and wish.count % 2 == 1
        read = request.slots[0] if separate else None
        row = self._fitting(wish, (Row(n, (to,), read=read) for n in self.chunks))
        if row is None:
            return False
        if separate:
            self.busy.append(self.requests.pop(at))  # a slot that is read in place belongs to one row
        else:
            self.moves.append(Move(request.slots, to, request.accepted(wish.count)))
        self._go(None, row, Request((self.free.pop(),)))
        return True

    def _pad(self, wish: Wish) -> bool:
        if not self.room.pads or Padding.SENTINEL_ROW not in self.capabilities.paddings:
            return False
        drafts = [row for row in self.rows if row.spec]
        if drafts or not self.plain:
            blank: Iterator[Row] = (Row(n, (None,) * self.room.S, accepted=1) for n in self.drafts)
        else:
            blank = (Row(n, (None,)) for n in self.chunks)
        row = self._fitting(wish, blank)
        if row is not None:
            self.rows.append(row)
        return row is not None

    def _who(self, wish: Wish) -> int | None:
        """A request that has nothing to do in this launch yet."""
        return wish.who % len(self.requests) if self.requests else None

    def _go(self, at: int | None, row: Row, after: Request) -> None:
        if at is not None:
            del self.requests[at]
        self.rows.append(row)
        self.busy.append(after)

    def _release(self, slots: Sequence[int]) -> None:
        self.free += slots[::-1]

    def _fitting(self, wish: Wish, rows: Iterator[Row]) -> Row | None:
        """The row of the wished length among those that the launch has room for."""
        able = [row for row in rows if self._fits(row)]
        return able[wish.tokens % len(able)] if able else None

    def _fits(self, row: Row) -> bool:
        c = self.capabilities
        tokens = sum(other.tokens for other in self.rows) + row.tokens
        if len(self.rows) == self.room.rows or tokens > self.room.tokens:
            return False
        if c.equal_lengths and any(other.tokens != row.tokens for other in self.rows):
            return False
        if row.padded:
            return True
        groups = {other.group for other in self.rows if other.live} | {row.group}
        return row.group in self.groups and (c.mixes or len(groups) == 1)
