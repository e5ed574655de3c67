"""The same for scalar instructions: SCC is the letter m, before as an argument and after as a result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numbers_as_bits import signed
from references import _SIMPLE, U32, U64, Reference, _field

SCALAR_REFERENCES: dict[str, Reference] = {}


def _add(name: str, arguments: str, results: str, function: Callable[..., Any]) -> None:
    assert name not in SCALAR_REFERENCES, name
    SCALAR_REFERENCES[name] = Reference(arguments, results, function)


def _overflows(total: int) -> tuple[int, bool]:
    """A sum of signed numbers, and whether it has no room."""
    return total & U32, total != signed(total, 32)


def _nonzero(value: int) -> tuple[int, bool]:
    return value, value != 0


def _s(x: int) -> int:
    return signed(x, 32)


_add("s_mov_b32", "u", "u", lambda a: a)
_add("s_mov_b64", "q", "q", lambda a: a)
_add("s_not_b32", "u", "um", lambda a: _nonzero(a ^ U32))
_add("s_not_b64", "q", "qm", lambda a: _nonzero(a ^ U64))
_add("s_brev_b32", "u", "u", lambda a: int(f"{a:032b}"[::-1], 2))
_add("s_bcnt1_i32_b32", "u", "um", lambda a: _nonzero(a.bit_count()))
_add("s_bcnt1_i32_b64", "q", "um", lambda a: _nonzero(a.bit_count()))
_add("s_ff1_i32_b32", "u", "u", lambda a: (a & -a).bit_length() - 1 if a else U32)
_add("s_ff1_i32_b64", "q", "u", lambda a: (a & -a).bit_length() - 1 if a else U32)
_add("s_sext_i32_i8", "u", "u", lambda a: signed(a, 8) & U32)
_add("s_sext_i32_i16", "u", "u", lambda a: signed(a, 16) & U32)
_add("s_abs_i32", "u", "um", lambda a: _nonzero(abs(_s(a)) & U32))
_add("s_add_u32", "uu", "um", lambda a, b: ((a + b) & U32, a + b > U32))
_add("s_sub_u32", "uu", "um", lambda a, b: ((a - b) & U32, b > a))
_add("s_add_i32", "uu", "um", lambda a, b: _overflows(_s(a) + _s(b)))
_add("s_sub_i32", "uu", "um", lambda a, b: _overflows(_s(a) - _s(b)))
_add("s_addc_u32", "uum", "um", lambda a, b, m: ((a + b + m) & U32, a + b + m > U32))
_add("s_subb_u32", "uum", "um", lambda a, b, m: ((a - b - m) & U32, b + m > a))
_add("s_min_i32", "uu", "um", lambda a, b: (min(_s(a), _s(b)) & U32, _s(a) < _s(b)))
_add("s_max_i32", "uu", "um", lambda a, b: (max(_s(a), _s(b)) & U32, _s(a) >= _s(b)))
_add("s_min_u32", "uu", "um", lambda a, b: (min(a, b), a < b))
_add("s_max_u32", "uu", "um", lambda a, b: (max(a, b), a >= b))
_add("s_cselect_b32", "uum", "u", lambda a, b, m: a if m else b)
_add("s_cselect_b64", "qqm", "q", lambda a, b, m: a if m else b)
_add("s_mul_i32", "uu", "u", lambda a, b: a * b & U32)
_add("s_mul_hi_u32", "uu", "u", lambda a, b: a * b >> 32)
_add("s_mul_hi_i32", "uu", "u", lambda a, b: (_s(a) * _s(b) >> 32) & U32)
for _shift in (1, 2, 3, 4):
    _add(
        f"s_lshl{_shift}_add_u32", "uu", "um",
        lambda a, b, shift=_shift: (((a << shift) + b) & U32, (a << shift) + b > U32),
    )  # fmt: skip
for _letter, _width, _all in (("u", 32, U32), ("q", 64, U64)):
    for _word, _function in (
        ("and", lambda a, b: a & b),
        ("or", lambda a, b: a | b),
        ("xor", lambda a, b: a ^ b),
        ("andn2", lambda a, b, all=_all: a & (b ^ all)),
        ("orn2", lambda a, b, all=_all: a | (b ^ all)),
        ("nand", lambda a, b, all=_all: (a & b) ^ all),
        ("nor", lambda a, b, all=_all: (a | b) ^ all),
        ("xnor", lambda a, b, all=_all: (a ^ b) ^ all),
    ):
        _add(f"s_{_word}_b{_width}", 2 * _letter, f"{_letter}m", lambda a, b, f=_function: _nonzero(f(a, b)))
_add("s_lshl_b32", "uu", "um", lambda a, b: _nonzero((a << (b % 32)) & U32))
_add("s_lshl_b64", "qu", "qm", lambda a, b: _nonzero((a << (b % 64)) & U64))
_add("s_lshr_b32", "uu", "um", lambda a, b: _nonzero(a >> (b % 32)))
_add("s_lshr_b64", "qu", "qm", lambda a, b: _nonzero(a >> (b % 64)))
_add("s_ashr_i32", "uu", "um", lambda a, b: _nonzero((_s(a) >> (b % 32)) & U32))
_add("s_ashr_i64", "qu", "qm", lambda a, b: _nonzero((signed(a, 64) >> (b % 64)) & U64))
_add("s_bfm_b32", "uu", "u", lambda a, b: (((1 << (a % 32)) - 1) << (b % 32)) & U32)
# A field that reaches beyond the number ends with it.
_add("s_bfe_u32", "uu", "um", lambda a, b: _nonzero(_field(a, b % 32, (b >> 16) % 128, False) & U32))


def _signed_field(a: int, b: int, width: int) -> tuple[int, bool]:
    first, count = b % width, (b >> 16) % 128
    value = signed((a >> first) & ((1 << count) - 1), min(count, width - first)) if count else 0
    return _nonzero(value & ((1 << width) - 1))


_add("s_bfe_i32", "uu", "um", lambda a, b: _signed_field(a, b, 32))
_add("s_bfe_i64", "qu", "qm", lambda a, b: _signed_field(a, b, 64))
_add("s_pack_ll_b32_b16", "uu", "u", lambda a, b: (a & 0xFFFF) | ((b & 0xFFFF) << 16))
_add("s_pack_lh_b32_b16", "uu", "u", lambda a, b: (a & 0xFFFF) | (b >> 16 << 16))
_add("s_pack_hh_b32_b16", "uu", "u", lambda a, b: (a >> 16) | (b >> 16 << 16))
for _word in ("lt", "eq", "le", "gt", "ne", "ge"):
    _name = "lg" if _word == "ne" else _word
    _add(f"s_cmp_{_name}_i32", "uu", "m", lambda a, b, f=_SIMPLE[_word]: f(_s(a), _s(b)))
    _add(f"s_cmp_{_name}_u32", "uu", "m", _SIMPLE[_word])
_add("s_cmp_eq_u64", "qq", "m", _SIMPLE["eq"])
_add("s_cmp_lg_u64", "qq", "m", _SIMPLE["ne"])
_add("s_bitcmp0_b32", "uu", "m", lambda a, b: (a >> (b % 32)) & 1 == 0)
_add("s_bitcmp1_b32", "uu", "m", lambda a, b: (a >> (b % 32)) & 1 == 1)
_add("s_bitcmp0_b64", "qu", "m", lambda a, b: (a >> (b % 64)) & 1 == 0)
_add("s_bitcmp1_b64", "qu", "m", lambda a, b: (a >> (b % 64)) & 1 == 1)
