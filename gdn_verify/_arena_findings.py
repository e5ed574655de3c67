"""What a launch did to memory that it must not, or failed to do: findings, and how they are located."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

import numpy as np
import torch

from gdn_verify._arena_layout import Buffer, Role

_SHOWN_BYTES = 16


class Region(Enum):
    """The part of a buffer's allocation that a finding lies in."""

    GUARD_BEFORE = "guard before"
    GUARD_AFTER = "guard after"
    HOLE = "hole"
    SLOT = "slot"
    """An element of a buffer of role STATE."""
    ELEMENT = "element"
    """An element of any other buffer."""


class Fault(Enum):
    """What is wrong with the bytes that a finding names."""

    CHANGED = "changed"
    UNWRITTEN = "unwritten"


@dataclass(frozen=True)
class MemoryFinding:
    """The first offending bytes of one region, or of one slot, of one buffer."""

    fault: Fault
    buffer: str
    region: Region
    offset: int
    """Bytes from the start of the view to the first offending byte; negative in the guard before."""
    index: tuple[int, ...] | None
    """The element's index in the view; None in guards and holes."""
    slot: int | None
    """The index of axis 0 whose stride holds the byte: in a guard it is -1 or less, or past the last slot.
    None for a scalar and where axis 0 is not the outermost in memory."""
    expected: str
    """Hex, in memory order: the element's bytes, or the run of changed bytes (at most 16) in guards and holes.
    For an unwritten element, the poison."""
    found: str
    """Hex, in memory order, as long as `expected`."""
    bytes_differ: int
    """All offending bytes of this buffer, those of its other findings included."""

    def __str__(self) -> str:
        where = f"{self.buffer}: {self._place()}, byte {self.offset} from the view's start"
        if self.fault is Fault.UNWRITTEN:
            return f"{where}: never written, still {self.found} ({self.bytes_differ} bytes unwritten in all)"
        return (
            f"{where}: must stay {self.expected}, is {self.found} "
            f"({self.bytes_differ} bytes of the buffer changed that must not)"
        )

    def _place(self) -> str:
        slot = "" if self.slot is None else f" of slot {self.slot}"
        match self.region:
            case Region.SLOT:
                return f"slot {self.slot}, element {self.index}"
            case Region.ELEMENT:
                return f"element {self.index}"
            case Region.HOLE:
                return f"hole{slot}"
            case _:
                return f"{self.region.value}{slot and f' (the place{slot})'}"


def changes(
    buffer: Buffer, before: torch.Tensor, after: torch.Tensor, changed: torch.Tensor, limit: int
) -> list[MemoryFinding]:
    """Findings for the `changed` bytes of a buffer; at most `limit` slots are named, first ones first.

    `before`, `after` and `changed` (not zero where a byte changed that must not) are uint8 and cover the slab.
    The buffer's elements are cleared in `changed`.
    """
    total = int(changed[buffer.begin : buffer.end].count_nonzero())
    if not total:
        return []
    elements = buffer.layout.over(changed, buffer.start)
    touched = [
        _changed_element(buffer, index, before, after, total) for index in first_of_each_slot(elements != 0, limit)
    ]
    elements.zero_()  # what is left lies in guards and holes
    return touched + list(_changed_around(buffer, before, after, changed, total))


def unwritten(buffer: Buffer, missing: torch.Tensor, limit: int) -> list[MemoryFinding]:
    """Findings for the elements that `missing` (bool, the view's shape) marks, one a slot."""
    size = buffer.layout.dtype.itemsize
    total = int(missing.count_nonzero()) * size
    if not total:
        return []
    findings = []
    for index in first_of_each_slot(missing, limit):
        poison = buffer.tensor[index].reshape(1).view(torch.uint8)
        offset = buffer.layout.offset(index)
        findings.append(_finding(Fault.UNWRITTEN, buffer, offset, index, poison, poison, total))
    return findings


def first_of_each_slot(mask: torch.Tensor, limit: int) -> list[tuple[int, ...]]:
    """The index of the first true element for each of the first `limit` indices of axis 0 that have one."""
    if not mask.numel():  # an empty view whose guards were hit
        return []
    rows = mask.reshape(mask.shape[0] if mask.ndim else 1, -1)
    hit = rows.any(1).nonzero()[:limit, 0]
    flat = hit * rows.shape[1] + rows[hit].to(torch.uint8).argmax(1)
    return [tuple(int(i) for i in np.unravel_index(at, tuple(mask.shape))) for at in flat.tolist()]


def _changed_element(
    buffer: Buffer, index: tuple[int, ...], before: torch.Tensor, after: torch.Tensor, total: int
) -> MemoryFinding:
    offset = buffer.layout.offset(index)
    cells = slice(buffer.start + offset, buffer.start + offset + buffer.layout.dtype.itemsize)
    first = int(before[cells].ne(after[cells]).nonzero()[0])
    return _finding(Fault.CHANGED, buffer, offset + first, index, before[cells], after[cells], total)


def _changed_around(
    buffer: Buffer, before: torch.Tensor, after: torch.Tensor, changed: torch.Tensor, total: int
) -> Iterator[MemoryFinding]:
    """The first change in the guard before, in the holes and in the guard after."""
    stop = buffer.start + buffer.layout.span
    for begin, end in ((buffer.begin, buffer.start), (buffer.start, stop), (stop, buffer.end)):
        if not int(changed[begin:end].count_nonzero()):
            continue
        first = begin + int((changed[begin:end] != 0).to(torch.uint8).argmax())
        run = changed[first : min(end, first + _SHOWN_BYTES)].tolist()
        cells = slice(first, first + (run.index(0) if 0 in run else len(run)))
        offset = first - buffer.start
        yield _finding(Fault.CHANGED, buffer, offset, None, before[cells], after[cells], total)


def _finding(
    fault: Fault,
    buffer: Buffer,
    offset: int,
    index: tuple[int, ...] | None,
    expected: torch.Tensor,
    found: torch.Tensor,
    total: int,
) -> MemoryFinding:
    return MemoryFinding(
        fault=fault,
        buffer=buffer.name,
        region=_region(buffer, offset, index),
        offset=offset,
        index=index,
        slot=_slot(buffer, offset, index),
        expected=bytes(expected.tolist()).hex(),
        found=bytes(found.tolist()).hex(),
        bytes_differ=total,
    )


def _region(buffer: Buffer, offset: int, index: tuple[int, ...] | None) -> Region:
    if index is not None:
        return Region.SLOT if buffer.role is Role.STATE else Region.ELEMENT
    if offset < 0:
        return Region.GUARD_BEFORE
    return Region.HOLE if offset < buffer.layout.span else Region.GUARD_AFTER


def _slot(buffer: Buffer, offset: int, index: tuple[int, ...] | None) -> int | None:
    if index:
        return index[0]
    stride = buffer.layout.slot_bytes
    return offset // stride if stride else None
