"""Global memory: every byte is looked up in the windows of the launch, and in the shadows of what they show."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gdn_verify.emulator.amdgpu import rows as r
from gdn_verify.emulator.amdgpu import state as st
from gdn_verify.emulator.amdgpu.access import Way
from gdn_verify.emulator.amdgpu.arithmetic import changed
from gdn_verify.emulator.amdgpu.bits import inlined, load8, load16, load32, load64, store8, store16, store32, store64
from gdn_verify.emulator.amdgpu.faults import Fault, note
from gdn_verify.emulator.amdgpu.operands import (
    begin_global,
    scalar_pair,
    take_vector,
    unknown_of,
    use_scalar,
    use_vector,
)
from gdn_verify.emulator.amdgpu.state import State

Row = NDArray[np.int64]

_LOAD, _STORE, _COMPARE_SWAP = int(Way.LOAD), int(Way.STORE), int(Way.COMPARE_SWAP)
_READ_OUTSIDE, _WRITE_OUTSIDE, _SEALED = int(Fault.READ_OUTSIDE), int(Fault.WRITE_OUTSIDE), int(Fault.SEALED)
_UNKNOWN_ADDRESS, _UNKNOWN_STORED = int(Fault.UNKNOWN_ADDRESS), int(Fault.UNKNOWN_STORED)
_REFUSED = int(Fault.REFUSED)

_0, _1, _32 = np.uint64(0), np.uint64(1), np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_48 = np.uint64((1 << 48) - 1)


@inlined
def locate(s: State, address: int, size: int) -> tuple[int, int]:
    """The window that `size` bytes lie in (-1: none) and their distance in memory from its base."""
    number = np.int64(address >> np.uint64(st.WINDOW))
    if not 1 <= number < len(s.windows):
        return -1, 0
    window = s.windows[number]
    rest = np.int64(address) - window[st.BASE]
    if rest < 0:
        return -1, 0
    real = rest
    for level in range(window[st.LEVELS]):
        at = st.LEVEL + 3 * level
        count, step, moved = window[at], window[at + 1], window[at + 2]
        steps = rest // step
        if steps >= count:
            return -1, 0
        rest -= steps * step
        real += steps * (moved - step)
    return (number, real) if rest + size <= window[st.RUN] else (-1, 0)


@inlined
def read(address: int, size: int) -> int:
    """Up to 8 bytes of this process's memory."""
    if size == 4:
        return load32(address)
    if size == 8:
        return load64(address)
    return load16(address) if size == 2 else load8(address)


@inlined
def write(address: int, size: int, value: int) -> None:
    """The same, written."""
    if size == 4:
        store32(address, value)
    elif size == 8:
        store64(address, value)
    elif size == 2:
        store16(address, value)
    else:
        store8(address, value)


@inlined
def extended(value: int, size: int, signed: int) -> int:
    """A byte or short as a register holds it."""
    if signed == 0 or size >= 4:
        return value
    sign = _1 << np.uint64(8 * size - 1)
    return ((value ^ sign) - sign) & _LOW


# -- global memory -------------------------------------------------------------------------------------------


@inlined
def _known(s: State, number: int, offset: int, size: int) -> bool:
    """Whether all bytes hold a value."""
    shadow = s.windows[number, st.SHADOW]
    if shadow == 0:
        return True
    for n in range(size):
        if load8(np.uint64(shadow + offset + n)) & np.uint64(st.UNWRITTEN):
            return False
    return True


@inlined
def _may_write(s: State, w: int, lane: int, number: int, offset: int, size: int, address: int, unknown: bool) -> bool:
    """Note what is wrong with a write, and that the bytes hold a value now, or again none."""
    if s.windows[number, st.READ_ONLY]:
        note(s, _SEALED, s.pc[w], w, lane, np.int64(address), 0)
        return False
    shadow = s.windows[number, st.SHADOW]
    if shadow == 0:
        if unknown:
            note(s, _UNKNOWN_STORED, s.pc[w], w, lane, np.int64(address), 0)
        return True
    seen = load8(np.uint64(shadow + offset))
    if seen & np.uint64(st.SEALED):
        note(s, _SEALED, s.pc[w], w, lane, np.int64(address), 0)
    if unknown and not seen & np.uint64(st.LOOSE | st.FREE):
        note(s, _UNKNOWN_STORED, s.pc[w], w, lane, np.int64(address), 0)
    for n in range(size):
        place = np.uint64(shadow + offset + n)
        flags = load8(place)
        store8(place, flags | np.uint64(st.UNWRITTEN) if unknown else flags & ~np.uint64(st.UNWRITTEN))
    return True


@inlined
def stored(s: State, w: int, register: int, lane: int, row: Row) -> int:
    value = np.uint64(s.vector[w, register, lane])
    return value >> np.uint64(row[r.DST_SHIFT]) if row[r.DST_BITS] != 0 else value


@inlined
def data_unknown_lanes(s: State, w: int, row: Row, first: int, dwords: int) -> int:
    """The lanes whose data holds nothing, for all registers of it."""
    unknown = _0
    bits = 16 if row[r.SIZE] < 4 else 0
    for n in range(dwords):
        register = first - r.VGPR + n
        use_vector(s, w, register)
        unknown |= unknown_of(s, w, register, row[r.DST_SHIFT], bits)
    return unknown


@inlined
def _base(s: State, w: int, row: Row) -> tuple[int, int, int]:
    """What is added to each lane's offset, and for a buffer how many bytes it has, and what of those is used up."""
    base, limit, start = _0, _0, _0
    if row[r.BUFFER] != 0:
        low, high = scalar_pair(s, w, row[r.BASE]), scalar_pair(s, w, row[r.BASE] + 2)
        if (low >> np.uint64(48)) & np.uint64(0x3FFF) or low & (_1 << np.uint64(63)) or high & (_1 << np.uint64(55)):
            note(
                s, _REFUSED, s.pc[w], w, 0, np.int64(low >> np.uint64(48)), 0
            )  # a stride, a swizzle, the lane's number
        base, limit = low & _48, high & _LOW
        if row[r.SCALAR_OFFSET] >= 0:
            use_scalar(s, w, row[r.SCALAR_OFFSET])
            start = np.uint64(s.scalar[w, row[r.SCALAR_OFFSET]])
        base += start
    elif row[r.BASE] >= 0:
        base = scalar_pair(s, w, row[r.BASE])
    return base, limit, start


@inlined
def access_global(s: State, w: int, row: Row, active: int) -> None:
    """A load, store or atomic of global memory, through a buffer's descriptor or not."""
    base, limit, start = _base(s, w, row)
    way, size = row[r.WAY], row[r.SIZE]
    dwords = max(1, size // 4)
    inputs = 2 * dwords if way == _COMPARE_SWAP else dwords
    address_unknown = data_unknown = _0
    at = row[r.ADDRESS] - r.VGPR
    for n in range(row[r.ADDRESS_WIDTH]):
        use_vector(s, w, at + n)
        address_unknown |= unknown_of(s, w, at + n, 0, 0)
    if way != _LOAD:
        data_unknown = data_unknown_lanes(s, w, row, row[r.DATA], inputs)
    result = row[r.DST] - r.VGPR
    unknown = _0
    for lane in range(64):
        bit = _1 << np.uint64(lane)
        if not active & bit:
            continue
        if address_unknown & bit:
            note(s, _UNKNOWN_ADDRESS, s.pc[w], w, lane, 0, 0)
        offset = _0
        if row[r.ADDRESS_WIDTH] >= 1:
            offset = np.uint64(s.vector[w, at, lane])
        if row[r.ADDRESS_WIDTH] == 2:
            offset |= np.uint64(s.vector[w, at + 1, lane]) << _32
        offset += np.uint64(row[r.OFFSET0])
        masked = row[r.BUFFER] != 0 and offset + start + np.uint64(size) > limit
        number, real = (-1, 0) if masked else locate(s, base + offset, size)
        if number < 0:
            if not masked:
                kind = _READ_OUTSIDE if way == _LOAD else _WRITE_OUTSIDE
                note(s, kind, s.pc[w], w, lane, np.int64(base + offset), 0)
            if row[r.RETURNS]:
                for n in range(row[r.DST_WIDTH]):
                    fill(s, w, row, result + n, lane, _0)
            continue
        place = np.uint64(s.windows[number, st.REAL] + real)
        if way != _STORE and not _known(s, number, real, size):
            unknown |= bit
        if way == _LOAD:
            _load(s, w, row, lane, place)
        elif not _may_write(s, w, lane, number, real, size, base + offset, data_unknown & bit != 0):
            continue
        elif way == _STORE:
            _store(s, w, row, lane, place)
        else:
            _atomic(s, w, row, lane, place)
    begun = begin_global(s, w)
    if row[r.RETURNS]:
        filled(s, w, row, active, unknown, begun)


@inlined
def fill(s: State, w: int, row: Row, register: int, lane: int, value: int) -> None:
    if row[r.DST_BITS] != 0:
        kept = s.vector[w, register, lane] & np.uint32(0xFFFF << (16 - row[r.DST_SHIFT]))
        value = ((value & np.uint64(0xFFFF)) << np.uint64(row[r.DST_SHIFT])) | np.uint64(kept)
    s.vector[w, register, lane] = np.uint32(value & _LOW)


@inlined
def filled(s: State, w: int, row: Row, active: int, unknown: int, number: int) -> None:
    """Registers will hold what an access returns, when it is done."""
    kept = row[r.DST_BITS] != 0
    for n in range(row[r.DST_WIDTH]):
        register = row[r.DST] - r.VGPR + n
        if (s.vector_pending[w, register] > 0) != (number > 0):  # accesses of one kind return in order
            take_vector(s, w, register)
        for half in range(2):
            if not kept or row[r.DST_SHIFT] == 16 * half:
                before = s.vector_unknown[w, register, half]
                s.vector_unknown[w, register, half] = (before & ~active) | (unknown & active)
        s.vector_pending[w, register] = number


@inlined
def _load(s: State, w: int, row: Row, lane: int, place: int) -> None:
    size, result = row[r.SIZE], row[r.DST] - r.VGPR
    if size < 4:
        fill(s, w, row, result, lane, extended(read(place, size), size, row[r.EXTENDS]))
        return
    for n in range(size // 4):
        s.vector[w, result + n, lane] = np.uint32(load32(place + np.uint64(4 * n)))


@inlined
def _store(s: State, w: int, row: Row, lane: int, place: int) -> None:
    size, data = row[r.SIZE], row[r.DATA] - r.VGPR
    if size < 4:
        write(place, size, stored(s, w, data, lane, row))
        return
    for n in range(size // 4):
        store32(place + np.uint64(4 * n), np.uint64(s.vector[w, data + n, lane]))


@inlined
def wide(s: State, w: int, register: int, lane: int, size: int) -> int:
    value = np.uint64(s.vector[w, register, lane])
    return value | (np.uint64(s.vector[w, register + 1, lane]) << _32) if size == 8 else value


@inlined
def _atomic(s: State, w: int, row: Row, lane: int, place: int) -> None:
    size, data = row[r.SIZE], row[r.DATA] - r.VGPR
    old, operand = read(place, size), wide(s, w, data, lane, size)
    if row[r.WAY] == _COMPARE_SWAP:
        if old == wide(s, w, data + size // 4, lane, size):
            write(place, size, operand)
    else:
        write(place, size, changed(row[r.WAY], size, old, operand))
    if row[r.RETURNS]:
        s.vector[w, row[r.DST] - r.VGPR, lane] = np.uint32(old & _LOW)
        if size == 8:
            s.vector[w, row[r.DST] - r.VGPR + 1, lane] = np.uint32(old >> _32)


@inlined
def load_scalars(s: State, w: int, row: Row) -> None:
    """s_load_dword…: memory to scalar registers; it comes in any order, so only a wait for all of them counts."""
    address = scalar_pair(s, w, row[r.BASE]) + np.uint64(row[r.OFFSET0])
    if row[r.SCALAR_OFFSET] >= 0:
        use_scalar(s, w, row[r.SCALAR_OFFSET])
        address += np.uint64(s.scalar[w, row[r.SCALAR_OFFSET]])
    address &= ~np.uint64(3)
    if s.scalar_unknown[w, row[r.BASE]] | s.scalar_unknown[w, row[r.BASE] + 1]:
        note(s, _UNKNOWN_ADDRESS, s.pc[w], w, -1, np.int64(address), 0)
    s.counters[w, st.LGKM_BEGUN] += 1
    s.counters[w, st.SCALAR_LOADS] = 1
    for n in range(row[r.DST_WIDTH]):
        number, real = locate(s, address + np.uint64(4 * n), 4)
        register = row[r.DST] + n
        use_scalar(s, w, register)
        s.scalar[w, register], s.scalar_unknown[w, register] = 0, 0
        s.scalar_pending[w, register] = -s.counters[w, st.LGKM_BEGUN]
        if number < 0:
            note(s, _READ_OUTSIDE, s.pc[w], w, -1, np.int64(address) + 4 * n, 0)
        else:
            s.scalar[w, register] = np.uint32(load32(np.uint64(s.windows[number, st.REAL] + real)))
            if not _known(s, number, real, 4):
                s.scalar_unknown[w, register] = np.uint32(0xFFFFFFFF)
