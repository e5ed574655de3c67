"""Memory of one lane (scratch), which compilers spill registers to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gdn_verify.emulator.amdgpu import rows as r
from gdn_verify.emulator.amdgpu.access import Way
from gdn_verify.emulator.amdgpu.bits import inlined
from gdn_verify.emulator.amdgpu.faults import Fault, note
from gdn_verify.emulator.amdgpu.memory import filled
from gdn_verify.emulator.amdgpu.operands import begin_global, unknown_of, use_scalar, use_vector
from gdn_verify.emulator.amdgpu.state import State

Row = NDArray[np.int64]

_LOAD = int(Way.LOAD)
_READ_OUTSIDE, _WRITE_OUTSIDE = int(Fault.READ_OUTSIDE), int(Fault.WRITE_OUTSIDE)
_0, _1 = np.uint64(0), np.uint64(1)


@inlined
def access_private(s: State, w: int, row: Row, active: int) -> None:
    """A load or store of whole registers."""
    loads, at = row[r.WAY] == _LOAD, row[r.ADDRESS] - r.VGPR
    base = row[r.OFFSET0]
    if row[r.SCALAR_OFFSET] >= 0:
        use_scalar(s, w, row[r.SCALAR_OFFSET])
        base += np.int64(s.scalar[w, row[r.SCALAR_OFFSET]])
    if row[r.ADDRESS_WIDTH] != 0:
        use_vector(s, w, at)
    dwords, unknown = row[r.SIZE] // 4, _0
    first = (row[r.DST] if loads else row[r.DATA]) - r.VGPR
    for n in range(dwords):
        lost = _0
        if not loads:
            use_vector(s, w, first + n)
            lost = unknown_of(s, w, first + n, 0, 0)
        for lane in range(64):
            bit = _1 << np.uint64(lane)
            if not active & bit:
                continue
            place = base + 4 * n
            if row[r.ADDRESS_WIDTH] != 0:
                place += np.int64(s.vector[w, at, lane])
            word = place // 4
            if place < 0 or place % 4 or word >= s.private.shape[2]:
                note(s, _READ_OUTSIDE if loads else _WRITE_OUTSIDE, s.pc[w], w, lane, place, 0)
            elif loads:
                s.vector[w, first + n, lane] = s.private[w, lane, word]
                if s.private_unknown[w, lane, word]:
                    unknown |= bit
            else:
                s.private[w, lane, word] = s.vector[w, first + n, lane]
                s.private_unknown[w, lane, word] = lost & bit != 0
    begun = begin_global(s, w)
    if loads:
        filled(s, w, row, active, unknown, begun)
