"""What was found, put together by line and kind."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gdn_verify.emulator.access import Access, Fault
from gdn_verify.emulator.order import Order, Program
from gdn_verify.emulator.source import Line, calls, place
from gdn_verify.emulator.windows import Window


@dataclass
class _Tally:
    first: Access
    lanes: int
    programs: set[Program]


class Findings:
    """The findings of a run of launches."""

    def __init__(self, order: Order) -> None:
        self.kernel = ""
        self._order = order
        self._tallies: dict[tuple[Fault, str, Line, str], _Tally] = {}

    def add(self, fault: Fault, number: int, window: Window, offset: int, lanes: int, other: int | None = None) -> None:
        """Some lanes of access `number`, which is under way; `offset` is that of the first of them."""
        program = self._order.program(number)
        key = fault, self.kernel, self._order.line(number), window.name
        tally = self._tallies.get(key)
        if tally is not None:
            tally.lanes += lanes
            tally.programs.add(program)
            return
        found = Access(
            fault, self.kernel, calls(), window.name, window.view.index(offset), window.view.shape, program,
            other=self._other(other),
        )  # fmt: skip
        self._tallies[key] = _Tally(found, lanes, {program})

    def _other(self, number: int | None) -> str:
        if number is None:
            return ""
        program = self._order.program(number)
        return f"against program {program} at {place(*self._order.line(number))}"

    def all(self) -> list[Access]:
        """One a line, kind and argument."""
        return [replace(t.first, lanes=t.lanes, programs=len(t.programs)) for t in self._tallies.values()]
