"""Addresses that tell which argument a pointer came from.

Each tensor that a kernel is given gets a window of 16 TiB of addresses of its own, far from its neighbours and from
real memory. However far a pointer strays, it is known which argument it belongs to, and so which view bounds it: an
access that lands in another tensor, or beside the view in one allocation, is told from a right one. A view may also lie
in its window with wider strides than in memory (`stretch`), so that slots stand 2³¹ elements apart and cost nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from gdn_verify.emulator.shadow import Shadow
from gdn_verify.emulator.stretch import apparent_strides

Offsets = NDArray[np.int64]

WINDOW = 44
"""Bits of an address below the window's number."""
FIRST = 1 << 4
"""The number of the first window: above all addresses that a process has."""
MIDDLE = 1 << (WINDOW - 1)
"""Where in its window a view begins, so that what lies before it is in the window too."""
_ALIGNED = 256
"""A fake address keeps the real one's alignment up to this."""


@dataclass(frozen=True)
class Level:
    """An axis, or several in one: how many steps, how wide in the window and in memory, in bytes."""

    count: int
    step: int
    real: int


class View:
    """Which bytes of a window are a view's, and where they are in memory; both from the view's start on.

    Levels go from the widest to the narrowest step; after them follow `run` bytes that are all the view's.
    """

    def __init__(self, tensor: torch.Tensor) -> None:
        self.shape = tuple(tensor.shape)
        self.strides = apparent_strides(tensor)
        self.itemsize = tensor.element_size()
        self.levels, self.run = _levels(self.shape, self.strides, torch.Tensor.stride(tensor), self.itemsize)

    def shift(self, low: int, high: int, size: int) -> int | None:
        """What to add to offsets low…high for offsets in memory, if all are inside and one number does for all."""
        moved = 0
        for level in self.levels:
            step = low // level.step
            if step != high // level.step or not 0 <= step < level.count:
                return None
            low, high = low - step * level.step, high - step * level.step
            moved += step * (level.real - level.step)
        return moved if low >= 0 and high + size <= self.run else None

    def locate(self, offsets: Offsets, size: int) -> tuple[NDArray[np.bool_], Offsets]:
        """Which accesses of `size` bytes lie inside, and their offsets in memory."""
        inside, rest, real = offsets >= 0, offsets, offsets
        for level in self.levels:
            step = rest // level.step
            rest = rest - step * level.step
            inside &= step < level.count
            if level.real != level.step:
                real = real + step * (level.real - level.step)
        inside &= rest <= self.run - size
        return inside, real

    def index(self, offset: int) -> tuple[int, ...]:
        """The index of the element at an offset; the widest axis takes up what is outside the view."""
        rest = offset // self.itemsize
        found = [0] * len(self.shape)
        axes = [axis for axis, (n, s) in enumerate(zip(self.shape, self.strides, strict=True)) if s > 0 and n != 1]
        for axis in sorted(axes, key=lambda axis: -self.strides[axis]):
            found[axis], rest = divmod(rest, self.strides[axis])
        if not axes and found:
            found[0] = rest
        elif rest:
            found[axes[-1]] += rest
        return tuple(found)


def _levels(
    shape: tuple[int, ...], strides: tuple[int, ...], real: tuple[int, ...], itemsize: int
) -> tuple[tuple[Level, ...], int]:
    if 0 in shape:
        return (), 0
    axes = [Level(n, s * itemsize, r * itemsize) for n, s, r in zip(shape, strides, real, strict=True) if n > 1 and s]
    axes.sort(key=lambda level: level.step)
    levels: list[Level] = []
    run = itemsize
    for axis in axes:
        outer = levels[-1] if levels else None
        if outer is None and axis.step == axis.real <= run:  # contiguous; or overlapping, which has no holes
            run = max(run, (axis.count - 1) * axis.step + run)
        elif outer and axis.step == outer.count * outer.step and axis.real == outer.count * outer.real:
            levels[-1] = Level(outer.count * axis.count, outer.step, outer.real)
        elif outer and axis.step < outer.count * outer.step:
            span = (axis.count - 1) * axis.step + (outer.count - 1) * outer.step + run
            levels, run = [], span  # axes that interleave: no address between the first and the last is a hole
        else:
            levels.append(axis)
    return tuple(reversed(levels)), run


@dataclass(frozen=True, eq=False)
class Window:
    """One argument's addresses. `base` is the fake address of its view's start, `real` that in memory."""

    name: str
    view: View
    shadow: Shadow
    base: int
    real: int

    @cached_property
    def start(self) -> int:
        """Where the view begins in its storage, in bytes."""
        return self.real - self.shadow.start

    def offsets(self, pointers: NDArray[np.uint64]) -> Offsets:
        """From the view's start, in bytes, of any addresses in this window."""
        return (pointers - np.uint64(self.base)).view(np.int64)


class Windows:
    """The windows of one launch."""

    def __init__(self) -> None:
        self._windows: list[Window] = []

    def clear(self) -> None:
        """Another launch begins."""
        self._windows = []

    def open(self, name: str, tensor: torch.Tensor, shadow: Shadow) -> Window:
        """A window for a view whose storage `shadow` watches."""
        real = tensor.data_ptr()
        base = ((FIRST + len(self._windows)) << WINDOW) + MIDDLE + real % _ALIGNED
        self._windows.append(Window(name, View(tensor), shadow, base, real))
        return self._windows[-1]

    def of(self, address: int) -> Window | None:
        """The window that a fake address lies in; None for an address that no argument gave."""
        number = (address >> WINDOW) - FIRST
        return self._windows[number] if 0 <= number < len(self._windows) else None
