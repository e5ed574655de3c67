"""Registers read as 64 lanes and written back: fields of them, signs, lanes' exchange, what is known and waited for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gdn_verify.emulator.amdgpu import rows as r
from gdn_verify.emulator.amdgpu import state as st
from gdn_verify.emulator.amdgpu.bits import bits_of_f32, f16, inlined
from gdn_verify.emulator.amdgpu.faults import Fault, note
from gdn_verify.emulator.amdgpu.state import State

Row = NDArray[np.int64]
Values = NDArray[np.uint64]

ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_NONE = np.uint64(0)
_1, _32 = np.uint64(1), np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)

_NOT_WAITED, _OVERWRITTEN = int(Fault.NOT_WAITED), int(Fault.OVERWRITTEN)


@inlined
def waited(s: State, w: int, pending: int) -> bool:
    """Whether an access by its number is known to be done."""
    if pending > 0:
        return pending <= s.counters[w, st.VM_DONE]
    return -pending <= s.counters[w, st.LGKM_DONE]


@inlined
def begin_global(s: State, w: int) -> int:
    """Count an access of global memory; gives its number. The counter has 6 bits: beyond 63 under way a wave stalls."""
    s.counters[w, st.VM_BEGUN] += 1
    s.counters[w, st.VM_DONE] = max(s.counters[w, st.VM_DONE], s.counters[w, st.VM_BEGUN] - 63)
    return s.counters[w, st.VM_BEGUN]


@inlined
def begin_shared(s: State, w: int) -> int:
    """The same for shared memory, whose counter has 4 bits; gives the number, below 0."""
    s.counters[w, st.LGKM_BEGUN] += 1
    if s.counters[w, st.SCALAR_LOADS] == 0:
        s.counters[w, st.LGKM_DONE] = max(s.counters[w, st.LGKM_DONE], s.counters[w, st.LGKM_BEGUN] - 15)
    return -s.counters[w, st.LGKM_BEGUN]


@inlined
def use_vector(s: State, w: int, register: int) -> None:
    """A vector register is read."""
    pending = s.vector_pending[w, register]
    if pending != 0:
        if not waited(s, w, pending):
            note(s, _NOT_WAITED, s.pc[w], w, register, 0, 0)
        s.vector_pending[w, register] = 0


@inlined
def take_vector(s: State, w: int, register: int) -> None:
    """A vector register is written."""
    pending = s.vector_pending[w, register]
    if pending != 0:
        if not waited(s, w, pending):
            note(s, _OVERWRITTEN, s.pc[w], w, register, 0, 0)
        s.vector_pending[w, register] = 0


@inlined
def use_scalar(s: State, w: int, register: int) -> None:
    """A scalar register is read or written."""
    pending = s.scalar_pending[w, register]
    if pending != 0:
        if not waited(s, w, pending):
            note(s, _NOT_WAITED, s.pc[w], w, register, 1, 0)
        s.scalar_pending[w, register] = 0


@inlined
def scalar_pair(s: State, w: int, register: int) -> int:
    """64 bits of two scalar registers."""
    use_scalar(s, w, register)
    use_scalar(s, w, register + 1)
    return np.uint64(s.scalar[w, register]) | (np.uint64(s.scalar[w, register + 1]) << _32)


@inlined
def set_scalar_pair(s: State, w: int, register: int, bits: int, unknown: int) -> None:
    """Write two scalar registers, and which of their bits hold nothing."""
    s.scalar[w, register], s.scalar[w, register + 1] = np.uint32(bits & _LOW), np.uint32(bits >> _32)
    s.scalar_unknown[w, register] = np.uint32(unknown & _LOW)
    s.scalar_unknown[w, register + 1] = np.uint32(unknown >> _32)
    s.scalar_pending[w, register] = s.scalar_pending[w, register + 1] = 0


@inlined
def unknown_pair(s: State, w: int, register: int) -> int:
    """Which of 64 bits hold nothing."""
    return np.uint64(s.scalar_unknown[w, register]) | (np.uint64(s.scalar_unknown[w, register + 1]) << _32)


@inlined
def _scalar_operand(s: State, w: int, row: Row, at: int) -> int:
    code = row[at + r.CODE]
    if code < 0:
        return np.uint64(row[at + r.VALUE])
    use_scalar(s, w, code)
    value = np.uint64(s.scalar[w, code])
    if row[at + r.WIDTH] == 2:
        high = code + row[at + r.HIGH]
        use_scalar(s, w, high)
        value |= np.uint64(s.scalar[w, high]) << _32
    return value


@inlined
def _scalar_unknown(s: State, w: int, row: Row, at: int) -> int:
    code = row[at + r.CODE]
    if code < 0:
        return _NONE
    unknown = np.uint64(s.scalar_unknown[w, code])
    if row[at + r.WIDTH] == 2:
        unknown |= np.uint64(s.scalar_unknown[w, code + row[at + r.HIGH]]) << _32
    return unknown


@inlined
def modified(value: int, row: Row, at: int) -> int:
    """A field of a number, extended; |x|; -x."""
    bits = row[at + r.BITS]
    if bits != 0:
        value = (value >> np.uint64(row[at + r.SHIFT])) & ((_1 << np.uint64(bits)) - _1)
        if row[at + r.SIGNED] != 0:
            sign = _1 << np.uint64(bits - 1)
            value = ((value ^ sign) - sign) & _LOW
        if row[at + r.HALF] != 0:
            value = bits_of_f32(f16(value))
    return (value & np.uint64(row[at + r.AND])) ^ np.uint64(row[at + r.XOR])


@inlined
def unknown_of(s: State, w: int, register: int, shift: int, bits: int) -> int:
    """The lanes of a vector register, or of a half of it, that hold nothing."""
    low, high = s.vector_unknown[w, register, 0], s.vector_unknown[w, register, 1]
    if bits != 0 and shift + bits <= 16:
        return low
    return high if shift >= 16 else low | high


@inlined
def fetch(s: State, w: int, row: Row, at: int, out: Values) -> tuple[int, int]:
    """An operand in all lanes; gives the lanes whose lower and whose upper half hold nothing, as masks."""
    code = row[at + r.CODE]
    if code < r.VGPR:
        value = modified(_scalar_operand(s, w, row, at), row, at)
        for n in range(64):
            out[n] = value
        lost = _scalar_unknown(s, w, row, at)
        if row[at + r.WIDTH] == 2:
            return ALL if lost & _LOW else _NONE, ALL if lost >> _32 else _NONE
        lost = ALL if lost != 0 else _NONE
        return lost, lost
    low = code - r.VGPR
    use_vector(s, w, low)
    unknown = unknown_of(s, w, low, row[at + r.SHIFT], row[at + r.BITS])
    upper_unknown = unknown
    if row[at + r.WIDTH] == 1 and row[at + r.BITS] == 0:
        unknown, upper_unknown = s.vector_unknown[w, low, 0], s.vector_unknown[w, low, 1]
    source = s.vector[w, low]
    if row[at + r.WIDTH] == 2:
        high = low + row[at + r.HIGH]
        use_vector(s, w, high)
        upper_unknown = unknown_of(s, w, high, 0, 0)
        upper = s.vector[w, high]
        for n in range(64):
            out[n] = np.uint64(source[n]) | (np.uint64(upper[n]) << _32)
    else:
        for n in range(64):
            out[n] = np.uint64(source[n])
    if row[at + r.BITS] != 0 or row[at + r.AND] != -1 or row[at + r.XOR] != 0:
        for n in range(64):
            out[n] = modified(out[n], row, at)
    return unknown, upper_unknown


@inlined
def fetch_scalar(s: State, w: int, row: Row, at: int) -> tuple[int, int]:
    """An operand of a scalar instruction, and which of its bits hold nothing."""
    return modified(_scalar_operand(s, w, row, at), row, at), _scalar_unknown(s, w, row, at)


@inlined
def dpp_source(ctrl: int, lane: int) -> int:
    """The lane that a lane reads from, -1 where there is none."""
    within, first = lane & 15, lane & ~15
    if ctrl < 0x100:
        return (lane & ~3) | ((ctrl >> (2 * (lane & 3))) & 3)
    step = ctrl & 15
    if ctrl < 0x110:
        return lane + step if within + step < 16 else -1
    if ctrl < 0x120:
        return lane - step if within >= step else -1
    if ctrl < 0x130:
        return first | ((within - step) & 15)
    if ctrl == 0x140:
        return first | (15 - within)
    if ctrl == 0x141:
        return (lane & ~7) | (7 - (lane & 7))
    if ctrl == 0x142:
        return first - 1
    if ctrl == 0x143:
        return 31 if lane >= 32 else -1
    return first | step  # 0x150 and above: one lane of each row


@inlined
def exchange(row: Row, active: int, values: Values, spare: Values, low: int, high: int) -> tuple[int, int, int]:
    """Move the first operand between lanes, as DPP says; gives the lanes that are written, and what holds nothing.

    A lane whose source is not there, or not active, reads 0 with `bound_ctrl`, and is not written without.
    """
    enabled = result = upper = _NONE
    for n in range(64):
        spare[n] = values[n]
    for n in range(64):
        in_row, in_bank = (row[r.ROW_MASK] >> (n >> 4)) & 1, (row[r.BANK_MASK] >> ((n >> 2) & 3)) & 1
        if not (in_row and in_bank):
            continue
        source = dpp_source(row[r.DPP], n)
        if source >= 0 and (active >> np.uint64(source)) & _1:
            values[n] = spare[source]
            enabled |= _1 << np.uint64(n)
            result |= ((low >> np.uint64(source)) & _1) << np.uint64(n)
            upper |= ((high >> np.uint64(source)) & _1) << np.uint64(n)
        elif row[r.BOUND] != 0:
            values[n] = 0
            enabled |= _1 << np.uint64(n)
    return enabled, result, upper


@inlined
def write_vector(s: State, w: int, row: Row, register: int, active: int, values: Values, shift: int) -> None:
    """Write 32 bits of each active lane's value, from bit `shift` on; or a part of the register."""
    target = s.vector[w, register]
    bits = row[r.DST_BITS]
    if bits != 0:
        mask = ((_1 << np.uint64(bits)) - _1) << np.uint64(row[r.DST_SHIFT])
        kept = np.uint64(0xFFFFFFFF) & ~mask if row[r.DST_KEEPS] != 0 else _NONE
        for n in range(64):
            if (active >> np.uint64(n)) & _1:
                value = (values[n] << np.uint64(row[r.DST_SHIFT])) & mask
                target[n] = np.uint32((np.uint64(target[n]) & kept) | value)
    elif active == ALL:
        for n in range(64):
            target[n] = np.uint32(values[n] >> np.uint64(shift))
    else:
        for n in range(64):
            if (active >> np.uint64(n)) & _1:
                target[n] = np.uint32(values[n] >> np.uint64(shift))


@inlined
def mark_vector(s: State, w: int, row: Row, register: int, active: int, low: int, high: int) -> None:
    """Which lanes of the halves of a register that was written hold nothing."""
    take_vector(s, w, register)
    kept = row[r.DST_BITS] != 0 and row[r.DST_KEEPS] != 0
    for half in range(2):
        if not kept or row[r.DST_SHIFT] == 16 * half:
            before = s.vector_unknown[w, register, half]
            unknown = low | high if kept else low if half == 0 else high
            s.vector_unknown[w, register, half] = (before & ~active) | (unknown & active)
