"""Rows of any length as data: what the launches of prefill kernels have in common."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import torch

from gdn_verify.kernels.rows import Tables

UNWRITTEN = 77.0
"""What outputs hold before a launch."""


@dataclass(frozen=True)
class PlainRows:
    """Of each row its length, slot, read slot and whether it has an initial state; `tail` tokens belong to none.

    Read slots are given to the launch with `reads`, initial states with `known`; without, all rows have one.
    """

    rows: tuple[tuple[int, int, int, bool], ...]
    tail: int = 0
    slots: int = 12
    pad_slot_id: int | None = None
    index: torch.dtype = torch.int32
    reads: bool = False
    known: bool = True

    def tables(self) -> Tables:
        lengths, slots, reads, known = (list(column) for column in zip(*self.rows, strict=True))
        return Tables(
            torch.tensor([0, *accumulate(lengths)], dtype=self.index),
            torch.tensor(slots, dtype=self.index),
            has_initial_state=torch.tensor(known) if self.known else None,
            read_indices=torch.tensor(reads, dtype=self.index) if self.reads else None,
        )

    @property
    def filled(self) -> list[int]:
        """Slots that hold a state before the launch."""
        found = [(read if self.reads else slot, known) for _, slot, read, known in self.rows]
        return [slot for slot, known in found if (known or not self.known) and 0 <= slot < self.slots]
