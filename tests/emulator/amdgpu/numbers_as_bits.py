"""Numbers as bits and back, and arithmetic that is rounded once: exact fractions, rounded by hand."""

from __future__ import annotations

import math
import struct
from fractions import Fraction

_FORMS = {"f": ("<f", "<I"), "d": ("<d", "<Q"), "h": ("<e", "<H")}
_PRECISION = {"f": (24, -149, 128), "d": (53, -1074, 1024), "h": (11, -24, 16)}
"""Bits of the mantissa, exponent of the least denormal, exponent beyond the greatest."""


def number(bits: int, kind: str) -> float:
    """The float that bits are."""
    real, whole = _FORMS[kind]
    return float(struct.unpack(real, struct.pack(whole, bits))[0])


def bits(value: float, kind: str) -> int:
    """The bits of a float that the type holds exactly; any NaN is the quiet one."""
    if math.isnan(value):
        return {"f": 0x7FC00000, "d": 0x7FF8 << 48, "h": 0x7E00}[kind]
    real, whole = _FORMS[kind]
    return int(struct.unpack(whole, struct.pack(real, value))[0])


def is_nan(pattern: int, kind: str) -> bool:
    """Whether bits are a NaN."""
    return math.isnan(number(pattern, kind))


def rounded(exact: Fraction, kind: str, zero: float = 0.0) -> float:
    """A fraction to nearest even; `zero` is the result where the fraction is 0."""
    if exact == 0:
        return zero
    precision, least, beyond = _PRECISION[kind]
    size = abs(exact)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    if Fraction(2) ** exponent > size:
        exponent -= 1
    step = max(exponent - precision + 1, least)
    units = size / Fraction(2) ** step
    whole = units.numerator // units.denominator
    rest = units - whole
    whole += rest > Fraction(1, 2) or (rest == Fraction(1, 2) and whole % 2 == 1)
    result = Fraction(whole) * Fraction(2) ** step
    if result >= Fraction(2) ** beyond:  # before it is a float, which has no room for it either
        return math.inf if exact > 0 else -math.inf
    value = float(result)  # exact: no type here is wider than float64
    return -value if exact < 0 else (value if value else math.copysign(0.0, exact))


def added(a: float, b: float, kind: str) -> float:
    """a + b."""
    if not (math.isfinite(a) and math.isfinite(b)):
        return a + b
    return rounded(Fraction(a) + Fraction(b), kind, zero=a + b if a == b == 0 else 0.0)


def multiplied(a: float, b: float, kind: str) -> float:
    """a · b."""
    if not (math.isfinite(a) and math.isfinite(b)):
        return a * b
    product = rounded(Fraction(a) * Fraction(b), kind)
    return math.copysign(product, math.copysign(1, a) * math.copysign(1, b))


def fused(a: float, b: float, c: float, kind: str) -> float:
    """a · b + c with one rounding."""
    if not (math.isfinite(a) and math.isfinite(b)):
        return a * b + c
    if not math.isfinite(c):
        return c
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if exact == 0:
        sign = math.copysign(1, a) * math.copysign(1, b)
        same = (a == 0 or b == 0) and c == 0 and sign == math.copysign(1, c)
        return math.copysign(0.0, c) if same else 0.0
    return rounded(exact, kind)


def scaled(a: float, power: int, kind: str) -> float:
    """a · 2^power."""
    if not math.isfinite(a) or a == 0:
        return a
    result = rounded(Fraction(a) * Fraction(2) ** max(min(power, 3000), -3000), kind)
    return math.copysign(result, a)


def signed(pattern: int, width: int) -> int:
    """Two's complement of so many bits."""
    pattern &= (1 << width) - 1
    return pattern - (1 << width) if pattern >> (width - 1) else pattern
