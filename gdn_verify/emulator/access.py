"""What a memory checker is told about tensors, and what it finds: plain records, without Triton."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import torch


class Fault(StrEnum):
    """What is wrong with an access."""

    READ_OUTSIDE = "read out of bounds"
    WRITE_OUTSIDE = "write out of bounds"
    UNINITIALISED = "read of uninitialised memory"
    SEALED = "write to memory that is not to change"
    UNWRITTEN = "never written"
    READ_AFTER_WRITE = "race, read after write"
    WRITE_AFTER_READ = "race, write after read"
    WRITE_AFTER_WRITE = "race, write after write"
    TWO_LANES = "two lanes write one element"
    HAZARD = "missing barrier"
    """Within one program: two accesses of an element by lanes that need not be one thread, and no barrier between."""


@dataclass(frozen=True, eq=False)
class Known:
    """What may be done with a tensor that a launch is given; each mask is a bool tensor of its shape, None for nothing.

    `unwritten` elements hold nothing yet: a read before a write is a finding where it matters. `sealed` ones are not to
    be written. `loose` ones may hold anything afterwards. `free` ones are anybody's: no race on them is a finding, and
    no read. A tensor that a checker does not know holds values, may be written, and must hold values afterwards.
    """

    name: str
    tensor: torch.Tensor
    unwritten: torch.Tensor | None = None
    sealed: torch.Tensor | None = None
    loose: torch.Tensor | None = None
    free: torch.Tensor | None = None


@dataclass(frozen=True)
class Access:
    """The accesses of one line of a kernel that are wrong in one way; the place is that of the first of them.

    `index` is that of the element in the argument's view; outside it, what the view's strides would make of the
    address, so that a row before the first is -1. `other` tells of the access that it collides with.
    """

    fault: Fault
    kernel: str
    line: str
    argument: str
    index: tuple[int, ...]
    shape: tuple[int, ...]
    program: tuple[int, int, int]
    lanes: int = 1
    programs: int = 1
    other: str = ""

    def __str__(self) -> str:
        return f"{self.fault}: {self.place}"

    @property
    def place(self) -> str:
        """All but what is wrong: the element, who, against whom, how much, where."""
        where = f"{self.argument}{list(self.index)} of shape {list(self.shape)}"
        if self.fault is Fault.UNWRITTEN:
            return f"{where}; {_count(self.lanes, 'element')} in all"
        other = f", {self.other}" if self.other else ""
        return (
            f"{where} by program {self.program} of {self.kernel}{other}; {_count(self.lanes, 'lane')} of "
            f"{_count(self.programs, 'program')}, at {self.line}"
        )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
