"""The narrow number formats, in numpy: bfloat16, TF32, and arithmetic that rounds exactly once.

numpy has no bfloat16, so its values travel as their bit patterns in uint16 arrays. Every function keeps
the shape of its arguments. NaN becomes a quiet NaN of the target format; its payload is not preserved,
as it is not on any GPU either.
"""

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]

_QUIET_NAN = np.uint16(0x7FC0)
_HIDDEN_BITS = 13  # float32 has 23 mantissa bits, TF32 has 10


def bf16_to_f32(bits: Array) -> NDArray[np.float32]:
    """Widen bfloat16 bit patterns (uint16) to float32; exact."""
    return np.left_shift(bits, 16, dtype=np.uint32).view(np.float32)


def f32_to_bf16(value: Array, toward_zero: bool = False) -> NDArray[np.uint16]:
    """Round float32 to bfloat16 bit patterns, to nearest even or toward zero."""
    wide = np.ascontiguousarray(value, dtype=np.float32).view(np.uint32)
    carry = np.uint32(0) if toward_zero else np.uint32(0x7FFF) + ((wide >> np.uint32(16)) & np.uint32(1))
    bits = ((wide + carry) >> np.uint32(16)).astype(np.uint16)
    nan = (wide & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
    return np.where(nan, _QUIET_NAN, bits) if nan.any() else bits


def f64_to_bf16(value: Array, toward_zero: bool = False) -> NDArray[np.uint16]:
    """Round float64 to bfloat16 bit patterns once, not once to float32 and once more."""
    return f32_to_bf16(_f64_to_f32_odd(np.asarray(value, dtype=np.float64)), toward_zero)


def f32_to_f16(value: Array, toward_zero: bool = False) -> NDArray[np.float16]:
    """Round float32 or float64 to float16, to nearest even or toward zero."""
    with np.errstate(over="ignore"):
        nearest = value.astype(np.float16)
    if not toward_zero:
        return nearest
    away = np.isfinite(value) & (np.abs(nearest.astype(np.float64)) > np.abs(value.astype(np.float64)))
    return np.where(away, np.nextafter(nearest, np.float16(0)), nearest)


def tf32(value: Array) -> NDArray[np.float32]:
    """Cut float32 operands to TF32 as tensor cores do: the low 13 bits are ignored (toward zero).

    PTX says so for wgmma, and Triton inserts no rounding conversion before it.
    """
    bits = np.ascontiguousarray(value, dtype=np.float32).view(np.uint32)
    cut = (bits & np.uint32(0xFFFFFFFF << _HIDDEN_BITS & 0xFFFFFFFF)).view(np.float32)
    return np.where(np.isnan(value), value, cut)


def fma(x: Array, y: Array, z: Array) -> Array:
    """x·y + z with one rounding, in the common dtype of the operands (float16, float32 or float64)."""
    dtype = np.result_type(x, y, z)
    if dtype == np.float64:
        return np.asarray(_fma_f64(x, y, z), dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        return fma_odd(x, y, z).astype(dtype)


def fma_odd(x: Array, y: Array, z: Array) -> NDArray[np.float64]:
    """x·y + z in float64, rounded to odd, for operands of at most 24 significant bits.

    Rounding the result once more, to float32 or narrower, then equals a single rounding of the exact
    value: float64 has more than two bits to spare, and an odd last bit never looks like a tie.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        product = x.astype(np.float64) * y.astype(np.float64)  # exact: 48 bits
        addend = z.astype(np.float64)
        total = product + addend
        back = total - product
        error = (product - (total - back)) + (addend - back)  # Knuth's TwoSum: total + error is exact
    return _make_odd(total, error)


def _make_odd(value: NDArray[np.float64], error: NDArray[np.float64]) -> NDArray[np.float64]:
    even = (value.view(np.uint64) & np.uint64(1)) == 0
    inexact = np.isfinite(value) & np.isfinite(error) & (error != 0)
    neighbour = np.nextafter(value, np.copysign(np.inf, error))
    return np.where(inexact & even, neighbour, value)


def _f64_to_f32_odd(value: NDArray[np.float64]) -> NDArray[np.float32]:
    with np.errstate(over="ignore", invalid="ignore"):
        nearest = value.astype(np.float32)
        rest = value - nearest.astype(np.float64)
    # Where float32 overflows, the true value lies below the infinity: step back onto the odd maximum.
    inexact = np.isfinite(value) & (rest != 0)
    even = (nearest.view(np.uint32) & np.uint32(1)) == 0
    neighbour = np.nextafter(nearest, np.copysign(np.float32(np.inf), rest.astype(np.float32)))
    return np.where(inexact & even, neighbour, nearest)


@np.vectorize
def _fma_f64(x: float, y: float, z: float) -> float:
    if not np.isfinite([x, y, z]).all() or x == 0 or y == 0:
        return float(x * y + z)
    exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
    if exact == 0:
        return float(x * y + z)  # keeps the sign of zero
    try:
        return float(exact)
    except OverflowError:
        return float(np.copysign(np.inf, exact.numerator))
