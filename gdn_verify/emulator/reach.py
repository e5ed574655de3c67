"""Where a block of pointers leads: the windows it reaches into, the elements there, and the lanes that go astray."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gdn_verify.emulator.shadow import Indices
from gdn_verify.emulator.windows import MIDDLE, WINDOW, Offsets, Window, Windows

Pointers = NDArray[np.uint64]
Mask = NDArray[np.bool_]
NOTHING = np.zeros(0, np.int64)


@dataclass(slots=True, eq=False)  # one or more an access: frozen ones take thrice as long to make
class Part:
    """What of an access goes to one window.

    `units` are the shadow's elements of the lanes inside, as many for each lane as it is wide; `active` picks those
    lanes from the block, None for all of it; `offsets` are theirs in the window. `strays` are offsets of lanes outside.
    """

    window: Window
    units: Indices
    active: Indices | None
    offsets: Offsets
    strays: Offsets

    def offset(self, at: int) -> int:
        """The offset in the window of the lane that accesses unit number `at`."""
        return int(self.offsets[at * len(self.offsets) // len(self.units)])

    def only(self, kept: Mask) -> Part:
        """The part's units that are picked, each a lane of its own."""
        times = len(self.units) // max(len(self.offsets), 1)
        return replace(self, units=self.units[kept], offsets=np.repeat(self.offsets, times)[kept])


@dataclass(slots=True, eq=False)
class Reach:
    """A block of pointers in memory, the lanes that may be followed, and what they reach; `lanes` counts them."""

    pointers: Pointers
    mask: Mask
    parts: tuple[Part, ...]
    lanes: int


class Reacher:
    """Follows pointers into the windows of a launch."""

    def __init__(self, windows: Windows) -> None:
        self._windows = windows

    def reach(self, pointers: Pointers, mask: Mask, size: int) -> Reach:
        """`size` is that of the elements pointed to, in bytes."""
        mask = mask if mask.dtype == np.bool_ else mask.astype(np.bool_)
        active = None if mask.all() else mask.reshape(-1).nonzero()[0]
        addresses = pointers.reshape(-1) if active is None else pointers.reshape(-1)[active]
        if not addresses.size:
            return Reach(pointers, mask, (), 0)
        window = self._windows.of(int(addresses[0]))
        if window is not None:
            offsets = window.offsets(addresses)
            low, high = int(offsets.min()), int(offsets.max())
            if low >= -MIDDLE and high < MIDDLE:
                shift = window.view.shift(low, high, size)
                if shift is not None:  # nearly always: all lanes inside, at one distance from memory
                    units = self._units(window, offsets, shift, size)
                    moved = pointers - np.uint64(window.base - window.real - shift)
                    return Reach(moved, mask, (Part(window, units, active, offsets, NOTHING),), addresses.size)
        return self._scattered(pointers, mask, active, addresses, size)

    def _scattered(
        self, pointers: Pointers, mask: Mask, active: Indices | None, addresses: Pointers, size: int
    ) -> Reach:
        """Lane by lane; addresses that no argument gave are left as they are."""
        lanes = np.arange(addresses.size) if active is None else active
        numbers = addresses >> np.uint64(WINDOW)
        real, kept, parts = pointers.reshape(-1).copy(), mask.reshape(-1).copy(), []
        for number in np.unique(numbers):
            window = self._windows.of(int(number) << WINDOW)
            if window is None:
                continue
            chosen = numbers == number
            offsets = window.offsets(addresses[chosen])
            inside, moved = window.view.locate(offsets, size)
            there, here = lanes[chosen], lanes[chosen][inside]
            real[here] = (moved[inside] + window.real).astype(np.uint64)
            kept[there[~inside]] = False
            units = self._units(window, moved[inside], 0, size)
            everywhere = active is None and here.size == addresses.size
            parts.append(Part(window, units, None if everywhere else here, offsets[inside], offsets[~inside]))
        shape = pointers.shape
        return Reach(real.reshape(shape), kept.reshape(shape), tuple(parts), addresses.size)

    @staticmethod
    def _units(window: Window, offsets: Offsets, shift: int, size: int) -> Indices:
        shadow = window.shadow
        if size < 1 << shadow.bits:
            shadow.refine(size.bit_length() - 1)
        units = (offsets + (window.start + shift)) >> shadow.bits
        times = size >> shadow.bits
        return units if times == 1 else (units[:, None] + np.arange(times)).reshape(-1)
