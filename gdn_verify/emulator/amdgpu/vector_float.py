"""Vector instructions on floating-point numbers, in the mode that Triton's kernels run in.

That mode is checked when a kernel is loaded: to nearest even, denormals kept, IEEE. The approximations (exp, log, rcp,
rsq, sqrt) are computed in float64 and rounded once: hardware's last ulp is not modelled. They take denormal arguments
for zeros and give no denormal results, as LLVM's code generator takes them to.
"""

from __future__ import annotations

import math

import numpy as np

from gdn_verify.emulator.amdgpu.bits import (
    bits_of_bf16,
    bits_of_f16,
    bits_of_f32,
    f32,
    f64,
    fma32,
    fma64,
    inlined,
)
from gdn_verify.emulator.amdgpu.table import Family, enter_as, instruction

VOP1, VOP2, VOP3, VOP3P = Family.VOP1, Family.VOP2, Family.VOP3, Family.VOP3P
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_SMALLEST = np.float32(2.0**-126)
"""The least normal float32."""


@instruction(VOP2, 1, "f:ff")
def v_add_f32(a: float, b: float) -> float:
    return a + b


@instruction(VOP2, 2, "f:ff")
def v_sub_f32(a: float, b: float) -> float:
    return a - b


@instruction(VOP2, 3, "f:ff")
def v_subrev_f32(a: float, b: float) -> float:
    return b - a


@instruction(VOP2, 5, "f:ff")
def v_mul_f32(a: float, b: float) -> float:
    return a * b


@instruction(VOP2, 59, "f:ffF")
def v_fmac_f32(a: float, b: float, old: float) -> float:
    return fma32(a, b, old)


@instruction(VOP2, 4, "d:ddD")
def v_fmac_f64(a: float, b: float, old: float) -> float:
    return fma64(a, b, old)


@instruction(VOP2, 23, "f:fff", literal=1)
def v_fmamk_f32(a: float, k: float, b: float) -> float:
    return fma32(a, k, b)


@instruction(VOP2, 24, "f:fff", literal=2)
def v_fmaak_f32(a: float, b: float, k: float) -> float:
    return fma32(a, b, k)


@instruction(VOP3, 0x1CB, "f:fff")
def v_fma_f32(a: float, b: float, c: float) -> float:
    return fma32(a, b, c)


@instruction(VOP3, 0x1CC, "d:ddd")
def v_fma_f64(a: float, b: float, c: float) -> float:
    return fma64(a, b, c)


@instruction(VOP3, 0x280, "d:dd")
def v_add_f64(a: float, b: float) -> float:
    return a + b


@instruction(VOP3, 0x281, "d:dd")
def v_mul_f64(a: float, b: float) -> float:
    return a * b


@inlined
def _signals(a: float) -> bool:
    """Whether a NaN is a signalling one."""
    return math.isnan(a) and not bits_of_f32(a) & np.uint64(0x400000)


@inlined
def _quiet(a: float) -> float:
    return f32(bits_of_f32(a) | np.uint64(0x400000))


@inlined
def _least(a: float, b: float) -> float:
    if _signals(a):
        return _quiet(a)
    if _signals(b):
        return _quiet(b)
    if math.isnan(a):
        return b
    if math.isnan(b):
        return a
    if a == b:  # zeros of two signs: the negative one
        return f32(bits_of_f32(a) | bits_of_f32(b))
    return a if a < b else b


@inlined
def _greatest(a: float, b: float) -> float:
    if _signals(a):
        return _quiet(a)
    if _signals(b):
        return _quiet(b)
    if math.isnan(a):
        return b
    if math.isnan(b):
        return a
    if a == b:
        return f32(bits_of_f32(a) & bits_of_f32(b))
    return a if a > b else b


@instruction(VOP2, 10, "f:ff")
def v_min_f32(a: float, b: float) -> float:
    return _least(a, b)


@instruction(VOP2, 11, "f:ff")
def v_max_f32(a: float, b: float) -> float:
    return _greatest(a, b)


@instruction(VOP3, 0x1D0, "f:fff")
def v_min3_f32(a: float, b: float, c: float) -> float:
    return _least(_least(a, b), c)


@instruction(VOP3, 0x1D3, "f:fff")
def v_max3_f32(a: float, b: float, c: float) -> float:
    return _greatest(_greatest(a, b), c)


@instruction(VOP3, 0x288, "f:fi")
def v_ldexp_f32(a: float, b: int) -> float:
    exponent = min(max(b, -300), 300)  # beyond, nothing but zeros and infinities is left
    return np.float32(np.float64(a) * f64(np.uint64(exponent + 1023) << np.uint64(52)))


# -- approximations ------------------------------------------------------------------------------------


@inlined
def _flushed(a: float) -> float:
    return a * np.float32(0.0) if abs(a) < _SMALLEST else a


@instruction(VOP1, 32, "f:f")
def v_exp_f32(a: float) -> float:
    return _flushed(np.float32(2.0 ** np.float64(a)))


@instruction(VOP1, 33, "f:f")
def v_log_f32(a: float) -> float:
    return np.float32(np.log2(np.float64(_flushed(a))))


@inlined
def _reciprocal(a: float) -> float:
    return _flushed(np.float32(1.0 / np.float64(_flushed(a))))


@instruction(VOP1, 34, "f:f")
def v_rcp_f32(a: float) -> float:
    return _reciprocal(a)


@instruction(VOP1, 35, "f:f")
def v_rcp_iflag_f32(a: float) -> float:
    return _reciprocal(a)


@instruction(VOP1, 36, "f:f")
def v_rsq_f32(a: float) -> float:
    return np.float32(1.0 / math.sqrt(np.float64(_flushed(a))))


@instruction(VOP1, 39, "f:f")
def v_sqrt_f32(a: float) -> float:
    return np.float32(math.sqrt(np.float64(_flushed(a))))


# -- division: scale, refine, mend -----------------------------------------------------------------------


@inlined
def _exponent(a: float) -> int:
    return np.int64((bits_of_f32(a) >> np.uint64(23)) & np.uint64(0xFF))


@inlined
def _scaled(a: float, power: int) -> float:
    return np.float32(np.float64(a) * f64(np.uint64(power + 1023) << np.uint64(52)))


@inlined
def _denormal(a: float) -> bool:
    return a != 0 and _exponent(a) == 0


@instruction(VOP3, 0x1E0, "fm:fff")
def v_div_scale_f32(a: float, b: float, c: float) -> tuple[float, bool]:
    of_denominator, of_numerator = bits_of_f32(a) == bits_of_f32(b), bits_of_f32(a) == bits_of_f32(c)
    tiny_inverse = 0 < abs(1.0 / np.float64(b)) < 2.0**-126
    quotient = np.float32(np.float64(c) / np.float64(b))
    if b == 0 or c == 0:
        return f32(np.uint64(0x7FC00000)), False
    if _exponent(c) - _exponent(b) >= 96:
        return (_scaled(a, 64) if of_denominator else a), True
    if _denormal(b):
        return _scaled(a, 64), False
    if tiny_inverse and _denormal(quotient):
        # The documents have +64, by which such a denominator overflows, and no division would be right.
        return (_scaled(a, -64) if of_denominator else a), True
    if tiny_inverse:
        return _scaled(a, -64), False
    if _denormal(quotient):
        return (_scaled(a, 64) if of_numerator else a), True
    if _exponent(c) <= 23:
        return _scaled(a, 64), False
    return a, False


@instruction(VOP3, 0x1E2, "f:fffv")
def v_div_fmas_f32(a: float, b: float, c: float, scaled: bool) -> float:
    if not scaled:
        return fma32(a, b, c)
    # c is the quotient before its last refinement. Scaled back before it is rounded: else denormals are rounded twice.
    result = fma64(np.float64(a), np.float64(b), np.float64(c))
    return np.float32(result * (2.0**64 if _exponent(c) > 127 else 2.0**-64))


@instruction(VOP3, 0x1DE, "f:fff")
def v_div_fixup_f32(a: float, b: float, c: float) -> float:
    sign = (bits_of_f32(b) ^ bits_of_f32(c)) & np.uint64(0x80000000)
    if math.isnan(c):
        return _quiet(c)
    if math.isnan(b):
        return _quiet(b)
    if (b == 0 and c == 0) or (math.isinf(b) and math.isinf(c)):
        return f32(np.uint64(0xFFC00000))
    if b == 0 or math.isinf(c):
        return f32(sign | np.uint64(0x7F800000))
    if math.isinf(b) or c == 0 or _exponent(c) - _exponent(b) < -150:
        return f32(sign)
    # The documents say nothing of a quotient so large that the refinement gave NaN; IEEE's rules give this.
    if _exponent(b) == 255 or _exponent(c) - _exponent(b) > 129:
        return f32(sign | np.uint64(0x7F800000))
    return f32(sign | (bits_of_f32(a) & np.uint64(0x7FFFFFFF)))


# -- conversions -----------------------------------------------------------------------------------------


@instruction(VOP1, 5, "f:i")
def v_cvt_f32_i32(a: int) -> float:
    return np.float32(a)


@instruction(VOP1, 6, "f:u")
def v_cvt_f32_u32(a: int) -> float:
    return np.float32(a)


@instruction(VOP1, 7, "u:f")
def v_cvt_u32_f32(a: float) -> int:
    if not a > 0:  # NaN too
        return 0
    return 0xFFFFFFFF if a >= 4294967296.0 else np.int64(a)


@instruction(VOP1, 8, "i:f")
def v_cvt_i32_f32(a: float) -> int:
    if math.isnan(a):
        return 0
    if a >= 2147483648.0:
        return 0x7FFFFFFF
    return -0x80000000 if a <= -2147483648.0 else np.int64(a)


@instruction(VOP1, 10, "h:f")
def v_cvt_f16_f32(a: float) -> float:
    return a


@instruction(VOP1, 11, "f:h")
def v_cvt_f32_f16(a: float) -> float:
    return a


@instruction(VOP1, 15, "f:d")
def v_cvt_f32_f64(a: float) -> float:
    return np.float32(a)


@instruction(VOP1, 16, "d:f")
def v_cvt_f64_f32(a: float) -> float:
    return np.float64(a)


@instruction(VOP3, 0x268, "u:ff", only="gfx950")
def v_cvt_pk_bf16_f32(a: float, b: float) -> int:
    return np.int64(bits_of_bf16(a) | (bits_of_bf16(b) << np.uint64(16)))


@instruction(VOP3, 0x267, "u:ff", only="gfx950")
def v_cvt_pk_f16_f32(a: float, b: float) -> int:
    return np.int64(bits_of_f16(a) | (bits_of_f16(b) << np.uint64(16)))


@instruction(VOP1, 28, "f:f")
def v_trunc_f32(a: float) -> float:
    return np.float32(math.copysign(np.trunc(a), a))


@instruction(VOP1, 29, "f:f")
def v_ceil_f32(a: float) -> float:
    return np.float32(math.copysign(np.ceil(a), a))


@instruction(VOP1, 31, "f:f")
def v_floor_f32(a: float) -> float:
    return np.float32(np.floor(a))


@inlined
def _nearest(a: float) -> float:
    """To an integer, to nearest even: the addition of 2^23 rounds."""
    if not abs(a) < np.float32(8388608.0):
        return a
    shift = np.float32(math.copysign(8388608.0, a))
    return np.float32(math.copysign((a + shift) - shift, a))


@instruction(VOP1, 30, "f:f")
def v_rndne_f32(a: float) -> float:
    return _nearest(a)


# -- half precision --------------------------------------------------------------------------------------


@instruction(VOP2, 31, "h:hh")
def v_add_f16(a: float, b: float) -> float:
    return a + b


@instruction(VOP2, 32, "h:hh")
def v_sub_f16(a: float, b: float) -> float:
    return a - b


@instruction(VOP2, 34, "h:hh")
def v_mul_f16(a: float, b: float) -> float:
    return a * b


# -- mixed: each operand is a float32 or a half of a register, as `op_sel` says -----------------------------


@instruction(VOP3P, 32, "f:fff", mixed=True)
def v_fma_mix_f32(a: float, b: float, c: float) -> float:
    return fma32(a, b, c)


@instruction(VOP3P, 33, "h:fff", mixed=True, keeps="high")
def v_fma_mixlo_f16(a: float, b: float, c: float) -> float:
    return fma32(a, b, c)


@instruction(VOP3P, 34, "h:fff", mixed=True, keeps="low")
def v_fma_mixhi_f16(a: float, b: float, c: float) -> float:
    return fma32(a, b, c)


# -- pairs of float32 in two registers, and of 16-bit numbers in one -----------------------------------------


@inlined
def _pair(low: float, high: float) -> int:
    return bits_of_f32(low) | (bits_of_f32(high) << _32)


@instruction(VOP3P, 48, "q:qqq", pairs=32)
def v_pk_fma_f32(a: int, b: int, c: int) -> int:
    return _pair(fma32(f32(a), f32(b), f32(c)), fma32(f32(a >> _32), f32(b >> _32), f32(c >> _32)))


@instruction(VOP3P, 49, "q:qq", pairs=32)
def v_pk_mul_f32(a: int, b: int) -> int:
    return _pair(f32(a) * f32(b), f32(a >> _32) * f32(b >> _32))


@instruction(VOP3P, 50, "q:qq", pairs=32)
def v_pk_add_f32(a: int, b: int) -> int:
    return _pair(f32(a) + f32(b), f32(a >> _32) + f32(b >> _32))


@instruction(VOP3P, 51, "q:qq", pairs=32, moves=True)
def v_pk_mov_b32(a: int, b: int) -> int:
    return (a & _LOW) | (b & ~_LOW)


# -- comparisons: fourteen relations, numbered as in the encoding; NaN makes those that begin with n true ----


def _less(a: float, b: float) -> bool:
    return a < b


def _equal(a: float, b: float) -> bool:
    return a == b


def _less_equal(a: float, b: float) -> bool:
    return a <= b


def _greater(a: float, b: float) -> bool:
    return a > b


def _less_greater(a: float, b: float) -> bool:
    return a < b or a > b


def _greater_equal(a: float, b: float) -> bool:
    return a >= b


def _ordered(a: float, b: float) -> bool:
    return a == a and b == b


def _unordered(a: float, b: float) -> bool:
    return a != a or b != b


def _not_greater_equal(a: float, b: float) -> bool:
    return not a >= b


def _not_less_greater(a: float, b: float) -> bool:
    return not (a < b or a > b)


def _not_greater(a: float, b: float) -> bool:
    return not a > b


def _not_less_equal(a: float, b: float) -> bool:
    return not a <= b


def _not_equal(a: float, b: float) -> bool:
    return a != b


def _not_less(a: float, b: float) -> bool:
    return not a < b


_RELATIONS = {
    "lt": _less,
    "eq": _equal,
    "le": _less_equal,
    "gt": _greater,
    "lg": _less_greater,
    "ge": _greater_equal,
    "o": _ordered,
    "u": _unordered,
    "nge": _not_greater_equal,
    "nlg": _not_less_greater,
    "ngt": _not_greater,
    "nle": _not_less_equal,
    "neq": _not_equal,
    "nlt": _not_less,
}

for _place, (_word, _function) in enumerate(_RELATIONS.items(), 1):
    enter_as(f"v_cmp_{_word}_f32", Family.VOPC, 0x40 + _place, "m:ff", _function)
