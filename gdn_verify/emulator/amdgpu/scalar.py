"""Scalar instructions. A result letter m is SCC; an argument letter m is SCC before."""

from __future__ import annotations

import numpy as np

from gdn_verify.emulator.amdgpu.bits import inlined
from gdn_verify.emulator.amdgpu.table import Family, enter_as, instruction

SOP1, SOP2, SOPC, SOPK = Family.SOP1, Family.SOP2, Family.SOPC, Family.SOPK
_1, _32, _63 = np.uint64(1), np.uint64(32), np.uint64(63)


@inlined
def _wide(a: int) -> int:
    """int32 of the low 32 bits of an int64."""
    return np.int64(np.int32(a))


@instruction(SOP1, 0, "u:u")
def s_mov_b32(a: int) -> int:
    return a


@instruction(SOP1, 1, "q:q")
def s_mov_b64(a: int) -> int:
    return a


@instruction(SOP1, 4, "um:u")
def s_not_b32(a: int) -> tuple[int, bool]:
    return ~a, a != 0xFFFFFFFF


@instruction(SOP1, 5, "qm:q")
def s_not_b64(a: int) -> tuple[int, bool]:
    return ~a, ~a != 0


@instruction(SOP1, 8, "u:u")
def s_brev_b32(a: int) -> int:
    result = 0
    for place in range(32):
        result |= ((a >> place) & 1) << (31 - place)
    return result


@inlined
def _ones(a: int) -> int:
    total = 0
    while a != 0:
        a &= a - _1
        total += 1
    return total


@instruction(SOP1, 12, "um:u")
def s_bcnt1_i32_b32(a: int) -> tuple[int, bool]:
    total = _ones(np.uint64(a))
    return total, total != 0


@instruction(SOP1, 13, "um:q")
def s_bcnt1_i32_b64(a: int) -> tuple[int, bool]:
    total = _ones(a)
    return total, total != 0


@inlined
def _first_one(a: int, width: int) -> int:
    for place in range(width):
        if (a >> np.uint64(place)) & _1:
            return place
    return -1


@instruction(SOP1, 16, "u:u")
def s_ff1_i32_b32(a: int) -> int:
    return _first_one(np.uint64(a), 32)


@instruction(SOP1, 17, "u:q")
def s_ff1_i32_b64(a: int) -> int:
    return _first_one(a, 64)


@instruction(SOP1, 22, "i:u")
def s_sext_i32_i8(a: int) -> int:
    return ((a & 0xFF) ^ 0x80) - 0x80


@instruction(SOP1, 23, "i:u")
def s_sext_i32_i16(a: int) -> int:
    return ((a & 0xFFFF) ^ 0x8000) - 0x8000


@instruction(SOP1, 48, "im:i")
def s_abs_i32(a: int) -> tuple[int, bool]:
    return abs(a), a != 0


# -- EXEC is saved in the destination, and becomes this function of the operand and itself --------------------


@instruction(SOP1, 32, "qm:qq", saves_exec=True)
def s_and_saveexec_b64(a: int, active: int) -> tuple[int, bool]:
    return a & active, (a & active) != 0


@instruction(SOP1, 33, "qm:qq", saves_exec=True)
def s_or_saveexec_b64(a: int, active: int) -> tuple[int, bool]:
    return a | active, (a | active) != 0


@instruction(SOP1, 34, "qm:qq", saves_exec=True)
def s_xor_saveexec_b64(a: int, active: int) -> tuple[int, bool]:
    return a ^ active, (a ^ active) != 0


@instruction(SOP1, 35, "qm:qq", saves_exec=True)
def s_andn2_saveexec_b64(a: int, active: int) -> tuple[int, bool]:
    return a & ~active, (a & ~active) != 0


# -- arithmetic ----------------------------------------------------------------------------------------------


@instruction(SOP2, 0, "um:uu")
def s_add_u32(a: int, b: int) -> tuple[int, bool]:
    return a + b, a + b > 0xFFFFFFFF


@instruction(SOP2, 1, "um:uu")
def s_sub_u32(a: int, b: int) -> tuple[int, bool]:
    return a - b, b > a


@instruction(SOP2, 2, "im:ii")
def s_add_i32(a: int, b: int) -> tuple[int, bool]:
    return a + b, a + b != _wide(a + b)


@instruction(SOP2, 3, "im:ii")
def s_sub_i32(a: int, b: int) -> tuple[int, bool]:
    return a - b, a - b != _wide(a - b)


@instruction(SOP2, 4, "um:uum")
def s_addc_u32(a: int, b: int, m: bool) -> tuple[int, bool]:
    total = a + b + (1 if m else 0)
    return total, total > 0xFFFFFFFF


@instruction(SOP2, 5, "um:uum")
def s_subb_u32(a: int, b: int, m: bool) -> tuple[int, bool]:
    taken = b + (1 if m else 0)
    return a - taken, taken > a


@instruction(SOP2, 6, "im:ii")
def s_min_i32(a: int, b: int) -> tuple[int, bool]:
    return min(a, b), a < b


@instruction(SOP2, 7, "um:uu")
def s_min_u32(a: int, b: int) -> tuple[int, bool]:
    return min(a, b), a < b


@instruction(SOP2, 8, "im:ii")
def s_max_i32(a: int, b: int) -> tuple[int, bool]:
    return max(a, b), a >= b


@instruction(SOP2, 9, "um:uu")
def s_max_u32(a: int, b: int) -> tuple[int, bool]:
    return max(a, b), a >= b


@instruction(SOP2, 10, "u:uum")
def s_cselect_b32(a: int, b: int, m: bool) -> int:
    return a if m else b


@instruction(SOP2, 11, "q:qqm")
def s_cselect_b64(a: int, b: int, m: bool) -> int:
    return a if m else b


@instruction(SOP2, 36, "i:ii")
def s_mul_i32(a: int, b: int) -> int:
    return a * b


@instruction(SOP2, 44, "u:uu")
def s_mul_hi_u32(a: int, b: int) -> int:
    return np.int64((np.uint64(a) * np.uint64(b)) >> _32)


@instruction(SOP2, 45, "i:ii")
def s_mul_hi_i32(a: int, b: int) -> int:
    return (a * b) >> 32


@instruction(SOP2, 46, "um:uu")
def s_lshl1_add_u32(a: int, b: int) -> tuple[int, bool]:
    return (a << 1) + b, (a << 1) + b > 0xFFFFFFFF


@instruction(SOP2, 47, "um:uu")
def s_lshl2_add_u32(a: int, b: int) -> tuple[int, bool]:
    return (a << 2) + b, (a << 2) + b > 0xFFFFFFFF


@instruction(SOP2, 48, "um:uu")
def s_lshl3_add_u32(a: int, b: int) -> tuple[int, bool]:
    return (a << 3) + b, (a << 3) + b > 0xFFFFFFFF


@instruction(SOP2, 49, "um:uu")
def s_lshl4_add_u32(a: int, b: int) -> tuple[int, bool]:
    return (a << 4) + b, (a << 4) + b > 0xFFFFFFFF


# -- bits: SCC says that the result is not zero ----------------------------------------------------------------


def _and(a: int, b: int) -> tuple[int, bool]:
    return a & b, (a & b) != 0


def _or(a: int, b: int) -> tuple[int, bool]:
    return a | b, (a | b) != 0


def _xor(a: int, b: int) -> tuple[int, bool]:
    return a ^ b, (a ^ b) != 0


def _andn2(a: int, b: int) -> tuple[int, bool]:
    return a & ~b, (a & ~b) != 0


def _orn2_32(a: int, b: int) -> tuple[int, bool]:
    return (a | ~b) & 0xFFFFFFFF, ((a | ~b) & 0xFFFFFFFF) != 0


def _orn2_64(a: int, b: int) -> tuple[int, bool]:
    return a | ~b, (a | ~b) != 0


def _nand_32(a: int, b: int) -> tuple[int, bool]:
    return ~(a & b) & 0xFFFFFFFF, (a & b) != 0xFFFFFFFF


def _nand_64(a: int, b: int) -> tuple[int, bool]:
    return ~(a & b), ~(a & b) != 0


def _nor_32(a: int, b: int) -> tuple[int, bool]:
    return ~(a | b) & 0xFFFFFFFF, (a | b) != 0xFFFFFFFF


def _nor_64(a: int, b: int) -> tuple[int, bool]:
    return ~(a | b), ~(a | b) != 0


def _xnor_32(a: int, b: int) -> tuple[int, bool]:
    return ~(a ^ b) & 0xFFFFFFFF, (a ^ b) != 0xFFFFFFFF


def _xnor_64(a: int, b: int) -> tuple[int, bool]:
    return ~(a ^ b), ~(a ^ b) != 0


for _code, (_word, _of_32, _of_64) in enumerate(
    (
        ("and", _and, _and),
        ("or", _or, _or),
        ("xor", _xor, _xor),
        ("andn2", _andn2, _andn2),
        ("orn2", _orn2_32, _orn2_64),
        ("nand", _nand_32, _nand_64),
        ("nor", _nor_32, _nor_64),
        ("xnor", _xnor_32, _xnor_64),
    )
):
    enter_as(f"s_{_word}_b32", SOP2, 12 + 2 * _code, "um:uu", _of_32)
    enter_as(f"s_{_word}_b64", SOP2, 13 + 2 * _code, "qm:qq", _of_64)


@instruction(SOP2, 28, "um:uu")
def s_lshl_b32(a: int, b: int) -> tuple[int, bool]:
    result = (a << (b & 31)) & 0xFFFFFFFF
    return result, result != 0


@instruction(SOP2, 29, "qm:qu")
def s_lshl_b64(a: int, b: int) -> tuple[int, bool]:
    result = a << np.uint64(b & 63)
    return result, result != 0


@instruction(SOP2, 30, "um:uu")
def s_lshr_b32(a: int, b: int) -> tuple[int, bool]:
    return a >> (b & 31), a >> (b & 31) != 0


@instruction(SOP2, 31, "qm:qu")
def s_lshr_b64(a: int, b: int) -> tuple[int, bool]:
    result = a >> np.uint64(b & 63)
    return result, result != 0


@instruction(SOP2, 32, "im:iu")
def s_ashr_i32(a: int, b: int) -> tuple[int, bool]:
    return a >> (b & 31), a >> (b & 31) != 0


@instruction(SOP2, 33, "lm:lu")
def s_ashr_i64(a: int, b: int) -> tuple[int, bool]:
    return a >> (b & 63), a >> (b & 63) != 0


@instruction(SOP2, 34, "u:uu")
def s_bfm_b32(a: int, b: int) -> int:
    return ((1 << (a & 31)) - 1) << (b & 31)


@instruction(SOP2, 37, "um:uu")
def s_bfe_u32(a: int, b: int) -> tuple[int, bool]:
    result = (a >> (b & 31)) & ((1 << min((b >> 16) & 127, 32)) - 1)
    return result, result != 0


@inlined
def _signed_field(a: int, first: int, width: int, most: int) -> int:
    """Bits of an int64 from `first` on, as a two's complement."""
    if width == 0:
        return 0
    width = min(width, most - first)
    return (a << (64 - first - width)) >> (64 - width)


@instruction(SOP2, 38, "im:iu")
def s_bfe_i32(a: int, b: int) -> tuple[int, bool]:
    result = _signed_field(a, b & 31, (b >> 16) & 127, 32)
    return result, result != 0


@instruction(SOP2, 40, "lm:lu")
def s_bfe_i64(a: int, b: int) -> tuple[int, bool]:
    result = _signed_field(a, b & 63, (b >> 16) & 127, 64)
    return result, result != 0


@instruction(SOP2, 50, "u:uu")
def s_pack_ll_b32_b16(a: int, b: int) -> int:
    return (a & 0xFFFF) | ((b & 0xFFFF) << 16)


@instruction(SOP2, 51, "u:uu")
def s_pack_lh_b32_b16(a: int, b: int) -> int:
    return (a & 0xFFFF) | (b & 0xFFFF0000)


@instruction(SOP2, 52, "u:uu")
def s_pack_hh_b32_b16(a: int, b: int) -> int:
    return (a >> 16) | (b & 0xFFFF0000)


# -- comparisons ---------------------------------------------------------------------------------------------


def _equal(a: int, b: int) -> bool:
    return a == b


def _different(a: int, b: int) -> bool:
    return a != b


def _greater(a: int, b: int) -> bool:
    return a > b


def _greater_equal(a: int, b: int) -> bool:
    return a >= b


def _less(a: int, b: int) -> bool:
    return a < b


def _less_equal(a: int, b: int) -> bool:
    return a <= b


_RELATIONS = {
    "eq": _equal,
    "lg": _different,
    "gt": _greater,
    "ge": _greater_equal,
    "lt": _less,
    "le": _less_equal,
}

for _place, (_word, _function) in enumerate(_RELATIONS.items()):
    enter_as(f"s_cmp_{_word}_i32", SOPC, _place, "m:ii", _function)
    enter_as(f"s_cmp_{_word}_u32", SOPC, 6 + _place, "m:uu", _function)
    enter_as(f"s_cmpk_{_word}_i32", SOPK, 2 + _place, "m:ii", _function, reads_destination=True)
    enter_as(f"s_cmpk_{_word}_u32", SOPK, 8 + _place, "m:uu", _function, reads_destination=True, unsigned=True)
enter_as("s_cmp_eq_u64", SOPC, 18, "m:qq", _equal)
enter_as("s_cmp_lg_u64", SOPC, 19, "m:qq", _different)


@instruction(SOPC, 12, "m:uu")
def s_bitcmp0_b32(a: int, b: int) -> bool:
    return (a >> (b & 31)) & 1 == 0


@instruction(SOPC, 13, "m:uu")
def s_bitcmp1_b32(a: int, b: int) -> bool:
    return (a >> (b & 31)) & 1 == 1


@instruction(SOPC, 14, "m:qu")
def s_bitcmp0_b64(a: int, b: int) -> bool:
    return (a >> np.uint64(b & 63)) & _1 == 0


@instruction(SOPC, 15, "m:qu")
def s_bitcmp1_b64(a: int, b: int) -> bool:
    return (a >> np.uint64(b & 63)) & _1 == 1


# -- with a 16-bit constant ------------------------------------------------------------------------------------


@instruction(SOPK, 0, "i:i")
def s_movk_i32(k: int) -> int:
    return k


@instruction(SOPK, 14, "im:ii", reads_destination=True)
def s_addk_i32(a: int, k: int) -> tuple[int, bool]:
    return a + k, a + k != _wide(a + k)


@instruction(SOPK, 15, "i:ii", reads_destination=True)
def s_mulk_i32(a: int, k: int) -> int:
    return a * k
