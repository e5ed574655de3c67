"""Vector instructions on integers and on bits."""

from __future__ import annotations

import numpy as np

from gdn_verify.emulator.amdgpu.bits import inlined
from gdn_verify.emulator.amdgpu.rows import Spread
from gdn_verify.emulator.amdgpu.table import Family, enter_as, instruction

VOP1, VOP2, VOP3, VOP3P = Family.VOP1, Family.VOP2, Family.VOP3, Family.VOP3P


@instruction(VOP1, 1, "u:u", spread=Spread.APART)
def v_mov_b32(a: int) -> int:
    return a


@instruction(VOP1, 56, "q:q", spread=Spread.APART)
def v_mov_b64(a: int) -> int:
    return a


@instruction(VOP3P, 88, "u:u", accumulator="source", spread=Spread.APART)
def v_accvgpr_read_b32(a: int) -> int:
    return a


@instruction(VOP3P, 89, "u:u", accumulator="destination", spread=Spread.APART)
def v_accvgpr_write_b32(a: int) -> int:
    return a


@instruction(VOP1, 43, "u:u", spread=Spread.APART)
def v_not_b32(a: int) -> int:
    return ~a


@instruction(VOP1, 44, "u:u")
def v_bfrev_b32(a: int) -> int:
    a = ((a >> 1) & 0x55555555) | ((a & 0x55555555) << 1)
    a = ((a >> 2) & 0x33333333) | ((a & 0x33333333) << 2)
    a = ((a >> 4) & 0x0F0F0F0F) | ((a & 0x0F0F0F0F) << 4)
    a = ((a >> 8) & 0x00FF00FF) | ((a & 0x00FF00FF) << 8)
    return (a >> 16) | (a << 16)


@instruction(VOP1, 45, "u:u")
def v_ffbh_u32(a: int) -> int:
    if a == 0:
        return -1
    place = 0
    while not (a << place) & 0x80000000:
        place += 1
    return place


@instruction(VOP1, 46, "u:u")
def v_ffbl_b32(a: int) -> int:
    if a == 0:
        return -1
    place = 0
    while not (a >> place) & 1:
        place += 1
    return place


@instruction(VOP2, 0, "u:uum")
def v_cndmask_b32(a: int, b: int, m: bool) -> int:
    return b if m else a


@instruction(VOP2, 6, "i:ii", cut=24)
def v_mul_i32_i24(a: int, b: int) -> int:
    return (((a & 0xFFFFFF) ^ 0x800000) - 0x800000) * (((b & 0xFFFFFF) ^ 0x800000) - 0x800000)


@instruction(VOP2, 8, "u:uu")
def v_mul_u32_u24(a: int, b: int) -> int:
    return (a & 0xFFFFFF) * (b & 0xFFFFFF)


@instruction(VOP2, 9, "u:uu")
def v_mul_hi_u32_u24(a: int, b: int) -> int:
    return ((a & 0xFFFFFF) * (b & 0xFFFFFF)) >> 32


@instruction(VOP2, 12, "i:ii")
def v_min_i32(a: int, b: int) -> int:
    return min(a, b)


@instruction(VOP2, 13, "i:ii")
def v_max_i32(a: int, b: int) -> int:
    return max(a, b)


@instruction(VOP2, 14, "u:uu")
def v_min_u32(a: int, b: int) -> int:
    return min(a, b)


@instruction(VOP2, 15, "u:uu")
def v_max_u32(a: int, b: int) -> int:
    return max(a, b)


@instruction(VOP2, 16, "u:uu", spread=Spread.RIGHT)
def v_lshrrev_b32(a: int, b: int) -> int:
    return b >> (a & 31)


@instruction(VOP2, 17, "i:ui", spread=Spread.RIGHT)
def v_ashrrev_i32(a: int, b: int) -> int:
    return b >> (a & 31)


@instruction(VOP2, 18, "u:uu", spread=Spread.LEFT)
def v_lshlrev_b32(a: int, b: int) -> int:
    return b << (a & 31)


@instruction(VOP2, 19, "u:uu", spread=Spread.MASK)
def v_and_b32(a: int, b: int) -> int:
    return a & b


@instruction(VOP2, 20, "u:uu", spread=Spread.APART)
def v_or_b32(a: int, b: int) -> int:
    return a | b


@instruction(VOP2, 21, "u:uu", spread=Spread.APART)
def v_xor_b32(a: int, b: int) -> int:
    return a ^ b


@instruction(VOP2, 61, "u:uu", spread=Spread.APART)
def v_xnor_b32(a: int, b: int) -> int:
    return ~(a ^ b)


# -- with a carry: value and bit ----------------------------------------------------------------------


@instruction(VOP2, 25, "um:uu", spread=Spread.UPWARD)
def v_add_co_u32(a: int, b: int) -> tuple[int, bool]:
    return a + b, a + b > 0xFFFFFFFF


@instruction(VOP2, 26, "um:uu", spread=Spread.UPWARD)
def v_sub_co_u32(a: int, b: int) -> tuple[int, bool]:
    return a - b, b > a


@instruction(VOP2, 27, "um:uu")
def v_subrev_co_u32(a: int, b: int) -> tuple[int, bool]:
    return b - a, a > b


@instruction(VOP2, 28, "um:uum")
def v_addc_co_u32(a: int, b: int, m: bool) -> tuple[int, bool]:
    total = a + b + (1 if m else 0)
    return total, total > 0xFFFFFFFF


@instruction(VOP2, 29, "um:uum")
def v_subb_co_u32(a: int, b: int, m: bool) -> tuple[int, bool]:
    taken = b + (1 if m else 0)
    return a - taken, taken > a


@instruction(VOP2, 30, "um:uum")
def v_subbrev_co_u32(a: int, b: int, m: bool) -> tuple[int, bool]:
    taken = a + (1 if m else 0)
    return b - taken, taken > b


@instruction(VOP3, 0x1E8, "qm:uuq", spread=Spread.UPWARD)
def v_mad_u64_u32(a: int, b: int, c: int) -> tuple[int, bool]:
    product = np.uint64(a) * np.uint64(b)
    total = product + c
    return total, total < c


@instruction(VOP3, 0x1E9, "qm:iil", spread=Spread.UPWARD)
def v_mad_i64_i32(a: int, b: int, c: int) -> tuple[int, bool]:
    total = a * b + c
    return np.uint64(total), ((c ^ total) & ((a * b) ^ total)) < 0


# -- without ---------------------------------------------------------------------------------------------


@instruction(VOP2, 52, "u:uu", saturates="unsigned", spread=Spread.UPWARD)
def v_add_u32(a: int, b: int) -> int:
    return a + b


@instruction(VOP2, 53, "u:uu", saturates="unsigned", spread=Spread.UPWARD)
def v_sub_u32(a: int, b: int) -> int:
    return a - b


@instruction(VOP2, 54, "u:uu", saturates="unsigned", spread=Spread.UPWARD)
def v_subrev_u32(a: int, b: int) -> int:
    return b - a


@instruction(VOP3, 0x29C, "i:ii")
def v_add_i32(a: int, b: int) -> int:
    return a + b


@instruction(VOP3, 0x29D, "i:ii")
def v_sub_i32(a: int, b: int) -> int:
    return a - b


@instruction(VOP3, 0x1C3, "u:uuu")
def v_mad_u32_u24(a: int, b: int, c: int) -> int:
    return (a & 0xFFFFFF) * (b & 0xFFFFFF) + c


@instruction(VOP3, 0x1C2, "i:iii")
def v_mad_i32_i24(a: int, b: int, c: int) -> int:
    return (((a & 0xFFFFFF) ^ 0x800000) - 0x800000) * (((b & 0xFFFFFF) ^ 0x800000) - 0x800000) + c


@instruction(VOP3, 0x285, "u:uu", spread=Spread.UPWARD)
def v_mul_lo_u32(a: int, b: int) -> int:
    return a * b


@instruction(VOP3, 0x286, "u:uu")
def v_mul_hi_u32(a: int, b: int) -> int:
    return np.int64((np.uint64(a) * np.uint64(b)) >> np.uint64(32))


@instruction(VOP3, 0x287, "i:ii")
def v_mul_hi_i32(a: int, b: int) -> int:
    return (a * b) >> 32


@instruction(VOP3, 0x1C8, "u:uuu")
def v_bfe_u32(a: int, b: int, c: int) -> int:
    return (a >> (b & 31)) & ((1 << (c & 31)) - 1)


@instruction(VOP3, 0x1C9, "i:iuu")
def v_bfe_i32(a: int, b: int, c: int) -> int:
    width = c & 31
    if width == 0:
        return 0
    sign = 1 << (width - 1)
    return (((a >> (b & 31)) & ((1 << width) - 1)) ^ sign) - sign


@instruction(VOP3, 0x1CA, "u:uuu", spread=Spread.APART)
def v_bfi_b32(a: int, b: int, c: int) -> int:
    return (a & b) | (~a & c)


@instruction(VOP3, 0x1CE, "u:uuu")
def v_alignbit_b32(a: int, b: int, c: int) -> int:
    return np.int64(((np.uint64(a) << np.uint64(32)) | np.uint64(b)) >> np.uint64(c & 31))


@instruction(VOP3, 0x1CF, "u:uuu")
def v_alignbyte_b32(a: int, b: int, c: int) -> int:
    return np.int64(((np.uint64(a) << np.uint64(32)) | np.uint64(b)) >> np.uint64(8 * (c & 3)))


@inlined
def _byte(high: int, low: int, select: int) -> int:
    if select >= 13:
        return 0xFF
    if select == 12:
        return 0
    if select >= 8:  # the sign of bytes 1, 3, 5, 7
        source = high if select >= 10 else low
        return 0xFF if (source >> (15 + 16 * (select & 1))) & 1 else 0
    return ((high >> (8 * (select - 4))) if select >= 4 else (low >> (8 * select))) & 0xFF


@instruction(VOP3, 0x1ED, "u:uuu", spread=Spread.PERMUTE)
def v_perm_b32(a: int, b: int, c: int) -> int:
    result = 0
    for place in range(4):
        result |= _byte(a, b, (c >> (8 * place)) & 0xFF) << (8 * place)
    return result


@instruction(VOP3, 0x1F3, "u:uuu", spread=Spread.UPWARD)
def v_xad_u32(a: int, b: int, c: int) -> int:
    return (a ^ b) + c


@instruction(VOP3, 0x1FD, "u:uuu", spread=Spread.UPWARD)
def v_lshl_add_u32(a: int, b: int, c: int) -> int:
    return (a << (b & 31)) + c


@instruction(VOP3, 0x1FE, "u:uuu", spread=Spread.UPWARD)
def v_add_lshl_u32(a: int, b: int, c: int) -> int:
    return ((a + b) & 0xFFFFFFFF) << (c & 31)


@instruction(VOP3, 0x1FF, "u:uuu", spread=Spread.UPWARD)
def v_add3_u32(a: int, b: int, c: int) -> int:
    return a + b + c


@instruction(VOP3, 0x200, "u:uuu", spread=Spread.UPWARD)
def v_lshl_or_b32(a: int, b: int, c: int) -> int:
    return (a << (b & 31)) | c


@instruction(VOP3, 0x201, "u:uuu", spread=Spread.APART)
def v_and_or_b32(a: int, b: int, c: int) -> int:
    return (a & b) | c


@instruction(VOP3, 0x202, "u:uuu", spread=Spread.APART)
def v_or3_b32(a: int, b: int, c: int) -> int:
    return a | b | c


@instruction(VOP3, 0x208, "q:quq", spread=Spread.UPWARD)
def v_lshl_add_u64(a: int, b: int, c: int) -> int:
    return (a << np.uint64(b & 7)) + c


@instruction(VOP3, 0x28F, "q:uq", spread=Spread.UPWARD)
def v_lshlrev_b64(a: int, b: int) -> int:
    return b << np.uint64(a & 63)


@instruction(VOP3, 0x290, "q:uq")
def v_lshrrev_b64(a: int, b: int) -> int:
    return b >> np.uint64(a & 63)


@instruction(VOP3, 0x291, "l:ul")
def v_ashrrev_i64(a: int, b: int) -> int:
    return b >> (a & 63)


@instruction(VOP3, 0x28B, "u:uu")
def v_bcnt_u32_b32(a: int, b: int) -> int:
    total = b
    for place in range(32):
        total += (a >> place) & 1
    return total


@instruction(VOP3, 0x1D7, "i:iii")
def v_med3_i32(a: int, b: int, c: int) -> int:
    return max(min(a, b), min(max(a, b), c))


# -- 16 bits, the upper half of the result zero ----------------------------------------------------------


@instruction(VOP2, 38, "w:ww")
def v_add_u16(a: int, b: int) -> int:
    return a + b


@instruction(VOP2, 39, "w:ww")
def v_sub_u16(a: int, b: int) -> int:
    return a - b


@instruction(VOP2, 40, "w:ww")
def v_subrev_u16(a: int, b: int) -> int:
    return b - a


@instruction(VOP2, 41, "w:ww")
def v_mul_lo_u16(a: int, b: int) -> int:
    return a * b


@instruction(VOP2, 42, "w:ww")
def v_lshlrev_b16(a: int, b: int) -> int:
    return b << (a & 15)


@instruction(VOP2, 43, "w:ww")
def v_lshrrev_b16(a: int, b: int) -> int:
    return b >> (a & 15)


@instruction(VOP2, 44, "s:ws")
def v_ashrrev_i16(a: int, b: int) -> int:
    return b >> (a & 15)


@instruction(VOP2, 47, "w:ww")
def v_max_u16(a: int, b: int) -> int:
    return max(a, b)


@instruction(VOP2, 48, "s:ss")
def v_max_i16(a: int, b: int) -> int:
    return max(a, b)


@instruction(VOP2, 49, "w:ww")
def v_min_u16(a: int, b: int) -> int:
    return min(a, b)


@instruction(VOP2, 50, "s:ss")
def v_min_i16(a: int, b: int) -> int:
    return min(a, b)


@instruction(VOP3, 0x2A0, "u:ww", halves=True, spread=Spread.PACK)
def v_pack_b32_f16(a: int, b: int) -> int:
    return a | (b << 16)


# -- comparisons: eight relations, numbered as in the encoding -------------------------------------------


def _less(a: int, b: int) -> bool:
    return a < b


def _equal(a: int, b: int) -> bool:
    return a == b


def _less_equal(a: int, b: int) -> bool:
    return a <= b


def _greater(a: int, b: int) -> bool:
    return a > b


def _different(a: int, b: int) -> bool:
    return a != b


def _greater_equal(a: int, b: int) -> bool:
    return a >= b


_RELATIONS = {
    1: ("lt", _less),
    2: ("eq", _equal),
    3: ("le", _less_equal),
    4: ("gt", _greater),
    5: ("ne", _different),
    6: ("ge", _greater_equal),
}
_COMPARED = {"i16": (0xA0, "s"), "u16": (0xA8, "w"), "i32": (0xC0, "i"), "u32": (0xC8, "u"), "i64": (0xE0, "l")}
_COMPARED |= {"u64": (0xE8, "q")}

for _kind, (_first, _letter) in _COMPARED.items():
    for _place, (_word, _function) in _RELATIONS.items():
        enter_as(f"v_cmp_{_word}_{_kind}", Family.VOPC, _first + _place, f"m:{_letter}{_letter}", _function)


# -- gfx950 ------------------------------------------------------------------------------------------------


@instruction(VOP1, 82, "u:u", accumulator="both", spread=Spread.APART)
def v_accvgpr_mov_b32(a: int) -> int:
    return a


@instruction(VOP3, 0x234, "u:uuuk", only="gfx950", truth_table=True, spread=Spread.APART)
def v_bitop3_b32(a: int, b: int, c: int, table: int) -> int:
    result = 0
    for place in range(8):
        if (table >> place) & 1:
            result |= (a if place & 4 else ~a) & (b if place & 2 else ~b) & (c if place & 1 else ~c)
    return result
