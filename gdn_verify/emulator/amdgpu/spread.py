"""Which halves of a result hold nothing, given which halves of the operands do.

Compilers leave half of a register undefined, and move it about: were all of a result held unknown for it, right kernels
would be accused.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gdn_verify.emulator.amdgpu import rows as r
from gdn_verify.emulator.amdgpu.bits import inlined
from gdn_verify.emulator.amdgpu.rows import Spread

Row = NDArray[np.int64]
Masks = tuple[int, int, int]
"""Lanes, of each operand."""

_UPWARD, _APART, _LEFT, _RIGHT = int(Spread.UPWARD), int(Spread.APART), int(Spread.LEFT), int(Spread.RIGHT)
_MASK, _PERMUTE, _PACK = int(Spread.MASK), int(Spread.PERMUTE), int(Spread.PACK)
_0, _HALF, _31 = np.uint64(0), np.uint64(0xFFFF), np.uint64(31)


@inlined
def spread(row: Row, first: int, third: int, low: Masks, high: Masks) -> tuple[int, int]:
    """The lanes of the lower and of the upper half; `first` and `third` are operands of lane 0."""
    kind = row[r.SPREAD]
    lows, highs = low[0] | low[1] | low[2], high[0] | high[1] | high[2]
    if kind == _APART:
        return lows, highs
    if kind == _UPWARD:
        if row[r.DST_WIDTH] == 2:  # operands of 32 bits, beside those of 64, count as a whole
            lows |= (high[0] if row[r.A + r.WIDTH] == 1 else _0) | (high[1] if row[r.B + r.WIDTH] == 1 else _0)
        return lows, lows | highs
    if kind == _PACK:
        return low[0] | high[0], low[1] | high[1]
    if kind == _PERMUTE and row[r.C + r.CODE] < r.VGPR:
        return _chosen(third, low, high), _chosen(third >> np.uint64(16), low, high)
    constant = row[r.A + r.CODE] < r.VGPR
    if kind == _MASK:
        return _masked(constant, first, low[0], low[1]), _masked(constant, first >> np.uint64(16), high[0], high[1])
    if constant and (kind == _LEFT or kind == _RIGHT):
        return _shifted(kind, first & _31, low, high)
    return lows | highs, lows | highs


@inlined
def _chosen(select: int, low: Masks, high: Masks) -> int:
    """Of two bytes, by their numbers: 0…3 are the second operand's, 4…7 the first's, others signs and constants."""
    lost = low[2] | high[2]
    for n in range(2):
        byte = (select >> np.uint64(8 * n)) & np.uint64(0xFF)
        if byte < np.uint64(12):
            place = np.int64(byte) if byte < np.uint64(8) else 2 * (np.int64(byte) - 8) + 1
            lost |= (low[1], high[1], low[0], high[0])[place // 2]
    return lost


@inlined
def _masked(constant: bool, bits: int, of_first: int, of_second: int) -> int:
    return _0 if constant and not of_first and not bits & _HALF else of_first | of_second


@inlined
def _shifted(kind: int, amount: int, low: Masks, high: Masks) -> tuple[int, int]:
    """By a constant: beyond 16 bits one half is the other's, and the rest is zeros (or signs)."""
    lost = low[0] | high[0]
    if kind == _LEFT:
        return (lost, lost | low[1]) if amount >= np.uint64(16) else (lost | low[1], lost | low[1] | high[1])
    return (lost | high[1], lost | high[1]) if amount >= np.uint64(16) else (lost | low[1] | high[1], lost | high[1])
