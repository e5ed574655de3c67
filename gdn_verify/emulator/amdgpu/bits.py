"""Registers hold bits; these read them as numbers, for functions that numba compiles.

Half precision is done on bits, so that no compiler runtime is needed for it. A fused multiply-add is LLVM's own: one
rounding, on every processor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function that only compiled code calls."""
    return numba.njit(error_model="numpy", no_cpython_wrapper=True)(function)


def spliced(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that one other calls: put into it instead of compiled twice."""
    return numba.njit(inline="always", error_model="numpy")(function)


def _reinterpret(name: str, source: Any, target: Any, through: tuple[Any, Any]) -> Any:
    narrow, wide = through

    def typed(context: Any, value: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            bits = builder.trunc(arguments[0], narrow) if arguments[0].type != narrow else arguments[0]
            cast = builder.bitcast(bits, wide)
            return builder.zext(cast, ir.IntType(64)) if target is types.uint64 and wide != ir.IntType(64) else cast

        return target(source), build

    typed.__name__ = name
    return intrinsic(typed)


f32 = _reinterpret("f32", types.uint64, types.float32, (ir.IntType(32), ir.FloatType()))
"""The float32 that the low 32 bits are."""
f64 = _reinterpret("f64", types.uint64, types.float64, (ir.IntType(64), ir.DoubleType()))
"""The float64 that 64 bits are."""
bits_of_f32 = _reinterpret("bits_of_f32", types.float32, types.uint64, (ir.FloatType(), ir.IntType(32)))
bits_of_f64 = _reinterpret("bits_of_f64", types.float64, types.uint64, (ir.DoubleType(), ir.IntType(64)))


@intrinsic
def fma32(context: Any, a: Any, b: Any, c: Any) -> Any:
    """a · b + c in float32, rounded once."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return types.float32(types.float32, types.float32, types.float32), build


@intrinsic
def fma64(context: Any, a: Any, b: Any, c: Any) -> Any:
    """a · b + c in float64, rounded once."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return types.float64(types.float64, types.float64, types.float64), build


def _accessor(width: int, store: bool) -> Any:
    number = ir.IntType(8 * width)

    def load_typed(context: Any, address: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer = builder.inttoptr(arguments[0], number.as_pointer())
            value = builder.load(pointer, align=1)
            return value if width == 8 else builder.zext(value, ir.IntType(64))

        return types.uint64(types.uint64), build

    def store_typed(context: Any, address: Any, value: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer = builder.inttoptr(arguments[0], number.as_pointer())
            value = arguments[1] if width == 8 else builder.trunc(arguments[1], number)
            builder.store(value, pointer, align=1)
            return context.get_dummy_value()

        return types.void(types.uint64, types.uint64), build

    return intrinsic(store_typed if store else load_typed)


load8, load16, load32, load64 = (_accessor(width, False) for width in (1, 2, 4, 8))
store8, store16, store32, store64 = (_accessor(width, True) for width in (1, 2, 4, 8))


@inlined
def f16(bits: int) -> float:
    """The float32 that the float16 in the low 16 bits is; exact."""
    sign = (bits & np.uint64(0x8000)) << np.uint64(16)
    exponent = (bits >> np.uint64(10)) & np.uint64(0x1F)
    mantissa = bits & np.uint64(0x3FF)
    if exponent == np.uint64(0):
        size = np.float32(np.int64(mantissa)) * np.float32(2.0**-24)
        return f32(sign | bits_of_f32(size))
    if exponent == np.uint64(0x1F):
        return f32(sign | np.uint64(0x7F800000) | (mantissa << np.uint64(13)))
    return f32(sign | ((exponent + np.uint64(112)) << np.uint64(23)) | (mantissa << np.uint64(13)))


@inlined
def bits_of_f16(value: float) -> int:
    """float16 bits of a float32, rounded to nearest even; a NaN keeps the top of its payload and is quiet."""
    bits = bits_of_f32(value)
    sign = (bits >> np.uint64(16)) & np.uint64(0x8000)
    size = bits & np.uint64(0x7FFFFFFF)
    if size > np.uint64(0x7F800000):
        return sign | np.uint64(0x7E00) | ((size >> np.uint64(13)) & np.uint64(0x3FF))
    if size >= np.uint64(0x47800000):
        return sign | np.uint64(0x7C00)
    if size < np.uint64(0x38800000):  # below the least normal number: let float32's own addition round
        shifted = bits_of_f32(f32(size) + f32(np.uint64(0x3F000000)))
        return sign | (shifted - np.uint64(0x3F000000))
    odd = (size >> np.uint64(13)) & np.uint64(1)
    return sign | ((size - np.uint64(0x38000000) + np.uint64(0xFFF) + odd) >> np.uint64(13))


@inlined
def bf16(bits: int) -> float:
    """The float32 that the bfloat16 in the low 16 bits is."""
    return f32((bits & np.uint64(0xFFFF)) << np.uint64(16))


@inlined
def bits_of_bf16(value: float) -> int:
    """bfloat16 bits of a float32, rounded to nearest even; a NaN keeps the top of its payload and is quiet."""
    bits = bits_of_f32(value)
    if (bits & np.uint64(0x7FFFFFFF)) > np.uint64(0x7F800000):
        return (bits >> np.uint64(16)) | np.uint64(0x40)
    odd = (bits >> np.uint64(16)) & np.uint64(1)
    return ((bits + np.uint64(0x7FFF) + odd) >> np.uint64(16)) & np.uint64(0xFFFF)


@inlined
def signed32(bits: int) -> int:
    """The int64 that the low 32 bits are as a two's complement."""
    return np.int64(np.int32(np.uint32(bits & np.uint64(0xFFFFFFFF))))


@inlined
def signed16(bits: int) -> int:
    """The int64 that the low 16 bits are as a two's complement."""
    return np.int64(np.int16(np.uint16(bits & np.uint64(0xFFFF))))
