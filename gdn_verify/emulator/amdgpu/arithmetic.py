"""What an atomic leaves in memory."""

from __future__ import annotations

import numpy as np

from gdn_verify.emulator.amdgpu.access import Way
from gdn_verify.emulator.amdgpu.bits import (
    bf16,
    bits_of_bf16,
    bits_of_f16,
    bits_of_f32,
    bits_of_f64,
    f16,
    f32,
    f64,
    inlined,
    signed32,
)

_SWAP, _ADD, _SUB = int(Way.SWAP), int(Way.ADD), int(Way.SUB)
_SIGNED_MIN, _UNSIGNED_MIN = int(Way.SIGNED_MIN), int(Way.UNSIGNED_MIN)
_SIGNED_MAX, _UNSIGNED_MAX = int(Way.SIGNED_MAX), int(Way.UNSIGNED_MAX)
_AND, _OR, _XOR = int(Way.AND), int(Way.OR), int(Way.XOR)
_ADD_F32, _ADD_F64, _MAX_F64, _MIN_F64 = int(Way.ADD_F32), int(Way.ADD_F64), int(Way.MAX_F64), int(Way.MIN_F64)
_PACKED_F16 = int(Way.PACKED_ADD_F16)
_16 = np.uint64(16)


@inlined
def _signed(value: int, size: int) -> int:
    return signed32(value) if size == 4 else np.int64(value)


@inlined
def changed(way: int, size: int, old: int, operand: int) -> int:
    """The new number, of `size` bytes."""
    if way == _SWAP:
        return operand
    if way == _ADD:
        return old + operand
    if way == _SUB:
        return old - operand
    if way == _AND:
        return old & operand
    if way == _OR:
        return old | operand
    if way == _XOR:
        return old ^ operand
    if way == _SIGNED_MIN:
        return operand if _signed(operand, size) < _signed(old, size) else old
    if way == _UNSIGNED_MIN:
        return operand if operand < old else old
    if way == _SIGNED_MAX:
        return operand if _signed(operand, size) >= _signed(old, size) else old
    if way == _UNSIGNED_MAX:
        return operand if operand >= old else old
    return _of_floats(way, old, operand)


@inlined
def _of_floats(way: int, old: int, operand: int) -> int:
    if way == _ADD_F32:
        return bits_of_f32(f32(old) + f32(operand))
    if way == _ADD_F64:
        return bits_of_f64(f64(old) + f64(operand))
    if way == _MAX_F64:
        return operand if f64(operand) > f64(old) else old
    if way == _MIN_F64:
        return operand if f64(operand) < f64(old) else old
    if way == _PACKED_F16:
        low, high = f16(old) + f16(operand), f16(old >> _16) + f16(operand >> _16)
        return bits_of_f16(low) | (bits_of_f16(high) << _16)
    low, high = bf16(old) + bf16(operand), bf16(old >> _16) + bf16(operand >> _16)
    return bits_of_bf16(low) | (bits_of_bf16(high) << _16)
