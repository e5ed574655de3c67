"""Instructions that read and write memory: how wide, which way, and what an atomic makes of the two numbers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from gdn_verify.emulator.amdgpu.table import Family, Operation, add


class Way(IntEnum):
    """What an access does; of the atomics, how the new number comes of the old one and the operand."""

    LOAD = 0
    STORE = 1
    SWAP = 2
    COMPARE_SWAP = 3
    ADD = 4
    SUB = 5
    SIGNED_MIN = 6
    UNSIGNED_MIN = 7
    SIGNED_MAX = 8
    UNSIGNED_MAX = 9
    AND = 10
    OR = 11
    XOR = 12
    ADD_F32 = 13
    ADD_F64 = 14
    MAX_F64 = 15
    MIN_F64 = 16
    PACKED_ADD_F16 = 17
    PACKED_ADD_BF16 = 18


class Half(IntEnum):
    """Which half of a register 16 bits go to or come from; the other half is kept."""

    NONE = 0
    LOW = 1
    HIGH = 2


@dataclass(frozen=True)
class Shape:
    """`size` bytes at each of `places`, whose offsets count in units of `unit` bytes.

    A size below 4 is extended to a register, or goes to a `half` of it.
    """

    way: Way
    size: int
    signed: bool = False
    half: Half = Half.NONE
    places: int = 1
    unit: int = 1
    returns: bool = False

    @property
    def dwords(self) -> int:
        """Registers of data of one place."""
        return max(1, self.size // 4)


_LOADS = {
    16: ("load_ubyte", Shape(Way.LOAD, 1)),
    17: ("load_sbyte", Shape(Way.LOAD, 1, signed=True)),
    18: ("load_ushort", Shape(Way.LOAD, 2)),
    19: ("load_sshort", Shape(Way.LOAD, 2, signed=True)),
    20: ("load_dword", Shape(Way.LOAD, 4)),
    21: ("load_dwordx2", Shape(Way.LOAD, 8)),
    22: ("load_dwordx3", Shape(Way.LOAD, 12)),
    23: ("load_dwordx4", Shape(Way.LOAD, 16)),
    24: ("store_byte", Shape(Way.STORE, 1)),
    25: ("store_byte_d16_hi", Shape(Way.STORE, 1, half=Half.HIGH)),
    26: ("store_short", Shape(Way.STORE, 2)),
    27: ("store_short_d16_hi", Shape(Way.STORE, 2, half=Half.HIGH)),
    28: ("store_dword", Shape(Way.STORE, 4)),
    29: ("store_dwordx2", Shape(Way.STORE, 8)),
    30: ("store_dwordx3", Shape(Way.STORE, 12)),
    31: ("store_dwordx4", Shape(Way.STORE, 16)),
    32: ("load_ubyte_d16", Shape(Way.LOAD, 1, half=Half.LOW)),
    33: ("load_ubyte_d16_hi", Shape(Way.LOAD, 1, half=Half.HIGH)),
    34: ("load_sbyte_d16", Shape(Way.LOAD, 1, signed=True, half=Half.LOW)),
    35: ("load_sbyte_d16_hi", Shape(Way.LOAD, 1, signed=True, half=Half.HIGH)),
    36: ("load_short_d16", Shape(Way.LOAD, 2, half=Half.LOW)),
    37: ("load_short_d16_hi", Shape(Way.LOAD, 2, half=Half.HIGH)),
}

_ATOMICS = {
    64: ("swap", Way.SWAP),
    65: ("cmpswap", Way.COMPARE_SWAP),
    66: ("add", Way.ADD),
    67: ("sub", Way.SUB),
    68: ("smin", Way.SIGNED_MIN),
    69: ("umin", Way.UNSIGNED_MIN),
    70: ("smax", Way.SIGNED_MAX),
    71: ("umax", Way.UNSIGNED_MAX),
    72: ("and", Way.AND),
    73: ("or", Way.OR),
    74: ("xor", Way.XOR),
}
_FLOAT_ATOMICS = {
    77: ("add_f32", Way.ADD_F32, 4),
    78: ("pk_add_f16", Way.PACKED_ADD_F16, 4),
    79: ("add_f64", Way.ADD_F64, 8),
    80: ("min_f64", Way.MIN_F64, 8),
    81: ("max_f64", Way.MAX_F64, 8),
    82: ("pk_add_bf16", Way.PACKED_ADD_BF16, 4),
}

for _family, _prefix in (
    (Family.GLOBAL, "global"),
    (Family.FLAT, "flat"),
    (Family.MUBUF, "buffer"),
):
    for _code, (_name, _shape) in _LOADS.items():
        add(Operation(f"{_prefix}_{_name}", _family, _code, traits={"shape": _shape}))
    for _code, (_name, _way) in _ATOMICS.items():
        add(Operation(f"{_prefix}_atomic_{_name}", _family, _code, traits={"shape": Shape(_way, 4)}))
        add(Operation(f"{_prefix}_atomic_{_name}_x2", _family, _code + 32, traits={"shape": Shape(_way, 8)}))
    for _code, (_name, _way, _size) in _FLOAT_ATOMICS.items():
        if _family is Family.MUBUF and _way is Way.PACKED_ADD_BF16:
            continue  # gfx950 has it, and nothing here was seen to need it
        add(Operation(f"{_prefix}_atomic_{_name}", _family, _code, traits={"shape": Shape(_way, _size)}))

for _code in (20, 21, 22, 23, 28, 29, 30, 31):  # whole registers, as compilers spill them
    _name, _shape = _LOADS[_code]
    add(Operation(f"scratch_{_name}", Family.SCRATCH, _code, traits={"shape": _shape}))

# Caches are not modelled: there is one memory, and every store is seen at once. These only count as accesses.
add(Operation("buffer_wbl2", Family.MUBUF, 40, traits={"cache": True}))
add(Operation("buffer_inv", Family.MUBUF, 41, traits={"cache": True}))

_SHARED = {
    0: ("add_u32", Shape(Way.ADD, 4)),
    21: ("add_f32", Shape(Way.ADD_F32, 4)),
    13: ("write_b32", Shape(Way.STORE, 4)),
    14: ("write2_b32", Shape(Way.STORE, 4, places=2, unit=4)),
    15: ("write2st64_b32", Shape(Way.STORE, 4, places=2, unit=256)),
    30: ("write_b8", Shape(Way.STORE, 1)),
    31: ("write_b16", Shape(Way.STORE, 2)),
    32: ("add_rtn_u32", Shape(Way.ADD, 4, returns=True)),
    54: ("read_b32", Shape(Way.LOAD, 4)),
    55: ("read2_b32", Shape(Way.LOAD, 4, places=2, unit=4)),
    56: ("read2st64_b32", Shape(Way.LOAD, 4, places=2, unit=256)),
    57: ("read_i8", Shape(Way.LOAD, 1, signed=True)),
    58: ("read_u8", Shape(Way.LOAD, 1)),
    59: ("read_i16", Shape(Way.LOAD, 2, signed=True)),
    60: ("read_u16", Shape(Way.LOAD, 2)),
    77: ("write_b64", Shape(Way.STORE, 8)),
    78: ("write2_b64", Shape(Way.STORE, 8, places=2, unit=8)),
    79: ("write2st64_b64", Shape(Way.STORE, 8, places=2, unit=512)),
    84: ("write_b8_d16_hi", Shape(Way.STORE, 1, half=Half.HIGH)),
    85: ("write_b16_d16_hi", Shape(Way.STORE, 2, half=Half.HIGH)),
    86: ("read_u8_d16", Shape(Way.LOAD, 1, half=Half.LOW)),
    87: ("read_u8_d16_hi", Shape(Way.LOAD, 1, half=Half.HIGH)),
    88: ("read_i8_d16", Shape(Way.LOAD, 1, signed=True, half=Half.LOW)),
    89: ("read_i8_d16_hi", Shape(Way.LOAD, 1, signed=True, half=Half.HIGH)),
    90: ("read_u16_d16", Shape(Way.LOAD, 2, half=Half.LOW)),
    91: ("read_u16_d16_hi", Shape(Way.LOAD, 2, half=Half.HIGH)),
    118: ("read_b64", Shape(Way.LOAD, 8)),
    119: ("read2_b64", Shape(Way.LOAD, 8, places=2, unit=8)),
    120: ("read2st64_b64", Shape(Way.LOAD, 8, places=2, unit=512)),
    222: ("write_b96", Shape(Way.STORE, 12)),
    223: ("write_b128", Shape(Way.STORE, 16)),
    254: ("read_b96", Shape(Way.LOAD, 12)),
    255: ("read_b128", Shape(Way.LOAD, 16)),
}
for _code, (_name, _shape) in _SHARED.items():
    add(Operation(f"ds_{_name}", Family.DS, _code, traits={"shape": _shape}))
