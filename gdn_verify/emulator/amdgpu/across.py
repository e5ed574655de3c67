"""Instructions of a whole wave: numbers moved between lanes, and products of matrices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gdn_verify.emulator.amdgpu import rows as r
from gdn_verify.emulator.amdgpu.bits import bf16, bits_of_f32, f16, f32, fma32, inlined
from gdn_verify.emulator.amdgpu.matrix import Element
from gdn_verify.emulator.amdgpu.memory import filled
from gdn_verify.emulator.amdgpu.operands import (
    ALL,
    begin_shared,
    fetch,
    fetch_scalar,
    mark_vector,
    take_vector,
    unknown_of,
    use_scalar,
    use_vector,
    write_vector,
)
from gdn_verify.emulator.amdgpu.rows import Lanes
from gdn_verify.emulator.amdgpu.state import State

Row = NDArray[np.int64]

_READ_FIRST, _READ, _WRITE = int(Lanes.READ_FIRST), int(Lanes.READ), int(Lanes.WRITE)
_COUNT_LOW, _COUNT_HIGH = int(Lanes.COUNT_LOW), int(Lanes.COUNT_HIGH)
_SWAP_16, _SWAP_32 = int(Lanes.SWAP_16), int(Lanes.SWAP_32)
_SWIZZLE, _PUSH = int(Lanes.SWIZZLE), int(Lanes.PUSH)
_F32, _F16 = int(Element.F32), int(Element.F16)
_0, _1 = np.uint64(0), np.uint64(1)


@inlined
def move_lanes(s: State, w: int, row: Row, active: int) -> None:
    """What moves numbers between lanes, DPP apart."""
    what = row[r.OP]
    if what == _READ_FIRST or what == _READ:
        _read_lane(s, w, row, active)
    elif what == _WRITE:
        _write_lane(s, w, row)
    elif what == _COUNT_LOW or what == _COUNT_HIGH:
        _count(s, w, row, active)
    elif what == _SWAP_16 or what == _SWAP_32:
        _swap(s, w, row)
    else:
        _pull(s, w, row, active)


@inlined
def _read_lane(s: State, w: int, row: Row, active: int) -> None:
    values = s.lanes[0]
    unknown, upper = fetch(s, w, row, r.A, values)
    unknown |= upper
    lane = 0
    if row[r.OP] == _READ:
        chosen, _ = fetch_scalar(s, w, row, r.B)
        lane = np.int64(chosen & np.uint64(63))
    else:
        while lane < 63 and not (active >> np.uint64(lane)) & _1:
            lane += 1
        if not active:
            lane = 0
    use_scalar(s, w, row[r.DST])
    s.scalar[w, row[r.DST]] = np.uint32(values[lane])
    s.scalar_unknown[w, row[r.DST]] = np.uint32(0xFFFFFFFF) if (unknown >> np.uint64(lane)) & _1 else np.uint32(0)


@inlined
def _write_lane(s: State, w: int, row: Row) -> None:
    value, unknown = fetch_scalar(s, w, row, r.A)
    chosen, _ = fetch_scalar(s, w, row, r.B)
    lane, register = np.int64(chosen & np.uint64(63)), row[r.DST] - r.VGPR
    use_vector(s, w, register)
    s.vector[w, register, lane] = np.uint32(value)
    lost = ALL if unknown else _0
    mark_vector(s, w, row, register, _1 << np.uint64(lane), lost, lost)


@inlined
def _count(s: State, w: int, row: Row, active: int) -> None:
    """How many lanes before each one have their bit set in the mask's lower or upper half, added to a number."""
    mask, add, out = s.lanes[0], s.lanes[1], s.lanes[3]
    lost, upper = fetch(s, w, row, r.A, mask)
    of_add, upper_of_add = fetch(s, w, row, r.B, add)
    unknown = lost | upper | of_add | upper_of_add
    first = 0 if row[r.OP] == _COUNT_LOW else 32
    for n in range(64):
        total = add[n]
        for place in range(min(32, max(0, n - first))):
            total += (mask[n] >> np.uint64(place)) & _1
        out[n] = total
    write_vector(s, w, row, row[r.DST] - r.VGPR, active, out, 0)
    mark_vector(s, w, row, row[r.DST] - r.VGPR, active, unknown, unknown)


@inlined
def _swap(s: State, w: int, row: Row) -> None:
    """Odd rows of the destination against even rows of the source, rows of 16 or 32 lanes; whatever EXEC says."""
    source, target = row[r.A + r.CODE] - r.VGPR, row[r.DST] - r.VGPR
    use_vector(s, w, source)
    use_vector(s, w, target)
    width = 16 if row[r.OP] == _SWAP_16 else 32
    for first in range(0, 64, 2 * width):
        for n in range(first, first + width):
            other = n + width
            s.vector[w, source, n], s.vector[w, target, other] = s.vector[w, target, other], s.vector[w, source, n]
    low = np.uint64(0x0000FFFF0000FFFF) if width == 16 else np.uint64(0x00000000FFFFFFFF)
    shift = np.uint64(width)
    for half in range(2):
        of_source, of_target = s.vector_unknown[w, source, half], s.vector_unknown[w, target, half]
        s.vector_unknown[w, source, half] = (of_source & ~low) | ((of_target >> shift) & low)
        s.vector_unknown[w, target, half] = (of_target & low) | ((of_source & low) << shift)


@inlined
def swizzled(offset: int, lane: int) -> int:
    """The lane that ds_swizzle reads, within each half of the wave."""
    if offset & 0x8000:
        return (lane & ~3) | ((offset >> (2 * (lane & 3))) & 3)
    within = (((lane & 31) & (offset & 31)) | ((offset >> 5) & 31)) ^ ((offset >> 10) & 31)
    return (lane & 32) | within


@inlined
def _pull(s: State, w: int, row: Row, active: int) -> None:
    """ds_swizzle, ds_bpermute and ds_permute: lanes that are not active give 0."""
    data, where, out = s.lanes[0], s.lanes[1], s.lanes[3]
    given, upper = fetch(s, w, row, r.A, data)
    given, unknown, lost = given | upper, _0, _0
    if row[r.OP] != _SWIZZLE:
        lost, upper = fetch(s, w, row, r.B, where)
        lost |= upper
    for n in range(64):
        out[n] = 0
    for n in range(64):
        if row[r.OP] == _SWIZZLE:
            source, target = swizzled(row[r.OFFSET0], n), n
        else:
            other = np.int64(((where[n] + np.uint64(row[r.OFFSET0])) >> np.uint64(2)) & np.uint64(63))
            source, target = (n, other) if row[r.OP] == _PUSH else (other, n)
        if (active >> np.uint64(source)) & _1:
            out[target] = data[source]
            bit = (given >> np.uint64(source)) | (lost >> np.uint64(n))
            unknown |= (bit & _1) << np.uint64(target)
    write_vector(s, w, row, row[r.DST] - r.VGPR, active, out, 0)
    filled(s, w, row, active, unknown, begin_shared(s, w))


# -- matrices ------------------------------------------------------------------------------------------------


@inlined
def _element(s: State, w: int, row: Row, register: int, lane: int, number: int) -> float:
    if row[r.ELEMENT] == _F32:
        return f32(np.uint64(s.vector[w, register + number, lane]))
    bits = np.uint64(s.vector[w, register + number // 2, lane]) >> np.uint64(16 * (number & 1))
    return f16(bits) if row[r.ELEMENT] == _F16 else bf16(bits)


@inlined
def _gather(s: State, w: int, row: Row, column: int, count: int, out: NDArray[np.float32]) -> int:
    """A or B as [count, K] in `out`; a mask of rows that hold nothing somewhere."""
    register, unknown = row[column + r.CODE] - r.VGPR, _0
    for n in range(row[column + r.WIDTH]):
        use_vector(s, w, register + n)
        unknown |= unknown_of(s, w, register + n, 0, 0)
    lost = _0
    for lane in range(64):
        line, first = lane % count, lane // count * row[r.PER_LANE]
        lost |= ((unknown >> np.uint64(lane)) & _1) << np.uint64(line)
        for n in range(row[r.PER_LANE]):
            out[line * row[r.DEPTH] + first + n] = _element(s, w, row, register, lane, n)
    return lost


@inlined
def multiply_matrices(s: State, w: int, row: Row) -> None:
    """D = A B + C; EXEC is not heeded. See `matrix` for the layouts."""
    rows, columns, depth = row[r.ROWS], row[r.COLUMNS], row[r.DEPTH]
    a, b, d = s.matrix[0], s.matrix[1], s.matrix[2]
    of_a, of_b = _gather(s, w, row, r.A, rows, a), _gather(s, w, row, r.B, columns, b)
    source, target = row[r.C + r.CODE] - r.VGPR, row[r.DST] - r.VGPR
    groups, registers = 64 // columns, row[r.DST_WIDTH]
    constant = f32(np.uint64(row[r.C + r.VALUE]))
    for n in range(registers if row[r.C + r.CODE] >= 0 else 0):
        use_vector(s, w, source + n)
    for n in range(registers):
        for lane in range(64):
            i, j = 4 * (lane // columns) + 4 * groups * (n // 4) + n % 4, lane % columns
            total = constant if row[r.C + r.CODE] < 0 else f32(np.uint64(s.vector[w, source + n, lane]))
            for k in range(depth):
                total = fma32(a[i * depth + k], b[j * depth + k], total)
            d[n * 64 + lane] = total
    for n in range(registers):
        lost = unknown_of(s, w, source + n, 0, 0) if row[r.C + r.CODE] >= 0 else _0
        take_vector(s, w, target + n)
        for lane in range(64):
            i, j = 4 * (lane // columns) + 4 * groups * (n // 4) + n % 4, lane % columns
            s.vector[w, target + n, lane] = np.uint32(bits_of_f32(d[n * 64 + lane]))
            lost |= (((of_a >> np.uint64(i)) | (of_b >> np.uint64(j))) & _1) << np.uint64(lane)
        s.vector_unknown[w, target + n, 0] = s.vector_unknown[w, target + n, 1] = lost
