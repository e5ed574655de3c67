"""Decoded instructions made rows for the machine. What a row cannot say is refused here, with the instruction."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gdn_verify.emulator.amdgpu import rows as r
from gdn_verify.emulator.amdgpu.encoding import Instruction, refuse
from gdn_verify.emulator.amdgpu.lower_memory import lower_memory
from gdn_verify.emulator.amdgpu.numbering import SCALAR_NUMBER, VECTOR_NUMBER
from gdn_verify.emulator.amdgpu.rows import Bits, Condition, Kind, Lanes, Spread
from gdn_verify.emulator.amdgpu.table import VECTOR, WIDTH, Family

Row = NDArray[np.int64]

_SIGN = {"f": 31, "h": 15, "w": 15, "s": 15, "d": 63, "u": 31, "i": 31, "q": 63, "l": 63}
_BRANCHES = {
    "s_branch": Condition.ALWAYS,
    "s_cbranch_scc0": Condition.SCC0,
    "s_cbranch_scc1": Condition.SCC1,
    "s_cbranch_vccz": Condition.VCCZ,
    "s_cbranch_vccnz": Condition.VCCNZ,
    "s_cbranch_execz": Condition.EXECZ,
    "s_cbranch_execnz": Condition.EXECNZ,
}
_LANES = {
    "v_readfirstlane_b32": Lanes.READ_FIRST,
    "v_readlane_b32": Lanes.READ,
    "v_writelane_b32": Lanes.WRITE,
    "v_mbcnt_lo_u32_b32": Lanes.COUNT_LOW,
    "v_mbcnt_hi_u32_b32": Lanes.COUNT_HIGH,
    "v_permlane16_swap_b32": Lanes.SWAP_16,
    "v_permlane32_swap_b32": Lanes.SWAP_32,
}
_PLAIN = {"s_endpgm": Kind.END, "s_barrier": Kind.BARRIER, "s_nop": Kind.NOTHING, "s_sleep": Kind.NOTHING}
_PLAIN |= {"s_setprio": Kind.NOTHING, "v_nop": Kind.NOTHING}
_FLOATS = {240: 0.5, 241: -0.5, 242: 1.0, 243: -1.0, 244: 2.0, 245: -2.0, 246: 4.0, 247: -4.0, 248: 0.15915494309189535}
_BITWISE = {"and": Bits.AND, "lshl": Bits.LEFT, "lshr": Bits.RIGHT}
_BITWISE |= dict.fromkeys(("or", "xor", "andn2", "orn2", "nand", "nor", "xnor", "mov", "not"), Bits.SAME)
_BITWISE |= dict.fromkeys(("add", "sub", "mul", "addk", "mulk"), Bits.SAME_AND_LOWER)


def lower(instructions: Sequence[Instruction], arch: str) -> Row:
    """int64 [instructions, columns]. Raises UnknownInstructionError."""
    table = np.zeros((len(instructions), r.COUNT), np.int64)
    places = {instruction.offset: number for number, instruction in enumerate(instructions)}
    for row, instruction in zip(table, instructions, strict=True):
        row[r.OFFSET] = instruction.offset
        row[[r.DST, r.MASK_IN, r.MASK_OUT, r.DPP, r.BASE, r.SCALAR_OFFSET, r.DATA1]] = -1
        if instruction.operation.traits.get("only", arch) != arch:
            raise refuse(instruction, f"the chip {arch}")
        _lower_one(row, instruction, places)
    return table


def _lower_one(row: Row, instruction: Instruction, places: dict[int, int]) -> None:
    name, family = instruction.name, instruction.operation.family
    if name in _BRANCHES:
        row[r.KIND], row[r.OP] = Kind.BRANCH, _BRANCHES[name]
        distance = (instruction["simm"] ^ 0x8000) - 0x8000
        row[r.TARGET] = places.get(instruction.offset + 4 + 4 * distance, -1)
    elif name in _PLAIN:
        row[r.KIND] = _PLAIN[name]
    elif name == "s_waitcnt":
        simm = instruction["simm"]
        row[r.KIND] = Kind.WAIT
        row[r.VMCNT], row[r.LGKMCNT] = (simm & 15) | ((simm >> 14) << 4), (simm >> 8) & 15
    elif name in _LANES:
        _lower_lanes(row, instruction)
    elif "matrix" in instruction.operation.traits:
        _lower_matrix(row, instruction)
    elif instruction.operation.function is None:
        lower_memory(row, instruction)
    elif family in VECTOR:
        _lower_vector(row, instruction)
    else:
        _lower_scalar(row, instruction)


# -- operands --------------------------------------------------------------------------------------------


def _operand(row: Row, column: int, instruction: Instruction, code: int, letter: str) -> None:
    """A source of 9 bits."""
    row[column + r.WIDTH] = width = WIDTH[letter]
    row[column + r.HIGH] = 1
    row[column + r.AND] = -1
    if 128 <= code <= 208 or code in _FLOATS or code == 255:
        row[column + r.CODE] = -1
        row[column + r.VALUE] = _constant(instruction, code, letter)
    elif code >= r.VGPR or code <= 101 or code in (106, 107, 124, 126, 127):
        row[column + r.CODE] = code
    else:
        raise refuse(instruction, f"source {code}")
    if width == 1 and letter in "wsh":
        row[column + r.BITS] = 16
    row[column + r.SIGNED] = letter == "s"


def _constant(instruction: Instruction, code: int, letter: str) -> int:
    if code == 255:
        literal = instruction.literal or 0
        if letter == "d":
            return _signed64(literal << 32)
        if letter in "ql" and literal >> 31:
            raise refuse(instruction, f"the literal {literal:#x} for 64 bits")
        return literal
    if code <= 208:
        number = code - 128 if code <= 192 else 192 - code
        return number if letter in "qld" else number & 0xFFFFFFFF
    value = _FLOATS[code]
    if letter in "ws":
        raise refuse(instruction, f"the constant {value} for an integer of 16 bits")
    form = {"d": "<d", "h": "<e"}.get(letter, "<f")
    bits = int.from_bytes(struct.pack(form, value), "little")
    return _signed64(bits)


def _signed64(bits: int) -> int:
    return bits - (1 << 64) if bits >> 63 else bits


def _modify(row: Row, column: int, letter: str, absolute: bool, negated: bool) -> None:
    sign = 1 << _SIGN[letter]
    row[column + r.AND] = ~_signed64(sign) if absolute else -1
    row[column + r.XOR] = _signed64(sign) if negated else 0


def _columns(count: int) -> tuple[int, ...]:
    return (r.A, r.B, r.C)[:count]


# -- vector ----------------------------------------------------------------------------------------------


def _lower_vector(row: Row, instruction: Instruction) -> None:
    operation = instruction.operation
    row[r.KIND], row[r.OP] = Kind.VECTOR, VECTOR_NUMBER[operation.name]
    row[r.SELECTS] = operation.name == "v_cndmask_b32"
    row[r.SPREAD] = operation.traits.get("spread", Spread.APART if operation.traits.get("pairs") else Spread.EVERYWHERE)
    value, mask = operation.results.rstrip("m"), "m" in operation.results
    if value:
        row[r.DST], row[r.DST_WIDTH] = r.VGPR + instruction["vdst"], WIDTH[value]
    if mask:
        row[r.MASK_OUT] = r.VCC
    if set("mv") & set(operation.arguments):
        row[r.MASK_IN] = r.VCC
    if operation.traits.get("pairs"):
        _lower_pair(row, instruction)
    elif operation.traits.get("mixed"):
        _lower_mixed(row, instruction)
    elif "accumulator" in operation.traits:
        _lower_accumulator(row, instruction)
    elif instruction.form == "e64" or operation.family is Family.VOP3:
        _lower_long(row, instruction)
    else:
        _lower_short(row, instruction)
    if "F" in operation.arguments or "D" in operation.arguments:
        _operand(row, r.C, instruction, int(row[r.DST]), operation.arguments[-1].lower())


def _letters(instruction: Instruction) -> str:
    """Of the arguments that are encoded as sources."""
    return "".join(letter for letter in instruction.operation.arguments if letter not in "mvkFD")


def _lower_short(row: Row, instruction: Instruction) -> None:
    letters = _letters(instruction)
    sources = [instruction["src0"], *([r.VGPR + instruction["vsrc1"]] if "vsrc1" in instruction.fields else [])]
    if "literal" in instruction.operation.traits:
        sources.insert(instruction.operation.traits["literal"], 255)
    if instruction.form:
        _lower_extra(row, instruction, letters, sources)
        return
    for column, source, letter in zip(_columns(len(letters)), sources, letters, strict=True):
        _operand(row, column, instruction, source, letter)


def _lower_extra(row: Row, instruction: Instruction, letters: str, sources: list[int]) -> None:
    """DPP or SDWA: the second word says more of the operands."""
    extra = instruction.extra
    assert extra is not None
    sdwa = instruction.form == "sdwa"
    sources[0] = extra["vsrc0"] + (0 if sdwa and extra["scalar0"] else r.VGPR)
    if sdwa and len(sources) > 1 and extra["scalar1"]:
        sources[1] -= r.VGPR
    for place, (column, letter) in enumerate(zip(_columns(len(letters)), letters, strict=True)):
        _operand(row, column, instruction, sources[place], letter)
        _modify(row, column, letter, bool(extra[f"abs{place}"]), bool(extra[f"neg{place}"]))
        if sdwa:
            _select(row, column, instruction, extra[f"sel{place}"], bool(extra[f"sext{place}"]))
    if sdwa:
        _lower_sdwa(row, instruction)
    else:
        row[r.DPP], row[r.ROW_MASK], row[r.BANK_MASK] = extra["ctrl"], extra["row_mask"], extra["bank_mask"]
        row[r.BOUND] = extra["bound_ctrl"]
        if WIDTH[letters[0]] != 1 or not _known_dpp(extra["ctrl"]):
            raise refuse(instruction, f"dpp_ctrl {extra['ctrl']:#x}")


def _known_dpp(ctrl: int) -> bool:
    rows = any(first < ctrl <= first + 15 for first in (0x100, 0x110, 0x120))
    return ctrl < 0x100 or rows or ctrl in (0x140, 0x141, 0x142, 0x143) or 0x150 <= ctrl <= 0x15F


def _lower_sdwa(row: Row, instruction: Instruction) -> None:
    extra = instruction.extra
    assert extra is not None
    if instruction.operation.family is Family.VOPC:
        row[r.MASK_OUT] = extra["sdst"] if extra["sd"] else r.VCC
    elif extra["clamp"] or extra["omod"]:
        raise refuse(instruction, "clamp or omod in SDWA")
    elif extra["dst_sel"] != 6:
        raise refuse(instruction, f"dst_sel {extra['dst_sel']}")


def _select(row: Row, column: int, instruction: Instruction, selection: int, extend: bool) -> None:
    if selection == 7 or (selection == 6 and extend):
        raise refuse(instruction, f"selection {selection}")
    if selection < 4:
        row[column + r.SHIFT], row[column + r.BITS] = 8 * selection, 8
    elif selection < 6:
        row[column + r.SHIFT], row[column + r.BITS] = 16 * (selection - 4), 16
    row[column + r.SIGNED] |= extend


def _lower_long(row: Row, instruction: Instruction) -> None:
    operation, letters = instruction.operation, _letters(instruction)
    carries = operation.results.endswith("m") and len(operation.results) == 2
    for place, (column, letter) in enumerate(zip(_columns(len(letters)), letters, strict=True)):
        _operand(row, column, instruction, instruction[f"src{place}"], letter)
        if not operation.traits.get("truth_table"):
            absolute = 0 if carries else (instruction["abs"] >> place) & 1
            _modify(row, column, letter, bool(absolute), bool((instruction["neg"] >> place) & 1))
        if not carries and (instruction["op_sel"] >> place) & 1:
            if letter not in "wsh":
                raise refuse(instruction, "op_sel")
            row[column + r.SHIFT] = 16
    if "m" in operation.arguments:
        row[r.MASK_IN] = instruction[f"src{len(letters)}"]
    if carries:
        row[r.MASK_OUT] = instruction["sdst"]
    elif operation.results == "m":
        row[r.MASK_OUT] = instruction["vdst"]
    elif instruction["op_sel"] >> 3:
        if operation.results not in "wsh":
            raise refuse(instruction, "op_sel of the destination")
        row[r.DST_SHIFT], row[r.DST_BITS], row[r.DST_KEEPS] = 16, 16, 1
    _lower_output(row, instruction)


def _lower_output(row: Row, instruction: Instruction) -> None:
    operation = instruction.operation
    if operation.traits.get("truth_table"):
        row[r.TABLE] = (instruction["omod"] << 6) | (instruction["abs"] << 3) | instruction["neg"]
    elif instruction["omod"]:
        raise refuse(instruction, f"omod {instruction['omod']}")
    if instruction["clamp"]:
        if operation.traits.get("saturates") != "unsigned":
            raise refuse(instruction, "clamp")
        row[r.CLAMP] = 1


def _lower_accumulator(row: Row, instruction: Instruction) -> None:
    """v_accvgpr_read, _write and _mov: moves between the two halves of the register file."""
    source, what = instruction["src0"], instruction.operation.traits["accumulator"]
    if what != "destination":
        source += r.AGPR - r.VGPR
    if what != "source":
        row[r.DST] += r.AGPR - r.VGPR
    _operand(row, r.A, instruction, source, "u")


def _packed_bits(instruction: Instruction) -> int:
    """Which of the three upper halves come from the upper half of their source."""
    return instruction["op_sel_hi01"] | (instruction["op_sel_hi2"] << 2)


def _lower_pair(row: Row, instruction: Instruction) -> None:
    """Two float32 in two registers: `op_sel` chooses a register for the lower result, `op_sel_hi` for the upper."""
    letters, high = _letters(instruction), _packed_bits(instruction)
    if instruction["clamp"]:
        raise refuse(instruction, "clamp")
    for place, (column, letter) in enumerate(zip(_columns(len(letters)), letters, strict=True)):
        _operand(row, column, instruction, instruction[f"src{place}"], letter)
        first, second = (instruction["op_sel"] >> place) & 1, (high >> place) & 1
        if instruction.operation.traits.get("moves"):
            first, second = (
                (instruction["op_sel"] >> place) & 1,
            ) * 2  # each operand gives one half, either of its two
        if row[column + r.CODE] == -1:
            if first or second:
                raise refuse(instruction, "op_sel of a constant")
            bits = _constant(instruction, instruction[f"src{place}"], "u")
            row[column + r.VALUE] = _signed64(bits | (bits << 32))
        else:
            row[column + r.CODE] += first
            row[column + r.HIGH] = second - first
        negated = ((instruction["neg"] >> place) & 1) << 31 | ((instruction["neg_hi"] >> place) & 1) << 63
        row[column + r.XOR] = _signed64(negated)


def _lower_mixed(row: Row, instruction: Instruction) -> None:
    letters, half = _letters(instruction), _packed_bits(instruction)
    if instruction["clamp"]:
        raise refuse(instruction, "clamp")
    for place, (column, letter) in enumerate(zip(_columns(len(letters)), letters, strict=True)):
        _operand(row, column, instruction, instruction[f"src{place}"], letter)
        if (half >> place) & 1:
            if row[column + r.CODE] == -1:
                raise refuse(instruction, "a constant as a half")
            row[column + r.HALF], row[column + r.BITS] = 1, 16
            row[column + r.SHIFT] = 16 * ((instruction["op_sel"] >> place) & 1)
        elif (instruction["op_sel"] >> place) & 1:
            raise refuse(instruction, "op_sel of a float32")
        absolute, negated = (instruction["neg_hi"] >> place) & 1, (instruction["neg"] >> place) & 1
        _modify(row, column, letter, bool(absolute), bool(negated))
    keeps = instruction.operation.traits.get("keeps")
    if keeps:
        row[r.DST_SHIFT], row[r.DST_BITS], row[r.DST_KEEPS] = (0 if keeps == "high" else 16), 16, 1


# -- scalar ----------------------------------------------------------------------------------------------


def _lower_scalar(row: Row, instruction: Instruction) -> None:
    operation = instruction.operation
    row[r.KIND], row[r.OP] = Kind.SCALAR, SCALAR_NUMBER[operation.name]
    word = operation.name.split("_")[1]
    row[r.BITWISE] = Bits.ALL if "_hi_" in operation.name else _BITWISE.get(word, Bits.ALL)
    value = operation.results.rstrip("m")
    if value:
        row[r.DST], row[r.DST_WIDTH] = instruction["sdst"], WIDTH[value]
        if 108 <= instruction["sdst"] <= 123 or 102 <= instruction["sdst"] <= 105:
            raise refuse(instruction, f"the destination {instruction['sdst']}")
    row[r.MASK_OUT] = operation.results.endswith("m")
    row[r.MASK_IN] = operation.arguments.endswith("m")
    letters = operation.arguments.rstrip("m")
    if operation.traits.get("saves_exec"):
        row[r.KIND] = Kind.SAVE_EXEC
        _operand(row, r.A, instruction, instruction["ssrc0"], "q")
        _operand(row, r.B, instruction, r.EXEC, "q")
        return
    if operation.family is Family.SOPK:
        _lower_constant(row, instruction, letters)
        return
    for place, (column, letter) in enumerate(zip(_columns(len(letters)), letters, strict=True)):
        _operand(row, column, instruction, instruction[f"ssrc{place}"], letter)


def _lower_constant(row: Row, instruction: Instruction, letters: str) -> None:
    traits, simm = instruction.operation.traits, instruction["simm"]
    column = r.A
    if traits.get("reads_destination"):
        _operand(row, r.A, instruction, instruction["sdst"], letters[0])
        column = r.B
    row[column + r.CODE], row[column + r.WIDTH], row[column + r.AND] = -1, 1, -1
    row[column + r.VALUE] = simm if traits.get("unsigned") else ((simm ^ 0x8000) - 0x8000) & 0xFFFFFFFF


# -- between lanes, and matrices ---------------------------------------------------------------------------


def _lower_lanes(row: Row, instruction: Instruction) -> None:
    what = _LANES[instruction.name]
    row[r.KIND], row[r.OP], row[r.DST], row[r.DST_WIDTH] = Kind.LANES, what, instruction["vdst"], 1
    if instruction.form in ("sdwa", "dpp"):
        raise refuse(instruction, instruction.form)
    if what not in (Lanes.READ_FIRST, Lanes.READ):
        row[r.DST] += r.VGPR
    _operand(row, r.A, instruction, instruction["src0"], "u")
    if "src1" in instruction.fields and what not in (Lanes.READ_FIRST, Lanes.SWAP_16, Lanes.SWAP_32):
        _operand(row, r.B, instruction, instruction["src1"], "u")


def _lower_matrix(row: Row, instruction: Instruction) -> None:
    matrix = instruction.operation.traits["matrix"]
    if instruction["cbsz"] or instruction["abid"] or instruction["blgp"]:
        raise refuse(instruction, "a broadcast (cbsz, abid, blgp)")
    row[r.KIND] = Kind.MATRIX
    row[[r.ROWS, r.COLUMNS, r.DEPTH, r.ELEMENT]] = matrix.M, matrix.N, matrix.K, matrix.element
    row[r.PER_LANE] = matrix.per_lane
    above = r.AGPR - r.VGPR
    row[r.DST] = r.VGPR + instruction["vdst"] + (above if instruction["acc_cd"] else 0)
    row[r.DST_WIDTH] = matrix.result_registers
    for place, column in enumerate((r.A, r.B)):
        source = instruction[f"src{place}"] + (above if (instruction["acc"] >> place) & 1 else 0)
        _operand(row, column, instruction, source, "u")
        row[column + r.WIDTH] = matrix.source_registers
    source = instruction["src2"]
    _operand(row, r.C, instruction, source, "f")
    if source >= r.VGPR:
        row[r.C + r.CODE] += above if instruction["acc_cd"] else 0
        row[r.C + r.WIDTH] = matrix.result_registers
