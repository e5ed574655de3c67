"""What each instruction that computes does, written a second time from AMD's pseudo-code, in plain Python on bits.

A reference has a signature of its own: types of the operands and of the result, with m for a lane's bit of a mask
(vector) or SCC (scalar), and takes and gives bits. Source: "CDNA3" and "CDNA4" instruction set architectures.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from numbers_as_bits import added, bits, fused, is_nan, multiplied, number, rounded, scaled, signed

U32, U64 = (1 << 32) - 1, (1 << 64) - 1


@dataclass(frozen=True)
class Reference:
    """`arguments` and `results` are types, one letter each; `old` says that the last argument is the destination."""

    arguments: str
    results: str
    function: Callable[..., Any]
    close: bool = False
    """Whether one unit in the last place is allowed: an approximation of the hardware."""

    @property
    def old(self) -> bool:
        return self.arguments.endswith("O")


REFERENCES: dict[str, Reference] = {}


def _add(name: str, arguments: str, results: str, function: Callable[..., Any], close: bool = False) -> None:
    assert name not in REFERENCES, name
    REFERENCES[name] = Reference(arguments, results, function, close)


def _f(function: Callable[..., float], kind: str = "f") -> Callable[..., int]:
    """A function of floats as one of bits."""
    return lambda *patterns: bits(function(*(number(x, kind) for x in patterns)), kind)


def _i(function: Callable[..., int], width: int = 32) -> Callable[..., int]:
    """A function of signed integers as one of bits."""
    return lambda *patterns: function(*(signed(x, width) for x in patterns)) & ((1 << width) - 1)


# -- vector, integers ----------------------------------------------------------------------------------------


def _byte_permute(high: int, low: int, select: int) -> int:
    data = (high << 32) | low
    if select >= 13:
        return 0xFF
    if select == 12:
        return 0
    if select >= 8:
        return 0xFF * ((data >> (8 * (2 * (select - 8) + 1) + 7)) & 1)
    return (data >> (8 * select)) & 0xFF


def _perm(a: int, b: int, c: int) -> int:
    return sum(_byte_permute(a, b, (c >> (8 * n)) & 0xFF) << (8 * n) for n in range(4))


def _u24(x: int) -> int:
    return x & 0xFFFFFF


def _i24(x: int) -> int:
    return signed(x, 24)


def _field(value: int, first: int, width: int, extend: bool) -> int:
    field = (value >> first) & ((1 << width) - 1)
    return signed(field, width) & U32 if extend and width else field


_add("v_mov_b32", "u", "u", lambda a: a)
_add("v_mov_b64", "q", "q", lambda a: a)
_add("v_not_b32", "u", "u", lambda a: a ^ U32)
_add("v_bfrev_b32", "u", "u", lambda a: int(f"{a:032b}"[::-1], 2))
_add("v_ffbh_u32", "u", "u", lambda a: 32 - a.bit_length() if a else U32)
_add("v_ffbl_b32", "u", "u", lambda a: (a & -a).bit_length() - 1 if a else U32)
_add("v_cndmask_b32", "uum", "u", lambda a, b, m: b if m else a)
_add("v_mul_i32_i24", "uu", "u", lambda a, b: _i24(a) * _i24(b) & U32)
_add("v_mul_u32_u24", "uu", "u", lambda a, b: _u24(a) * _u24(b) & U32)
_add("v_mul_hi_u32_u24", "uu", "u", lambda a, b: _u24(a) * _u24(b) >> 32)
_add("v_mad_i32_i24", "uuu", "u", lambda a, b, c: (_i24(a) * _i24(b) + c) & U32)
_add("v_mad_u32_u24", "uuu", "u", lambda a, b, c: (_u24(a) * _u24(b) + c) & U32)
_add("v_min_i32", "uu", "u", _i(min))
_add("v_max_i32", "uu", "u", _i(max))
_add("v_med3_i32", "uuu", "u", _i(lambda *x: sorted(x)[1]))
_add("v_min_u32", "uu", "u", min)
_add("v_max_u32", "uu", "u", max)
_add("v_lshrrev_b32", "uu", "u", lambda a, b: b >> (a % 32))
_add("v_ashrrev_i32", "uu", "u", lambda a, b: (signed(b, 32) >> (a % 32)) & U32)
_add("v_lshlrev_b32", "uu", "u", lambda a, b: (b << (a % 32)) & U32)
_add("v_and_b32", "uu", "u", lambda a, b: a & b)
_add("v_or_b32", "uu", "u", lambda a, b: a | b)
_add("v_xor_b32", "uu", "u", lambda a, b: a ^ b)
_add("v_xnor_b32", "uu", "u", lambda a, b: (a ^ b) ^ U32)
_add("v_add_co_u32", "uu", "um", lambda a, b: ((a + b) & U32, a + b > U32))
_add("v_sub_co_u32", "uu", "um", lambda a, b: ((a - b) & U32, a < b))
_add("v_subrev_co_u32", "uu", "um", lambda a, b: ((b - a) & U32, b < a))
_add("v_addc_co_u32", "uum", "um", lambda a, b, m: ((a + b + m) & U32, a + b + m > U32))
_add("v_subb_co_u32", "uum", "um", lambda a, b, m: ((a - b - m) & U32, a - b - m < 0))
_add("v_subbrev_co_u32", "uum", "um", lambda a, b, m: ((b - a - m) & U32, b - a - m < 0))
_add("v_mad_u64_u32", "uuq", "qm", lambda a, b, c: ((a * b + c) & U64, a * b + c > U64))


def _mad_i64(a: int, b: int, c: int) -> tuple[int, bool]:
    total = signed(a, 32) * signed(b, 32) + signed(c, 64)
    return total & U64, total != signed(total, 64)


_add("v_mad_i64_i32", "uuq", "qm", _mad_i64)
_add("v_add_u32", "uu", "u", lambda a, b: (a + b) & U32)
_add("v_sub_u32", "uu", "u", lambda a, b: (a - b) & U32)
_add("v_subrev_u32", "uu", "u", lambda a, b: (b - a) & U32)
_add("v_add_i32", "uu", "u", lambda a, b: (a + b) & U32)
_add("v_sub_i32", "uu", "u", lambda a, b: (a - b) & U32)
_add("v_mul_lo_u32", "uu", "u", lambda a, b: a * b & U32)
_add("v_mul_hi_u32", "uu", "u", lambda a, b: a * b >> 32)
_add("v_mul_hi_i32", "uu", "u", lambda a, b: (signed(a, 32) * signed(b, 32) >> 32) & U32)
_add("v_bfe_u32", "uuu", "u", lambda a, b, c: _field(a, b % 32, c % 32, False))
_add("v_bfe_i32", "uuu", "u", lambda a, b, c: _field(signed(a, 32), b % 32, c % 32, True))
_add("v_bfi_b32", "uuu", "u", lambda a, b, c: (a & b) | ((a ^ U32) & c))
_add("v_alignbit_b32", "uuu", "u", lambda a, b, c: (((a << 32) | b) >> (c % 32)) & U32)
_add("v_alignbyte_b32", "uuu", "u", lambda a, b, c: (((a << 32) | b) >> (8 * (c % 4))) & U32)
_add("v_perm_b32", "uuu", "u", _perm)
_add("v_xad_u32", "uuu", "u", lambda a, b, c: ((a ^ b) + c) & U32)
_add("v_lshl_add_u32", "uuu", "u", lambda a, b, c: ((a << (b % 32)) + c) & U32)
_add("v_add_lshl_u32", "uuu", "u", lambda a, b, c: ((a + b) << (c % 32)) & U32)
_add("v_add3_u32", "uuu", "u", lambda a, b, c: (a + b + c) & U32)
_add("v_lshl_or_b32", "uuu", "u", lambda a, b, c: ((a << (b % 32)) & U32) | c)
_add("v_and_or_b32", "uuu", "u", lambda a, b, c: (a & b) | c)
_add("v_or3_b32", "uuu", "u", lambda a, b, c: a | b | c)
_add("v_lshl_add_u64", "quq", "q", lambda a, b, c: ((a << (b % 8)) + c) & U64)
_add("v_lshlrev_b64", "uq", "q", lambda a, b: (b << (a % 64)) & U64)
_add("v_lshrrev_b64", "uq", "q", lambda a, b: b >> (a % 64))
_add("v_ashrrev_i64", "uq", "q", lambda a, b: (signed(b, 64) >> (a % 64)) & U64)
_add("v_bcnt_u32_b32", "uu", "u", lambda a, b: (a.bit_count() + b) & U32)
_add("v_add_u16", "ww", "u", lambda a, b: (a + b) & 0xFFFF)
_add("v_sub_u16", "ww", "u", lambda a, b: (a - b) & 0xFFFF)
_add("v_subrev_u16", "ww", "u", lambda a, b: (b - a) & 0xFFFF)
_add("v_mul_lo_u16", "ww", "u", lambda a, b: a * b & 0xFFFF)
_add("v_lshlrev_b16", "ww", "u", lambda a, b: (b << (a % 16)) & 0xFFFF)
_add("v_lshrrev_b16", "ww", "u", lambda a, b: b >> (a % 16))
_add("v_ashrrev_i16", "ww", "u", lambda a, b: (signed(b, 16) >> (a % 16)) & 0xFFFF)
_add("v_max_u16", "ww", "u", max)
_add("v_min_u16", "ww", "u", min)
_add("v_max_i16", "ww", "u", _i(max, 16))
_add("v_min_i16", "ww", "u", _i(min, 16))
_add("v_pack_b32_f16", "ww", "u", lambda a, b: (b << 16) | a)

# -- vector, floats -------------------------------------------------------------------------------------------


def _min_max(least: bool) -> Callable[..., int]:
    def choose(*patterns: int) -> int:
        found = patterns[0]
        for other in patterns[1:]:
            found = pair(found, other)
        return found

    def pair(a: int, b: int) -> int:
        for x in (a, b):
            if is_nan(x, "f") and not x & 0x400000:
                return x | 0x400000
        if is_nan(a, "f"):
            return b
        if is_nan(b, "f"):
            return a
        # -0 is below +0: by value, then by sign
        key = lambda x: (number(x, "f"), -(x >> 31))  # noqa: E731
        return min(a, b, key=key) if least else max(a, b, key=key)

    return choose


def _flushed(a: float) -> float:
    return math.copysign(0.0, a) if abs(a) < 2.0**-126 else a


def _approximate(function: Callable[[float], float]) -> Callable[[int], int]:
    def of(pattern: int) -> int:
        value = function(number(pattern, "f"))
        result = rounded(Fraction(value), "f", value) if math.isfinite(value) else value
        return bits(_flushed(result), "f")

    return of


def _exp(a: float) -> float:
    return math.inf if a >= 128 else 0.0 if a < -200 else math.nan if math.isnan(a) else 2.0**a


def _log(a: float) -> float:
    a = _flushed(a)
    return -math.inf if a == 0 else math.nan if not a > 0 else math.log2(a)


def _rcp(a: float) -> float:
    a = _flushed(a)
    return math.copysign(math.inf, a) if a == 0 else 1 / a


def _sqrt(a: float) -> float:
    a = _flushed(a)
    return a if a == 0 else math.nan if not a > 0 else math.sqrt(a)


def _rsq(a: float) -> float:
    a = _flushed(a)
    return math.copysign(math.inf, a) if a == 0 else math.nan if not a > 0 else 1 / math.sqrt(a)


def _exponent(pattern: int) -> int:
    return (pattern >> 23) & 0xFF


def _denormal(value: float, kind: str) -> bool:
    return value != 0 and abs(value) < {"f": 2.0**-126, "d": 2.0**-1022}[kind]


def _quotient(a: float, b: float, kind: str) -> float:
    """a / b, rounded once."""
    if not (math.isfinite(a) and math.isfinite(b)) or b == 0:
        return math.nan if math.isnan(a) or math.isnan(b) or math.isinf(a) else math.copysign(0.0, a)
    return rounded(Fraction(a) / Fraction(b), kind)


def _div_scale(s0: int, s1: int, s2: int) -> tuple[int, bool]:
    a, b, c = (number(x, "f") for x in (s0, s1, s2))
    up, down = bits(scaled(a, 64, "f"), "f"), bits(scaled(a, -64, "f"), "f")
    if b == 0 or c == 0:
        return bits(math.nan, "f"), False
    # "1 / S1 == DENORM": what float32 would make of it
    inverse, ratio = _denormal(_quotient(1.0, b, "f"), "f"), _denormal(_quotient(c, b, "f"), "f")
    if _exponent(s2) - _exponent(s1) >= 96:
        return (up if s0 == s1 else s0), True
    if _denormal(b, "f"):
        return up, False
    if inverse and ratio:  # the documents have `up`; test_division_is_ieee would fail
        return (down if s0 == s1 else s0), True
    if inverse:
        return down, False
    if ratio:
        return (up if s0 == s2 else s0), True
    return (up, False) if _exponent(s2) <= 23 else (s0, False)


def _div_fmas(a: int, b: int, c: int, m: bool) -> int:
    x, y, z = (number(n, "f") for n in (a, b, c))
    if not (m and all(map(math.isfinite, (x, y, z)))):
        return bits(fused(x, y, z, "f"), "f")
    # Scaled back as v_div_scale scaled. The documents have 2^32 here, which would leave quotients wrong by 2^32:
    # test_division_is_ieee would fail.
    exact = (Fraction(x) * Fraction(y) + Fraction(z)) * Fraction(2) ** (64 if _exponent(c) > 127 else -64)
    return bits(rounded(exact, "f", fused(x, y, z, "f")), "f")


def _div_fixup(s0: int, s1: int, s2: int) -> int:
    a, b, c = (number(x, "f") for x in (s0, s1, s2))
    sign = math.copysign(1, b) * math.copysign(1, c)
    if math.isnan(c) or math.isnan(b):
        return bits(math.nan, "f")
    if (b == 0 and c == 0) or (math.isinf(b) and math.isinf(c)):
        return bits(math.nan, "f")
    if b == 0 or math.isinf(c):
        return bits(math.copysign(math.inf, sign), "f")
    if math.isinf(b) or c == 0 or _exponent(s2) - _exponent(s1) < -150:
        return bits(math.copysign(0.0, sign), "f")
    if _exponent(s2) - _exponent(s1) > 129:  # not in the documents; test_division_is_ieee needs it
        return bits(math.copysign(math.inf, sign), "f")
    return bits(math.copysign(a, sign), "f")


def _integer(value: float, least: int, most: int) -> int:
    if math.isnan(value):
        return 0
    return most if value >= most else least if value <= least else int(value)


def _to_integer(low: int, high: int) -> Callable[[int], int]:
    return lambda a: _integer(number(a, "f"), low, high) & U32


def _convert(source: str, target: str) -> Callable[[int], int]:
    def of(pattern: int) -> int:
        value = number(pattern, source)
        return bits(rounded(Fraction(value), target, value) if math.isfinite(value) else value, target)

    return of


def _whole(function: Callable[[float], int]) -> Callable[[int], int]:
    def of(pattern: int) -> int:
        value = number(pattern, "f")
        return bits(math.copysign(float(function(value)), value) if math.isfinite(value) else value, "f")

    return of


def _brain(pattern: int) -> int:
    """bfloat16 of a float32: the nearest of the two that are near, the even one of two as near."""
    if is_nan(pattern, "f"):
        return 0x7FC0
    low, rest = pattern >> 16, pattern & 0xFFFF
    return low + (rest > 0x8000 or (rest == 0x8000 and low & 1))


def _floats(name: str, count: int, function: Callable[..., float], kind: str = "f") -> None:
    _add(name, kind * count, kind, _f(function, kind))


_floats("v_add_f32", 2, lambda a, b: added(a, b, "f"))
_floats("v_sub_f32", 2, lambda a, b: added(a, -b, "f"))
_floats("v_subrev_f32", 2, lambda a, b: added(b, -a, "f"))
_floats("v_mul_f32", 2, lambda a, b: multiplied(a, b, "f"))
_add("v_fmac_f32", "ffO", "f", _f(lambda a, b, c: fused(a, b, c, "f")))
_add("v_fmac_f64", "ddO", "d", _f(lambda a, b, c: fused(a, b, c, "d"), "d"))
_floats("v_fma_f32", 3, lambda a, b, c: fused(a, b, c, "f"))
_floats("v_fma_f64", 3, lambda a, b, c: fused(a, b, c, "d"), "d")
_floats("v_add_f64", 2, lambda a, b: added(a, b, "d"), "d")
_floats("v_mul_f64", 2, lambda a, b: multiplied(a, b, "d"), "d")
_add("v_min_f32", "ff", "f", _min_max(True))
_add("v_max_f32", "ff", "f", _min_max(False))
_add("v_min3_f32", "fff", "f", _min_max(True))
_add("v_max3_f32", "fff", "f", _min_max(False))
_add("v_ldexp_f32", "fu", "f", lambda a, b: bits(scaled(number(a, "f"), signed(b, 32), "f"), "f"))
for _name, _function in (
    ("v_exp_f32", _exp),
    ("v_log_f32", _log),
    ("v_rcp_f32", _rcp),
    ("v_rcp_iflag_f32", _rcp),
    ("v_rsq_f32", _rsq),
    ("v_sqrt_f32", _sqrt),
):
    _add(_name, "f", "f", _approximate(_function), close=True)
_add("v_div_scale_f32", "fff", "fm", _div_scale)
_add("v_div_fmas_f32", "fffV", "f", _div_fmas)
_add("v_div_fixup_f32", "fff", "f", _div_fixup)
_add("v_cvt_f32_i32", "u", "f", lambda a: bits(rounded(Fraction(signed(a, 32)), "f"), "f"))
_add("v_cvt_f32_u32", "u", "f", lambda a: bits(rounded(Fraction(a), "f"), "f"))
_add("v_cvt_u32_f32", "f", "u", _to_integer(0, U32))
_add("v_cvt_i32_f32", "f", "u", _to_integer(-(1 << 31), (1 << 31) - 1))
_add("v_cvt_f16_f32", "f", "h", _convert("f", "h"))
_add("v_cvt_f32_f16", "h", "f", _convert("h", "f"))
_add("v_cvt_f32_f64", "d", "f", _convert("d", "f"))
_add("v_cvt_f64_f32", "f", "d", _convert("f", "d"))
_add("v_cvt_pk_f16_f32", "ff", "H", lambda a, b: _convert("f", "h")(a) | (_convert("f", "h")(b) << 16))
_add("v_cvt_pk_bf16_f32", "ff", "B", lambda a, b: _brain(a) | (_brain(b) << 16))
_add("v_trunc_f32", "f", "f", _whole(math.trunc))
_add("v_ceil_f32", "f", "f", _whole(math.ceil))
_add("v_floor_f32", "f", "f", _whole(math.floor))
_add("v_rndne_f32", "f", "f", _whole(round))
_floats("v_add_f16", 2, lambda a, b: added(a, b, "h"), "h")
_floats("v_sub_f16", 2, lambda a, b: added(a, -b, "h"), "h")
_floats("v_mul_f16", 2, lambda a, b: multiplied(a, b, "h"), "h")


def _pair(function: Callable[..., float]) -> Callable[..., int]:
    each = _f(function)
    return lambda *x: each(*(v & U32 for v in x)) | (each(*(v >> 32 for v in x)) << 32)


_add("v_pk_fma_f32", "ppp", "p", _pair(lambda a, b, c: fused(a, b, c, "f")))
_add("v_pk_mul_f32", "pp", "p", _pair(lambda a, b: multiplied(a, b, "f")))
_add("v_pk_add_f32", "pp", "p", _pair(lambda a, b: added(a, b, "f")))

# -- comparisons ------------------------------------------------------------------------------------------------

_SIMPLE: dict[str, Callable[[Any, Any], bool]] = {
    "lt": lambda a, b: a < b,
    "eq": lambda a, b: a == b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ne": lambda a, b: a != b,
    "ge": lambda a, b: a >= b,
}
_OF_FLOATS = {name: _SIMPLE[name] for name in ("lt", "eq", "le", "gt", "ge")} | {
    "lg": lambda a, b: a < b or a > b,
    "o": lambda a, b: not (math.isnan(a) or math.isnan(b)),
    "u": lambda a, b: math.isnan(a) or math.isnan(b),
    "nge": lambda a, b: not a >= b,
    "nlg": lambda a, b: not (a < b or a > b),
    "ngt": lambda a, b: not a > b,
    "nle": lambda a, b: not a <= b,
    "neq": lambda a, b: a != b,
    "nlt": lambda a, b: not a < b,
}


def _compare(name: str, relation: Callable[[Any, Any], bool], letter: str, view: Callable[[int], Any]) -> None:
    _add(name, letter * 2, "m", lambda a, b: relation(view(a), view(b)))


for _word, _relation in _OF_FLOATS.items():
    _compare(f"v_cmp_{_word}_f32", _relation, "f", lambda x: number(x, "f"))
for _word, _relation in _SIMPLE.items():
    for _width, _letter in ((16, "w"), (32, "u"), (64, "q")):
        _compare(f"v_cmp_{_word}_u{_width}", _relation, _letter, lambda x: x)
        _compare(f"v_cmp_{_word}_i{_width}", _relation, _letter, lambda x, width=_width: signed(x, width))
