"""A launch: workgroups that are resident together, and whose turn it is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gdn_verify.emulator.amdgpu import rows as r
from gdn_verify.emulator.amdgpu import state as st
from gdn_verify.emulator.amdgpu.bits import inlined
from gdn_verify.emulator.amdgpu.compiled import cached
from gdn_verify.emulator.amdgpu.faults import Fault, note
from gdn_verify.emulator.amdgpu.machine import Program, run_wave
from gdn_verify.emulator.amdgpu.state import State

_ENDLESS = int(Fault.ENDLESS)


class Setup(NamedTuple):
    """What every wave begins with."""

    scalars: NDArray[np.uint32]  # user registers
    group_axes: NDArray[np.int64]  # [3], the scalar register of each axis of the workgroup's number, or -1
    grid: NDArray[np.int64]  # [3]
    waves: int  # of a workgroup


@inlined
def _random(seed: NDArray[np.uint64]) -> int:
    x = seed[0]
    x ^= x << np.uint64(13)
    x ^= x >> np.uint64(7)
    x ^= x << np.uint64(17)
    seed[0] = x
    return x


@inlined
def _start(s: State, setup: Setup, g: int, number: int) -> None:
    """Workgroup `number` of the grid becomes resident group `g`."""
    s.interval[g] += 1
    s.shared_unknown[g, :] = 1
    for local in range(setup.waves):
        w = g * setup.waves + local
        s.vector_unknown[w] = np.uint64(0xFFFFFFFFFFFFFFFF)
        s.scalar_unknown[w] = np.uint32(0xFFFFFFFF)
        s.vector_pending[w], s.scalar_pending[w] = 0, 0
        s.counters[w, : st.EXECUTED] = 0
        s.private_unknown[w] = 1
        for n in range(len(setup.scalars)):
            s.scalar[w, n], s.scalar_unknown[w, n] = setup.scalars[n], 0
        rest = number
        for axis in range(3):
            register = setup.group_axes[axis]
            if register >= 0:
                s.scalar[w, register], s.scalar_unknown[w, register] = rest % setup.grid[axis], 0
            rest //= setup.grid[axis]
        s.scalar[w, r.EXEC] = s.scalar[w, r.EXEC + 1] = np.uint32(0xFFFFFFFF)
        s.scalar_unknown[w, r.EXEC] = s.scalar_unknown[w, r.EXEC + 1] = 0
        for lane in range(64):
            s.vector[w, 0, lane] = 64 * local + lane
        s.vector_unknown[w, 0] = 0
        s.pc[w], s.status[w], s.group[w] = 0, st.RUNNING, number


@inlined
def _pass_barrier(s: State, setup: Setup, g: int) -> int:
    """Let waves pass that all wait, those that have ended not counted; gives how many of a group live."""
    waiting, living = 0, 0
    for w in range(g * setup.waves, (g + 1) * setup.waves):
        living += s.status[w] != st.ENDED
        waiting += s.status[w] == st.AT_BARRIER
    if living and waiting == living:
        s.interval[g] += 1
        for w in range(g * setup.waves, (g + 1) * setup.waves):
            if s.status[w] == st.AT_BARRIER:
                s.status[w] = st.RUNNING
    return living


@cached
def run_launch(
    s: State,
    program: Program,
    setup: Setup,
    resident: int,
    order: NDArray[np.int64],
    quantum: int,
    seed: NDArray[np.uint64],
    most: int,
) -> int:
    """All workgroups in `order`, `resident` at once; gives the number of instructions executed.

    With a `seed` of 0 waves take turns of `quantum` instructions; otherwise who is next and for how long is random.
    Stops after `most` instructions with a finding.
    """
    s.counters[:, :] = 0
    following, living, turn = 0, 0, 0
    for g in range(resident):
        _start(s, setup, g, order[following])
        following += 1
        living += 1
    waves = resident * setup.waves
    total, rounds = 0, 0
    while living:
        if seed[0] == 0:
            w, length = turn % waves, quantum
            turn += 1
        else:
            w = np.int64(_random(seed) % np.uint64(waves))
            length = 1 + np.int64(_random(seed) % np.uint64(quantum))
        rounds += 1
        if rounds % 1024 == 0:
            total = s.counters[:, st.EXECUTED].sum()
            if total > most:
                note(s, _ENDLESS, s.pc[w], w, 0, 0, 0)
                break
        if s.status[w] != st.RUNNING:
            continue
        g = w // setup.waves
        run_wave(s, program, w, g, 1 + w % setup.waves, length)
        if s.status[w] != st.RUNNING and _pass_barrier(s, setup, g) == 0:
            if following < len(order):
                _start(s, setup, g, order[following])
                following += 1
            else:
                living -= 1
    return s.counters[:, st.EXECUTED].sum()
