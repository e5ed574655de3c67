"""What the machine finds, and how it notes it: one line a kind and an instruction, with a count."""

from __future__ import annotations

from enum import IntEnum

from gdn_verify.emulator.amdgpu import state as st
from gdn_verify.emulator.amdgpu.bits import inlined
from gdn_verify.emulator.amdgpu.state import State


class Fault(IntEnum):
    """What is wrong."""

    READ_OUTSIDE = 0
    WRITE_OUTSIDE = 1
    SEALED = 2
    UNKNOWN_ADDRESS = 3
    UNKNOWN_STORED = 4
    UNKNOWN_BRANCH = 5
    SHARED_OUTSIDE = 6
    SHARED_READ_AFTER_WRITE = 7
    SHARED_WRITE_AFTER_READ = 8
    SHARED_WRITE_AFTER_WRITE = 9
    NOT_WAITED = 10
    OVERWRITTEN = 11
    BARRIER_NOT_WAITED = 12
    ENDLESS = 13
    REFUSED = 14


WORDS = {
    Fault.READ_OUTSIDE: "read out of bounds",
    Fault.WRITE_OUTSIDE: "write out of bounds",
    Fault.SEALED: "write to memory that is not to change",
    Fault.UNKNOWN_ADDRESS: "an address that was never computed",
    Fault.UNKNOWN_STORED: "a store of a value that was never computed",
    Fault.UNKNOWN_BRANCH: "a branch on a value that was never computed",
    Fault.SHARED_OUTSIDE: "shared memory out of bounds",
    Fault.SHARED_READ_AFTER_WRITE: "race in shared memory, read after write",
    Fault.SHARED_WRITE_AFTER_READ: "race in shared memory, write after read",
    Fault.SHARED_WRITE_AFTER_WRITE: "race in shared memory, write after write",
    Fault.NOT_WAITED: "a register used before what fills it was waited for",
    Fault.OVERWRITTEN: "a register overwritten before what fills it was waited for",
    Fault.BARRIER_NOT_WAITED: "a barrier before accesses of shared memory were waited for",
    Fault.ENDLESS: "more instructions than allowed",
    Fault.REFUSED: "what is not modelled",
}


@inlined
def note(s: State, kind: int, row: int, wave: int, lane: int, address: int, other: int) -> None:
    """Enter a finding, or count it."""
    count = s.found[0]
    for n in range(count):
        if s.findings[n, st.KIND] == kind and s.findings[n, st.ROW] == row:
            s.findings[n, st.LANES] += 1
            return
    if count == st.FINDINGS:
        return
    s.findings[count, st.KIND], s.findings[count, st.ROW] = kind, row
    s.findings[count, st.WAVE], s.findings[count, st.GROUP] = wave, s.group[wave]
    s.findings[count, st.LANE], s.findings[count, st.ADDRESS] = lane, address
    s.findings[count, st.LANES], s.findings[count, st.OTHER] = 1, other
    s.found[0] = count + 1
