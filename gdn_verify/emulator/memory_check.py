"""Every load, store and atomic of every kernel, checked against the views that the kernel was given.

    with checked([Known("pool", pool, unwritten=free_slots)]) as check:
        kernel[grid](pool, out, ...)
    for access in check.findings():
        print(access)

What is found is in `access.Fault`. Lanes that reach outside are masked, so the process lives and a run finds all there
is to find; a line that is wrong in one way is one finding, however many lanes and programs it is wrong in.

A wrapper's `torch.empty` holds nothing until a kernel, or torch, has written to it. Races between programs need no
concurrency to be seen: who touched an element last is kept, whatever the order programs run in. docs/hazards.md says
what stays unseen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from triton.runtime import interpreter as stock

from gdn_verify.emulator import launch, scratch
from gdn_verify.emulator.access import Access, Fault, Known
from gdn_verify.emulator.checked_builder import checking
from gdn_verify.emulator.findings import Findings
from gdn_verify.emulator.interpreter import EmulatorError, is_installed
from gdn_verify.emulator.order import Order
from gdn_verify.emulator.reach import Part, Reach, Reacher
from gdn_verify.emulator.shadow import FREE, LOOSE, SEALED, UNWRITTEN, Lanes, Shadow, Touch
from gdn_verify.emulator.source import line, place
from gdn_verify.emulator.undefined import Undefined
from gdn_verify.emulator.windows import Windows

Pointers = NDArray[np.uint64]
Mask = NDArray[np.bool_]
PLACE = (1 << 32) - 1
"""The bits of a lane's number that are its place in the block; those above tell the block's shape."""


@contextmanager
def checked(known: Iterable[Known] = ()) -> Iterator[Checker]:
    """Check all kernels that the interpreter runs within the block.

    Raises EmulatorError where the interpreter is not installed, or within another such block.
    """
    if not is_installed():
        raise EmulatorError("checked() needs install() first")
    if launch.watcher is not None:
        raise EmulatorError("memory is being checked already; leave the other block first")
    checker = Checker(known)
    with ExitStack() as stack:
        stack.enter_context(patch.object(launch, "watcher", checker))
        stack.enter_context(patch.object(stock, "_implicit_cvt", checker.converter(stock._implicit_cvt)))
        stack.enter_context(checking(checker))
        stack.enter_context(scratch.noticed(checker.add_scratch))
        yield checker


class Checker:
    """The memory of a run of launches, and what was found in them."""

    def __init__(self, known: Iterable[Known] = ()) -> None:
        self.order = Order()
        self._shadows: dict[int, Shadow] = {}
        self._kept: list[torch.UntypedStorage] = []
        """Storages that must not be let go, or another might take their place."""
        self._windows = Windows()
        self._reacher = Reacher(self._windows)
        self._found = Findings(self.order)
        self._naming = ""
        self._lanes: dict[tuple[int, ...], Lanes] = {}
        for each in known:
            if each.tensor.numel():
                self._shadow(each.tensor).mark(each)

    def findings(self) -> list[Access]:
        """All that was found so far, in the order of their first occurrence."""
        return self._found.all()

    def unwritten(self, name: str, tensor: torch.Tensor, wanted: torch.Tensor | None = None) -> Access | None:
        """The elements of a view, among those that `wanted` (bool, the view's shape) marks, that hold nothing yet."""
        if not tensor.numel():
            return None
        shadow = self._shadow(tensor)
        shadow.heed_torch()
        missing = shadow.unwritten(tensor)
        if wanted is not None:
            missing &= wanted.cpu()
        if not bool(missing.any()):
            return None
        index = tuple(int(i) for i in missing.nonzero()[0])
        shape = tuple(tensor.shape)
        return Access(Fault.UNWRITTEN, "", "", name, index, shape, (0, 0, 0), lanes=int(missing.sum()))

    # -- what a launch is given ------------------------------------------------------------------------

    def add_scratch(self, tensor: torch.Tensor) -> None:
        """A tensor that holds nothing."""
        self._shadow(tensor).mark_unwritten()

    def start_launch(self, kernel: str) -> None:
        """The launches before are over."""
        self.order.start_launch()
        self._windows.clear()
        self._found.kernel = kernel
        for shadow in self._shadows.values():
            shadow.start_launch()
            shadow.heed_torch()

    def start_program(self, index: tuple[int, int, int]) -> None:
        """Another program begins."""
        self.order.start_program(index)

    def convert(self, name: str, value: Any) -> Any:
        """An argument as kernels take it: addresses in a window instead of those in memory."""
        self._naming = name
        return stock._implicit_cvt(value)

    def converter(self, plain: Any) -> Any:
        """What converts one argument, or a part of one; `plain` is Triton's own."""

        def convert(value: Any) -> Any:
            converted = plain(value)
            if isinstance(value, torch.Tensor):
                window = self._windows.open(self._naming, value, self._shadow(value))
                converted.handle.data = np.array([window.base], dtype=np.uint64)
            return converted

        return convert

    def _shadow(self, tensor: torch.Tensor) -> Shadow:
        storage = tensor.untyped_storage()
        shadow = self._shadows.get(storage.data_ptr())
        if shadow is None:
            shadow = self._shadows[storage.data_ptr()] = Shadow.of(tensor)
            self._kept.append(storage)
        return shadow

    # -- accesses --------------------------------------------------------------------------------------

    def load(
        self, pointers: Pointers, mask: Mask, size: int, volatile: bool
    ) -> tuple[Pointers, Mask, Undefined | None]:
        """Addresses in memory, the lanes that may be read, and those of them that hold nothing."""
        reach = self._reacher.reach(pointers, mask, size)
        number = self._number(reach)
        unknown = None
        for part in reach.parts:
            self._outside(Fault.READ_OUTSIDE, part, number)
            if part.units.size:
                lanes = self._lanes_of(pointers.shape, part, size)
                unknown = self._unknown(part, lanes, pointers.shape, number) or unknown
                self._read(part, lanes, number, volatile)
        return reach.pointers, reach.mask, unknown

    def store(
        self, pointers: Pointers, mask: Mask, size: int, after: int, value: Undefined | None
    ) -> tuple[Pointers, Mask]:
        """The same for a store of a value that may be undefined; it waits for all accesses below `after`."""
        reach = self._reacher.reach(pointers, mask, size)
        number = self._number(reach)
        for part in reach.parts:
            self._outside(Fault.WRITE_OUTSIDE, part, number)
            if part.units.size:
                lanes = self._lanes_of(pointers.shape, part, size)
                self._write(part, lanes, number, after)
                if value is not None:
                    self._undefine(part, lanes, np.broadcast_to(value.mask, pointers.shape), value.origin)
        return reach.pointers, reach.mask

    def use(self, value: Undefined, how: str) -> None:
        """An undefined value is put to use."""
        self._found.use(value.origin, f"which {how} at {place(*line())}", int(value.mask.sum()))

    def atomic(self, pointers: Pointers, mask: Mask, size: int, acquire: bool, release: bool) -> tuple[Pointers, Mask]:
        """The same for an atomic."""
        reach = self._reacher.reach(pointers, mask, size)
        counters = [(p.window.shadow.start, int(u)) for p in reach.parts for u in p.units]
        self.order.atomic(counters, acquire, release)
        number = self._number(reach)
        for part in reach.parts:
            self._outside(Fault.WRITE_OUTSIDE, part, number)
            if part.units.size:
                self._read_and_write(part, number)
        return reach.pointers, reach.mask

    def _number(self, reach: Reach) -> int:
        return self.order.number(line(), reach.lanes == 1)

    def _lanes_of(self, shape: tuple[int, ...], part: Part, size: int) -> Lanes:
        """A number for each element accessed: which lane of which block shape it was."""
        lanes = self._lanes.get(shape)
        if lanes is None:
            count = int(np.prod(shape, dtype=np.int64))
            lanes = self._lanes[shape] = np.arange(count) + ((len(self._lanes) + 1) << 32)
        chosen = lanes if part.active is None else lanes[part.active]
        times = part.units.size // chosen.size
        return chosen if times == 1 else np.repeat(chosen, times)

    def _outside(self, fault: Fault, part: Part, number: int) -> None:
        if part.strays.size:
            self._found.add(fault, number, part.window, int(part.strays[0]), part.strays.size)

    def _say(self, fault: Fault, part: Part, wrong: Mask | None, number: int, others: NDArray[np.int32] | None) -> None:
        if wrong is None or not wrong.any():
            return
        at = int(np.argmax(wrong))
        other = None if others is None else int(others[at])
        self._found.add(fault, number, part.window, part.offset(at), int(wrong.sum()), other)

    # -- one access of one window ----------------------------------------------------------------------

    def _read(self, part: Part, lanes: Lanes, number: int, volatile: bool) -> None:
        shadow = part.window.shadow
        part, lanes = self._not_free(part, lanes)
        touch = Touch(number, self.order.begin, self.order.since)
        if shadow.is_written and not volatile:
            writers = shadow.writers[part.units]
            if int(writers.max(initial=0)) >= self.order.first:
                self._say(Fault.READ_AFTER_WRITE, part, self.order.unordered(writers, False), number, writers)
                stale = (writers >= self.order.since) & (shadow.write_lanes[part.units] != lanes)
                self._say(Fault.HAZARD, part, stale, number, writers)
        self._against_atomics(Fault.READ_AFTER_WRITE, part, number, volatile)
        shadow.read(part.units, lanes, touch, self.order.first)

    def _write(self, part: Part, lanes: Lanes, number: int, after: int) -> None:
        shadow = part.window.shadow
        allowed = shadow.allows(part.units, SEALED)
        self._say(Fault.SEALED, part, None if allowed is None else ~allowed, number, None)
        part, lanes = self._not_free(part, lanes)
        writers, readers = shadow.writers[part.units], shadow.readers[part.units]
        if int(writers.max(initial=0)) >= self.order.first:
            self._say(Fault.WRITE_AFTER_WRITE, part, self.order.unordered(writers, False), number, writers)
            stale = (writers >= self.order.since) & (shadow.write_lanes[part.units] != lanes)
            self._say(Fault.HAZARD, part, stale, number, writers)
        if int(readers.max(initial=0)) >= self.order.first:
            self._after_reads(part, lanes, number, readers, max(self.order.since, self.order.waited, after))
        self._against_atomics(Fault.WRITE_AFTER_WRITE, part, number, False)
        shared = shadow.write(part.units, lanes, Touch(number, self.order.begin, self.order.since))
        self._say(Fault.TWO_LANES, part, shared, number, None)

    def _after_reads(self, part: Part, lanes: Lanes, number: int, readers: NDArray[np.int32], since: int) -> None:
        shadow = part.window.shadow
        for before in (readers, shadow.others[part.units]):
            self._say(Fault.WRITE_AFTER_READ, part, self.order.unordered(before, True), number, before)
        held = (readers >= since) & (shadow.read_lanes[part.units] != lanes)
        self._say(Fault.HAZARD, part, held, number, readers)

    def _read_and_write(self, part: Part, number: int) -> None:
        shadow = part.window.shadow
        part, _ = self._not_free(part, np.zeros(part.units.size, np.int64))
        self._initialised(part, number)
        for before, reads in ((shadow.writers[part.units], False), (shadow.readers[part.units], True)):
            fault = Fault.WRITE_AFTER_READ if reads else Fault.WRITE_AFTER_WRITE
            self._say(fault, part, self.order.unordered(before, reads), number, before)
        shadow.touch_atomically(part.units, number)

    def _unknown(self, part: Part, lanes: Lanes, shape: tuple[int, ...], number: int) -> Undefined | None:
        """The lanes of a read that find nothing there."""
        defined = part.window.shadow.allows(part.units, UNWRITTEN)
        if defined is None:
            return None
        nothing = ~defined
        if (kept := part.window.shadow.allows(part.units, FREE)) is not None:
            nothing &= kept
        if not nothing.any():
            return None
        mask = np.zeros(shape, np.bool_)
        mask.reshape(-1)[lanes[nothing] & PLACE] = True
        return Undefined(mask, self._found.load(number, part.window, part.offset(int(np.argmax(nothing)))))

    def _undefine(self, part: Part, lanes: Lanes, undefined: Mask, origin: Access) -> None:
        """A store of what is undefined: nothing is there afterwards; where something must be, the load is found."""
        shadow = part.window.shadow
        units = part.units[undefined.reshape(-1)[lanes & PLACE]]
        loose = shadow.allows(units, LOOSE | FREE)
        harm = units.size if loose is None else int(loose.sum())
        if harm:
            self._found.use(origin, f"stored to {part.window.name} at {place(*line())}", harm)
        if harm < units.size:
            shadow.unwrite(units if loose is None else units[~loose])

    def _initialised(self, part: Part, number: int) -> None:
        allowed = part.window.shadow.allows(part.units, UNWRITTEN)
        self._say(Fault.UNINITIALISED, part, None if allowed is None else ~allowed, number, None)

    def _against_atomics(self, fault: Fault, part: Part, number: int, volatile: bool) -> None:
        atomics = part.window.shadow.atomics
        if atomics is not None and not volatile:
            before = atomics[part.units]
            self._say(fault, part, self.order.unordered(before, False), number, before)

    def _not_free(self, part: Part, lanes: Lanes) -> tuple[Part, Lanes]:
        """Without what is anybody's."""
        kept = part.window.shadow.allows(part.units, FREE)
        return (part, lanes) if kept is None else (part.only(kept), lanes[kept])
