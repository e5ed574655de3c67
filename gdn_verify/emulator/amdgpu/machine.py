"""Waves executed: one row after another, each by the part of the machine that its kind names."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gdn_verify.emulator.amdgpu import rows as r
from gdn_verify.emulator.amdgpu import state as st
from gdn_verify.emulator.amdgpu.across import move_lanes, multiply_matrices
from gdn_verify.emulator.amdgpu.bits import inlined, spliced
from gdn_verify.emulator.amdgpu.dispatch import scalar_function, vector_function
from gdn_verify.emulator.amdgpu.faults import Fault, note
from gdn_verify.emulator.amdgpu.memory import access_global, load_scalars
from gdn_verify.emulator.amdgpu.operands import (
    begin_global,
    exchange,
    fetch,
    fetch_scalar,
    mark_vector,
    scalar_pair,
    set_scalar_pair,
    unknown_pair,
    use_scalar,
    write_vector,
)
from gdn_verify.emulator.amdgpu.private import access_private
from gdn_verify.emulator.amdgpu.rows import Bits, Condition, Kind
from gdn_verify.emulator.amdgpu.shared import access_shared
from gdn_verify.emulator.amdgpu.spread import spread
from gdn_verify.emulator.amdgpu.state import State

Row = NDArray[np.int64]
Program = NDArray[np.int64]

_VECTOR, _SCALAR, _SAVE_EXEC, _BRANCH = int(Kind.VECTOR), int(Kind.SCALAR), int(Kind.SAVE_EXEC), int(Kind.BRANCH)
_END, _BARRIER, _WAIT, _SCALAR_LOAD = int(Kind.END), int(Kind.BARRIER), int(Kind.WAIT), int(Kind.SCALAR_LOAD)
_MEMORY, _SHARED, _LANES, _MATRIX = int(Kind.MEMORY), int(Kind.SHARED), int(Kind.LANES), int(Kind.MATRIX)
_CACHE, _PRIVATE = int(Kind.CACHE), int(Kind.PRIVATE)
_SCC0, _SCC1, _VCCZ, _VCCNZ = (int(c) for c in (Condition.SCC0, Condition.SCC1, Condition.VCCZ, Condition.VCCNZ))
_AND, _SAME, _SAME_AND_LOWER = int(Bits.AND), int(Bits.SAME), int(Bits.SAME_AND_LOWER)
_LEFT, _RIGHT = int(Bits.LEFT), int(Bits.RIGHT)
_EXECZ, _EXECNZ = int(Condition.EXECZ), int(Condition.EXECNZ)
_UNKNOWN_BRANCH, _NOT_WAITED_AT_BARRIER = int(Fault.UNKNOWN_BRANCH), int(Fault.BARRIER_NOT_WAITED)

_0, _1, _32 = np.uint64(0), np.uint64(1), np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)

_vector = vector_function()
_scalar = scalar_function()


@spliced
def run_wave(s: State, program: Program, w: int, g: int, me: int, quantum: int) -> None:
    """At most `quantum` instructions of wave `w`, which is number `me` - 1 of resident group `g`."""
    for _ in range(quantum):
        if s.status[w] != st.RUNNING:
            return
        row = program[s.pc[w]]
        s.counters[w, st.EXECUTED] += 1
        _execute(s, w, g, me, row)
        s.pc[w] += 1


@spliced
def _execute(s: State, w: int, g: int, me: int, row: Row) -> None:
    kind = row[r.KIND]
    if kind == _VECTOR:
        _compute_lanes(s, w, row, scalar_pair(s, w, r.EXEC))
    elif kind == _SCALAR:
        _compute(s, w, row)
    elif kind == _MEMORY:
        access_global(s, w, row, scalar_pair(s, w, r.EXEC))
    elif kind == _SHARED:
        access_shared(s, w, g, me, row, scalar_pair(s, w, r.EXEC))
    elif kind == _LANES:
        move_lanes(s, w, row, scalar_pair(s, w, r.EXEC))
    elif kind == _WAIT:
        _wait(s, w, row)
    elif kind == _BRANCH:
        _branch(s, w, row)
    elif kind == _SAVE_EXEC:
        _save_exec(s, w, row)
    elif kind == _SCALAR_LOAD:
        load_scalars(s, w, row)
    elif kind == _MATRIX:
        multiply_matrices(s, w, row)
    elif kind == _BARRIER:
        if s.counters[w, st.LAST_SHARED] > s.counters[w, st.LGKM_DONE]:
            note(s, _NOT_WAITED_AT_BARRIER, s.pc[w], w, 0, 0, 0)
        s.status[w] = st.AT_BARRIER
    elif kind == _END:
        s.status[w] = st.ENDED
    elif kind == _PRIVATE:
        access_private(s, w, row, scalar_pair(s, w, r.EXEC))
    elif kind == _CACHE:
        begin_global(s, w)


@inlined
def _expand(bits: int, out: NDArray[np.bool_]) -> None:
    for n in range(64):
        out[n] = (bits >> np.uint64(n)) & _1


@spliced
def _compute_lanes(s: State, w: int, row: Row, active: int) -> None:
    a, b, c, out = s.lanes[0], s.lanes[1], s.lanes[2], s.lanes[3]
    mask, flag = s.bits[0], s.bits[1]
    enabled = active
    low_a, high_a = fetch(s, w, row, r.A, a)
    if row[r.DPP] >= 0:
        lanes, low_a, high_a = exchange(row, active, a, out, low_a, high_a)
        enabled &= lanes
    low_b = high_b = low_c = high_c = lost_mask = chosen = _0
    if row[r.B + r.WIDTH] != 0:
        low_b, high_b = fetch(s, w, row, r.B, b)
    if row[r.C + r.WIDTH] != 0:
        low_c, high_c = fetch(s, w, row, r.C, c)
    if row[r.MASK_IN] >= 0:
        chosen, lost_mask = scalar_pair(s, w, row[r.MASK_IN]), unknown_pair(s, w, row[r.MASK_IN])
        _expand(chosen, mask)
    low, high = spread(row, a[0], c[0], (low_a, low_b, low_c), (high_a, high_b, high_c))
    if row[r.SELECTS] != 0:
        low, high = (low_b & chosen) | (low_a & ~chosen), (high_b & chosen) | (high_a & ~chosen)
    low, high = low | lost_mask, high | lost_mask
    _vector(row[r.OP], a, b, c, mask, row[r.TABLE], out, flag)
    if row[r.CLAMP] != 0:
        for n in range(64):
            out[n] = np.uint64(min(max(np.int64(out[n]), np.int64(0)), np.int64(0xFFFFFFFF)))
    if row[r.DST] >= 0:
        register = row[r.DST] - r.VGPR
        write_vector(s, w, row, register, enabled, out, 0)
        if row[r.DST_WIDTH] == 2:
            write_vector(s, w, row, register + 1, enabled, out, 32)
            mark_vector(s, w, row, register, enabled, low, low)
            mark_vector(s, w, row, register + 1, enabled, high, high)
        else:
            mark_vector(s, w, row, register, enabled, low, high)
    if row[r.MASK_OUT] >= 0:
        bits = _0
        for n in range(64):
            bits |= np.uint64(flag[n]) << np.uint64(n)
        set_scalar_pair(s, w, row[r.MASK_OUT], bits & enabled, (low | high) & enabled)


@spliced
def _compute(s: State, w: int, row: Row) -> None:
    a, b = _0, _0
    lost_a, lost_b, lost_scc = _0, _0, _0
    if row[r.A + r.WIDTH] != 0:
        a, lost_a = fetch_scalar(s, w, row, r.A)
    if row[r.B + r.WIDTH] != 0:
        b, lost_b = fetch_scalar(s, w, row, r.B)
    scc = s.scalar[w, st.SCC] != 0
    if row[r.MASK_IN] > 0 and s.scalar_unknown[w, st.SCC] != 0:
        lost_scc = _ALL
    result, flag = _scalar(row[r.OP], a, b, scc)
    unknown = _lost_bits(row, a, b, lost_a, lost_b) | lost_scc
    if row[r.MASK_OUT] > 0:
        s.scalar[w, st.SCC] = flag
        s.scalar_unknown[w, st.SCC] = np.uint32(1) if unknown else np.uint32(0)
    if row[r.DST] < 0:
        return
    if row[r.DST_WIDTH] == 2:
        set_scalar_pair(s, w, row[r.DST], result, unknown)
    else:
        use_scalar(s, w, row[r.DST])
        s.scalar[w, row[r.DST]] = np.uint32(result & _LOW)
        s.scalar_unknown[w, row[r.DST]] = np.uint32(unknown & _LOW)
    if row[r.DST] == r.EXEC or row[r.DST] == r.EXEC + 1:
        _check_exec(s, w)


@inlined
def _lost_bits(row: Row, a: int, b: int, lost_a: int, lost_b: int) -> int:
    """Which bits of a scalar result hold nothing."""
    kind, lost = row[r.BITWISE], lost_a | lost_b
    if lost == 0 or kind == _SAME:
        return lost
    if kind == _AND:  # a zero makes a zero of anything
        return lost & (lost_a | a) & (lost_b | b)
    if kind == _SAME_AND_LOWER:
        return lost | (_0 - lost)  # the lowest of them, and all above
    if lost_b == 0 and (kind == _LEFT or kind == _RIGHT):
        amount = b & np.uint64(63 if row[r.DST_WIDTH] == 2 else 31)
        return lost_a << amount if kind == _LEFT else lost_a >> amount
    return _ALL


@inlined
def _check_exec(s: State, w: int) -> None:
    """Lanes that are active or not by chance: found once, and then as they are."""
    if s.scalar_unknown[w, r.EXEC] | s.scalar_unknown[w, r.EXEC + 1]:
        note(s, _UNKNOWN_BRANCH, s.pc[w], w, -1, 0, 0)
        s.scalar_unknown[w, r.EXEC] = s.scalar_unknown[w, r.EXEC + 1] = 0


@spliced
def _save_exec(s: State, w: int, row: Row) -> None:
    before = scalar_pair(s, w, r.EXEC)
    a, lost = fetch_scalar(s, w, row, r.A)
    result, flag = _scalar(row[r.OP], a, before, False)
    set_scalar_pair(s, w, row[r.DST], before, _0)
    set_scalar_pair(s, w, r.EXEC, result, lost & before)
    s.scalar[w, st.SCC] = flag
    s.scalar_unknown[w, st.SCC] = 0
    _check_exec(s, w)


@spliced
def _wait(s: State, w: int, row: Row) -> None:
    """Accesses of one kind return in order, scalar loads in any."""
    begun = s.counters[w, st.VM_BEGUN]
    if row[r.VMCNT] < 63:
        s.counters[w, st.VM_DONE] = max(s.counters[w, st.VM_DONE], begun - row[r.VMCNT])
    begun = s.counters[w, st.LGKM_BEGUN]
    if row[r.LGKMCNT] == 0:
        s.counters[w, st.LGKM_DONE], s.counters[w, st.SCALAR_LOADS] = begun, 0
    elif row[r.LGKMCNT] < 15 and s.counters[w, st.SCALAR_LOADS] == 0:
        s.counters[w, st.LGKM_DONE] = max(s.counters[w, st.LGKM_DONE], begun - row[r.LGKMCNT])


@spliced
def _branch(s: State, w: int, row: Row) -> None:
    condition = row[r.OP]
    unknown = False
    if condition == _SCC0 or condition == _SCC1:
        taken = (s.scalar[w, st.SCC] != 0) == (condition == _SCC1)
        unknown = s.scalar_unknown[w, st.SCC] != 0
    elif condition == _VCCZ or condition == _VCCNZ:
        taken = (scalar_pair(s, w, r.VCC) != 0) == (condition == _VCCNZ)
        unknown = unknown_pair(s, w, r.VCC) != 0
    elif condition == _EXECZ or condition == _EXECNZ:
        taken = (scalar_pair(s, w, r.EXEC) != 0) == (condition == _EXECNZ)
    else:
        taken = True
    if unknown:
        note(s, _UNKNOWN_BRANCH, s.pc[w], w, -1, 0, 0)
    if taken:
        s.pc[w] = row[r.TARGET] - 1
