"""Rows of instructions that access memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gdn_verify.emulator.amdgpu import rows as r
from gdn_verify.emulator.amdgpu.access import Half, Shape, Way
from gdn_verify.emulator.amdgpu.encoding import Instruction, refuse
from gdn_verify.emulator.amdgpu.rows import Kind, Lanes
from gdn_verify.emulator.amdgpu.table import Family

Row = NDArray[np.int64]

_OFF = 0x7F
"""In place of a scalar address: none."""
_PULLS = {"ds_swizzle_b32": Lanes.SWIZZLE, "ds_permute_b32": Lanes.PUSH, "ds_bpermute_b32": Lanes.PULL}


def lower_memory(row: Row, instruction: Instruction) -> None:
    """Fill a row; raises UnsupportedError."""
    family = instruction.operation.family
    if family is Family.SMEM:
        _lower_scalar_load(row, instruction)
    elif instruction.name in _PULLS:
        _lower_pull(row, instruction)
    elif "cache" in instruction.operation.traits:
        row[r.KIND] = Kind.CACHE
    elif family is Family.DS:
        _lower_shared(row, instruction)
    elif family is Family.MUBUF:
        _lower_buffer(row, instruction)
    else:
        _lower_global(row, instruction)


def _lower_scalar_load(row: Row, instruction: Instruction) -> None:
    row[r.KIND], row[r.DST], row[r.BASE] = Kind.SCALAR_LOAD, instruction["sdst"], 2 * instruction["sbase"]
    row[r.DST_WIDTH] = row[r.SIZE] = instruction.operation.traits["dwords"]
    if instruction["imm"]:
        row[r.OFFSET0] = (instruction["offset"] ^ 0x100000) - 0x100000
        if instruction["soffset_en"]:
            row[r.SCALAR_OFFSET] = instruction["soffset"]
    elif instruction["soffset_en"]:
        row[r.SCALAR_OFFSET] = instruction["soffset"]
    else:
        row[r.SCALAR_OFFSET] = instruction["offset"] & 0x7F


def _shape(row: Row, instruction: Instruction, data: int, returned: int, returns: bool) -> None:
    """What is the same for every access: the data's registers, and how they are filled."""
    shape: Shape = instruction.operation.traits["shape"]
    row[r.WAY], row[r.SIZE], row[r.EXTENDS], row[r.PLACES] = shape.way, shape.size, shape.signed, shape.places
    above = r.AGPR if instruction["acc"] else r.VGPR
    loads = shape.way is Way.LOAD
    row[r.RETURNS] = loads or returns
    row[r.DATA] = -1 if loads else above + data
    if row[r.RETURNS]:
        row[r.DST], row[r.DST_WIDTH] = above + returned, shape.dwords * shape.places
    if shape.half is not Half.NONE:
        row[r.DST_BITS], row[r.DST_KEEPS] = 16, 1
        row[r.DST_SHIFT] = 16 * (shape.half is Half.HIGH)


def _lower_shared(row: Row, instruction: Instruction) -> None:
    shape: Shape = instruction.operation.traits["shape"]
    if instruction["gds"]:
        raise refuse(instruction, "gds")
    row[r.KIND] = Kind.SHARED
    _shape(row, instruction, instruction["data0"], instruction["vdst"], shape.returns)
    row[r.ADDRESS], row[r.ADDRESS_WIDTH] = r.VGPR + instruction["addr"], 1
    if shape.places == 1:
        row[r.OFFSET0] = instruction["offset"]
    else:
        row[r.OFFSET0], row[r.OFFSET1] = instruction["offset0"] * shape.unit, instruction["offset1"] * shape.unit
        row[r.DATA1] = (r.AGPR if instruction["acc"] else r.VGPR) + instruction["data1"]


def _lower_private(row: Row, instruction: Instruction) -> None:
    """Memory of a lane. The bit that means LDS elsewhere says here that there is a vector address."""
    row[r.KIND] = Kind.PRIVATE
    _shape(row, instruction, instruction["data"], instruction["vdst"], False)
    row[r.OFFSET0] = (instruction["offset"] ^ 0x1000) - 0x1000
    if instruction["lds"]:
        row[r.ADDRESS], row[r.ADDRESS_WIDTH] = r.VGPR + instruction["addr"], 1
    if instruction["saddr"] != _OFF:
        row[r.SCALAR_OFFSET] = instruction["saddr"]


def _lower_global(row: Row, instruction: Instruction) -> None:
    if instruction["lds"] and instruction.operation.family is not Family.SCRATCH:
        raise refuse(instruction, "lds")
    if instruction.operation.family is Family.FLAT:
        raise refuse(instruction, "a flat address")
    if instruction.operation.family is Family.SCRATCH:
        _lower_private(row, instruction)
        return
    row[r.KIND] = Kind.MEMORY
    shape: Shape = instruction.operation.traits["shape"]
    atomic = shape.way not in (Way.LOAD, Way.STORE)
    _shape(row, instruction, instruction["data"], instruction["vdst"], atomic and bool(instruction["sc0"]))
    row[r.ADDRESS] = r.VGPR + instruction["addr"]
    row[r.OFFSET0] = (instruction["offset"] ^ 0x1000) - 0x1000
    if instruction["saddr"] == _OFF:
        row[r.ADDRESS_WIDTH] = 2
    else:
        row[r.ADDRESS_WIDTH], row[r.BASE] = 1, instruction["saddr"]


def _lower_buffer(row: Row, instruction: Instruction) -> None:
    for field in ("idxen", "lds"):
        if instruction[field]:
            raise refuse(instruction, field)
    row[r.KIND], row[r.BUFFER] = Kind.MEMORY, 1
    shape: Shape = instruction.operation.traits["shape"]
    atomic = shape.way not in (Way.LOAD, Way.STORE)
    _shape(row, instruction, instruction["vdata"], instruction["vdata"], atomic and bool(instruction["sc0"]))
    row[r.BASE], row[r.OFFSET0] = 4 * instruction["srsrc"], instruction["offset"]
    if instruction["offen"]:
        row[r.ADDRESS], row[r.ADDRESS_WIDTH] = r.VGPR + instruction["vaddr"], 1
    scalar = instruction["soffset"]
    if scalar <= 101 or scalar in (r.VCC, r.VCC + 1, r.M0):
        row[r.SCALAR_OFFSET] = scalar
    elif 128 <= scalar <= 192:
        row[r.OFFSET0] += scalar - 128
    else:
        raise refuse(instruction, f"soffset {scalar}")


def _lower_pull(row: Row, instruction: Instruction) -> None:
    row[r.KIND], row[r.OP] = Kind.LANES, _PULLS[instruction.name]
    row[r.DST], row[r.DST_WIDTH] = r.VGPR + instruction["vdst"], 1
    row[r.OFFSET0] = instruction["offset"]
    swizzles = row[r.OP] == Lanes.SWIZZLE
    data = instruction["addr"] if swizzles else instruction["data0"]
    for column, register in ((r.A, data), (r.B, instruction["addr"])):
        row[column + r.CODE], row[column + r.WIDTH], row[column + r.AND] = r.VGPR + register, 1, -1
    row[r.PLACES] = 1  # counted as an access of shared memory: its result has to be waited for
