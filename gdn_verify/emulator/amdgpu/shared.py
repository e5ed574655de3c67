"""Shared memory of a workgroup (LDS): its bytes, whether they hold a value, and which waves touched them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gdn_verify.emulator.amdgpu import rows as r
from gdn_verify.emulator.amdgpu import state as st
from gdn_verify.emulator.amdgpu.access import Way
from gdn_verify.emulator.amdgpu.arithmetic import changed
from gdn_verify.emulator.amdgpu.bits import inlined
from gdn_verify.emulator.amdgpu.faults import Fault, note
from gdn_verify.emulator.amdgpu.memory import data_unknown_lanes, extended, fill, filled, stored, wide
from gdn_verify.emulator.amdgpu.operands import begin_shared, unknown_of, use_vector
from gdn_verify.emulator.amdgpu.state import State

Row = NDArray[np.int64]

_LOAD, _STORE = int(Way.LOAD), int(Way.STORE)
_OUTSIDE, _UNKNOWN_ADDRESS = int(Fault.SHARED_OUTSIDE), int(Fault.UNKNOWN_ADDRESS)
_READ_AFTER_WRITE, _WRITE_AFTER_READ = int(Fault.SHARED_READ_AFTER_WRITE), int(Fault.SHARED_WRITE_AFTER_READ)
_WRITE_AFTER_WRITE = int(Fault.SHARED_WRITE_AFTER_WRITE)

MANY = 255
"""In place of a wave: several."""
_0, _1, _8, _32 = np.uint64(0), np.uint64(1), np.uint64(8), np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)


@inlined
def _get(s: State, g: int, place: int, size: int) -> int:
    value = _0
    for n in range(size):
        value |= np.uint64(s.shared[g, place + n]) << (_8 * np.uint64(n))
    return value


@inlined
def _put(s: State, w: int, g: int, me: int, lane: int, place: int, size: int, value: int, unknown: bool) -> None:
    """Write, and note it. Two waves may write one value to one place: compilers replicate small tiles."""
    now = s.interval[g]
    for n in range(size):
        at, byte = place + n, np.uint8((value >> (_8 * np.uint64(n))) & np.uint64(255))
        writer, reader = s.shared_writer[g, at], s.shared_reader[g, at]
        if writer >> 8 == now and writer & 255 != me and s.shared[g, at] != byte:
            note(s, _WRITE_AFTER_WRITE, s.pc[w], w, lane, at, writer & 255)
        if reader >> 8 == now and reader & 255 != me:
            note(s, _WRITE_AFTER_READ, s.pc[w], w, lane, at, reader & 255)
        s.shared[g, at] = byte
        s.shared_writer[g, at] = (now << 8) | me
        s.shared_unknown[g, at] = unknown


@inlined
def _mark_read(s: State, w: int, g: int, me: int, lane: int, place: int, size: int) -> bool:
    """Note a read; whether some byte holds nothing."""
    now, unknown = s.interval[g], False
    for n in range(place, place + size):
        unknown |= s.shared_unknown[g, n] != 0
        writer = s.shared_writer[g, n]
        if writer >> 8 == now and writer & 255 != me:
            note(s, _READ_AFTER_WRITE, s.pc[w], w, lane, n, writer & 255)
        reader = s.shared_reader[g, n]
        again = reader >> 8 == now and reader & 255 != me
        s.shared_reader[g, n] = (now << 8) | (MANY if again else me)
    return unknown


@inlined
def access_shared(s: State, w: int, g: int, me: int, row: Row, active: int) -> None:
    """A load, store or atomic of wave `w`, which is number `me` - 1 of resident group `g`."""
    at = row[r.ADDRESS] - r.VGPR
    use_vector(s, w, at)
    address_unknown, unknown = unknown_of(s, w, at, 0, 0), _0
    if address_unknown & active:
        note(s, _UNKNOWN_ADDRESS, s.pc[w], w, -1, 0, 0)
    dwords = max(1, row[r.SIZE] // 4)
    for place in range(row[r.PLACES]):
        lost = _0
        first = row[r.DATA] if place == 0 else row[r.DATA1]
        if row[r.WAY] != _LOAD:
            lost = data_unknown_lanes(s, w, row, first, dwords)
        offset = row[r.OFFSET0] if place == 0 else row[r.OFFSET1]
        for lane in range(64):
            bit = _1 << np.uint64(lane)
            if active & bit:
                result = row[r.DST] - r.VGPR + place * dwords
                # Both places of a load are read before either is written to a register that holds the address.
                address = np.int64(s.vector[w, at, lane]) if place == 0 else np.int64(s.lanes[0, lane])
                s.lanes[0, lane] = np.uint64(address)
                if _one(s, w, g, me, row, lane, address + offset, result, first - r.VGPR, lost & bit != 0):
                    unknown |= bit
    begun = begin_shared(s, w)
    s.counters[w, st.LAST_SHARED] = -begun
    if row[r.RETURNS]:
        filled(s, w, row, active, unknown, begun)


@inlined
def _one(
    s: State, w: int, g: int, me: int, row: Row, lane: int, place: int, result: int, data: int, lost: bool
) -> bool:
    """One lane at one place; whether what it loads holds nothing."""
    size, way, unknown = row[r.SIZE], row[r.WAY], False
    if place < 0 or place + size > s.shared.shape[1]:
        note(s, _OUTSIDE, s.pc[w], w, lane, place, 0)
        if row[r.RETURNS]:
            for n in range(max(1, size // 4)):
                fill(s, w, row, result + n, lane, _0)
        return False
    if way != _STORE:
        unknown = _mark_read(s, w, g, me, lane, place, size)
    if way == _LOAD:
        if size < 4:
            fill(s, w, row, result, lane, extended(_get(s, g, place, size), size, row[r.EXTENDS]))
        for n in range(size // 4):
            s.vector[w, result + n, lane] = np.uint32(_get(s, g, place + 4 * n, 4))
        return unknown
    if way == _STORE:
        if size < 4:
            _put(s, w, g, me, lane, place, size, stored(s, w, data, lane, row), lost)
        for n in range(size // 4):
            _put(s, w, g, me, lane, place + 4 * n, 4, np.uint64(s.vector[w, data + n, lane]), lost)
        return False
    old = _get(s, g, place, size)
    _put(s, w, g, me, lane, place, size, changed(way, size, old, wide(s, w, data, lane, size)), lost)
    if row[r.RETURNS]:
        s.vector[w, result, lane] = np.uint32(old & _LOW)
        if size == 8:
            s.vector[w, result + 1, lane] = np.uint32(old >> _32)
    return unknown
