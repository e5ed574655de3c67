"""All that a launch's resident waves have: arrays, which compiled code reads and writes.

W waves, G groups of them resident at once. Of each lane of a vector register and each bit of a scalar one it is known
whether it holds a value (`*_unknown`), and of each register which outstanding access will fill it (`*_pending`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

VECTORS = 512
"""Vector and accumulation registers of a wave."""
SCALARS = 129
"""Scalar registers, and SCC in the last place."""
SCC = 128

# Columns of `counters`: accesses of global memory, and of shared memory and scalar loads, begun and known to be done;
# whether scalar loads are under way, the number of the last access of shared memory, instructions executed.
VM_BEGUN, VM_DONE, LGKM_BEGUN, LGKM_DONE, SCALAR_LOADS, LAST_SHARED, EXECUTED = range(7)

RUNNING, AT_BARRIER, ENDED, STOPPED = range(4)
"""A wave's status."""

# Columns of `windows`: addresses [BASE + LOW, BASE + HIGH) are looked up; REAL and SHADOW are where BASE is in memory
# and in the bytes that tell what is known of it (0: nothing is); LEVELS are described in `emulator.windows`.
BASE, REAL, SHADOW, RUN, LEVELS, READ_ONLY = range(6)
LEVEL = 6
MOST_LEVELS = 6
WINDOW_COLUMNS = LEVEL + 3 * MOST_LEVELS
WINDOW = 40
"""Bits of an address below its window's number: a descriptor of a buffer has room for 48 in all."""

UNWRITTEN, SEALED, LOOSE, FREE = 1, 2, 4, 8
"""What a shadow's byte says of a byte of memory."""

FINDINGS = 512
KIND, ROW, WAVE, GROUP, LANE, ADDRESS, LANES, OTHER = range(8)
"""Columns of `findings`."""


class State(NamedTuple):
    """See the module."""

    vector: NDArray[np.uint32]  # [W, VECTORS, 64]
    scalar: NDArray[np.uint32]  # [W, SCALARS]
    vector_unknown: NDArray[np.uint64]  # [W, VECTORS, 2], a bit a lane, for the lower and the upper half
    scalar_unknown: NDArray[np.uint32]  # [W, SCALARS], bit by bit
    vector_pending: NDArray[np.int64]  # [W, VECTORS]; above 0 a global access's number, below a shared one's
    scalar_pending: NDArray[np.int64]  # [W, SCALARS]
    pc: NDArray[np.int64]  # [W], a row
    status: NDArray[np.int64]  # [W]
    counters: NDArray[np.int64]  # [W, 7]
    group: NDArray[np.int64]  # [W], the workgroup's number in the grid
    private: NDArray[np.uint32]  # [W, 64, words]
    private_unknown: NDArray[np.uint8]  # [W, 64, words]
    shared: NDArray[np.uint8]  # [G, bytes]
    shared_unknown: NDArray[np.uint8]  # [G, bytes]
    shared_writer: NDArray[np.int64]  # [G, bytes]; interval << 8 | wave of the group + 1
    shared_reader: NDArray[np.int64]  # [G, bytes]; the same, 255 for several waves
    interval: NDArray[np.int64]  # [G], barriers passed
    windows: NDArray[np.int64]  # [number, WINDOW_COLUMNS]
    findings: NDArray[np.int64]  # [FINDINGS, 8]
    found: NDArray[np.int64]  # [1], rows of it in use
    lanes: NDArray[np.uint64]  # [4, 64], operands and result
    bits: NDArray[np.bool_]  # [2, 64], mask and flag
    matrix: NDArray[np.float32]  # [3, 1024], A, B and D


def make_state(waves: int, groups: int, shared: int, private: int, windows: NDArray[np.int64]) -> State:
    """Everything zero, and nothing known. `shared` bytes a group, `private` bytes a lane."""
    return State(
        vector=np.zeros((waves, VECTORS, 64), np.uint32),
        scalar=np.zeros((waves, SCALARS), np.uint32),
        vector_unknown=np.full((waves, VECTORS, 2), 2**64 - 1, np.uint64),
        scalar_unknown=np.full((waves, SCALARS), 2**32 - 1, np.uint32),
        vector_pending=np.zeros((waves, VECTORS), np.int64),
        scalar_pending=np.zeros((waves, SCALARS), np.int64),
        pc=np.zeros(waves, np.int64),
        status=np.full(waves, ENDED, np.int64),
        counters=np.zeros((waves, 7), np.int64),
        group=np.zeros(waves, np.int64),
        private=np.zeros((waves, 64, private // 4), np.uint32),
        private_unknown=np.ones((waves, 64, private // 4), np.uint8),
        shared=np.zeros((groups, shared), np.uint8),
        shared_unknown=np.ones((groups, shared), np.uint8),
        shared_writer=np.zeros((groups, shared), np.int64),
        shared_reader=np.zeros((groups, shared), np.int64),
        interval=np.ones(groups, np.int64),
        windows=windows,
        findings=np.zeros((FINDINGS, 8), np.int64),
        found=np.zeros(1, np.int64),
        lanes=np.zeros((4, 64), np.uint64),
        bits=np.zeros((2, 64), np.bool_),
        matrix=np.zeros((3, 1024), np.float32),
    )
