"""What was found, put together by line and kind."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gdn_verify.emulator.access import Access, Fault
from gdn_verify.emulator.order import Order, Program
from gdn_verify.emulator.source import Line, calls, place
from gdn_verify.emulator.windows import Window

Key = tuple[Fault, str, Line | str, str]
"""A kind, a kernel, a line of it, an argument."""


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
        self._tallies: dict[Key, _Tally] = {}
        self._calls: dict[Line, str] = {}
        """A line in words; of the several ways to a device function, the first that was taken."""

    def add(self, fault: Fault, number: int, window: Window, offset: int, lanes: int, other: int | None = None) -> None:
        """Some lanes of access `number`, which is under way; `offset` is that of the first of them."""
        key = fault, self.kernel, self._order.line(number), window.name
        tally = self._tallies.get(key)
        if tally is None:
            found = self._access(fault, number, window, offset, self._against(other))
            tally = self._tallies[key] = _Tally(found, 0, set())
        self._count(tally, lanes)

    def load(self, number: int, window: Window, offset: int) -> Access:
        """A load under way that reads what nobody wrote: no finding yet."""
        return self._access(Fault.UNINITIALISED, number, window, offset, "")

    def use(self, load: Access, how: str, lanes: int) -> None:
        """What such a load read does harm after all."""
        key = load.fault, load.kernel, load.line, load.argument
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = _Tally(replace(load, other=how), 0, set())
        self._count(tally, lanes)

    def _count(self, tally: _Tally, lanes: int) -> None:
        tally.lanes += lanes
        tally.programs.add(self._order.running)

    def _access(self, fault: Fault, number: int, window: Window, offset: int, other: str) -> Access:
        line = self._order.line(number)
        if line not in self._calls:
            self._calls[line] = calls()
        return Access(
            fault, self.kernel, self._calls[line], window.name, window.view.index(offset), window.view.shape,
            self._order.program(number), other=other,
        )  # fmt: skip

    def _against(self, number: int | None) -> str:
        if number is None:
            return ""
        program = self._order.program(number)
        return f"against program {program} at {place(*self._order.line(number))}"

    def all(self) -> list[Access]:
        """One a line, kind and argument."""
        return [replace(t.first, lanes=t.lanes, programs=len(t.programs)) for t in self._tallies.values()]
