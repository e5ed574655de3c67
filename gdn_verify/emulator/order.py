"""Which accesses of other programs are certain to have happened before.

Programs of a launch run at once, for all that a kernel may know. Atomics order them: what a program did before a
release is before what another does after an acquire of the same counter, if the release came first.

- A release speaks for the program's stores only up to its last barrier: one thread releases, and a barrier is how it
  knows of the others' stores. A scalar's store is that thread's own.
- A relaxed atomic orders no store for anybody. It does order a read before a write: a counter that is taken when loads
  have returned, and a store that waits for the counter, need no fence (the tickets of `kernels/triton/decode_kernel`).
  That the loads have returned is the kernel's business; the checker takes its word.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gdn_verify.emulator.source import Line

Numbers = NDArray[np.int32]
Program = tuple[int, int, int]
Counter = tuple[int, int]
"""An atomically accessed unit: its shadow's start, its index."""


@dataclass(frozen=True)
class Heard:
    """Of a program: accesses below `stores` are done, and scalar ones below `scalars`; reads below `reads` are."""

    stores: int = 0
    scalars: int = 0
    reads: int = 0

    def join(self, other: Heard) -> Heard:
        """What both know."""
        return Heard(*(max(pair) for pair in zip(self._all(), other._all(), strict=True)))

    def _all(self) -> tuple[int, int, int]:
        return self.stores, self.scalars, self.reads

    @property
    def relaxed(self) -> Heard:
        """What a relaxed atomic hands on of it."""
        return Heard(reads=self.reads)


News = dict[int, Heard]
"""By the number of a program's first access."""


class Order:
    """The accesses of a launch, numbered on from those of launches before, and what is known of their order."""

    def __init__(self) -> None:
        self.next = 1
        self.start_launch()

    def start_launch(self) -> None:
        """Whatever happened before is over."""
        self.first = self.next
        self._begins: list[int] = []
        self._programs: list[Program] = []
        self._lines: list[Line] = []
        self._scalars: set[int] = set()
        self._counters: dict[Counter, News] = {}

    def start_program(self, program: Program) -> None:
        """The next program has heard of no other."""
        self.begin = self.since = self.waited = self.next
        self._begins.append(self.next)
        self._programs.append(program)
        self._news: News = {}

    def number(self, line: Line, scalar: bool) -> int:
        """The number of another access."""
        number, self.next = self.next, self.next + 1
        self._lines.append(line)
        if scalar:
            self._scalars.add(number)
        return number

    def barrier(self) -> None:
        """All threads of the program have come so far."""
        self.since = self.next

    def wait(self, number: int) -> None:
        """What follows waits for the loads below a number: for what they came to decides whether it runs."""
        self.waited = max(self.waited, number)

    def atomic(self, counters: list[Counter], acquire: bool, release: bool) -> None:
        """The program takes part in these counters."""
        own = Heard(self.since, self.next, self.next)
        for counter in counters:
            told = self._counters.setdefault(counter, {})
            for begin, heard in told.items():
                self._hear(self._news, begin, heard if acquire else heard.relaxed)
            for begin, heard in [*self._news.items(), (self.begin, own)]:
                self._hear(told, begin, heard if release else heard.relaxed)
        self.barrier()  # its result goes to all threads by way of one

    @staticmethod
    def _hear(news: News, begin: int, heard: Heard) -> None:
        news[begin] = heard.join(news[begin]) if begin in news else heard

    def unordered(self, numbers: Numbers, reads: bool) -> NDArray[np.bool_] | None:
        """Which of these accesses are of other programs of this launch and not known to be over; None if none is.

        `reads` tells that they are reads before a write.
        """
        foreign = (numbers >= self.first) & (numbers < self.begin)
        if not foreign.any():
            return None
        if self._news:
            for number in np.unique(numbers[foreign]):
                if self._is_over(int(number), reads):
                    foreign &= numbers != number
        return foreign if foreign.any() else None

    def _is_over(self, number: int, reads: bool) -> bool:
        heard = self._news.get(self._begins[bisect_right(self._begins, number) - 1])
        if heard is None:
            return False
        return number < heard.stores or (reads and number < heard.reads) or self._is_scalar(number, heard)

    def _is_scalar(self, number: int, heard: Heard) -> bool:
        return number < heard.scalars and number in self._scalars

    @property
    def running(self) -> Program:
        """The program under way."""
        return self._programs[-1]

    def program(self, number: int) -> Program:
        """Whose access this was."""
        return self._programs[bisect_right(self._begins, number) - 1]

    def line(self, number: int) -> Line:
        """The line of code that made it."""
        return self._lines[number - self.first]
