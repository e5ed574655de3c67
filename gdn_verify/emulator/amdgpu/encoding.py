"""Machine code of gfx942 and gfx950, read into instructions: the fields of AMD's encodings, and which one a word has.

Source: AMD's "CDNA3" and "CDNA4" instruction set architecture documents, chapter "Microcode formats". What is not in
the table of instructions is an UnknownInstructionError, with its encoding and number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gdn_verify.emulator.amdgpu.instructions import BY_CODE
from gdn_verify.emulator.amdgpu.table import Family, Operation

LITERAL, DPP, SDWA = 255, 250, 249
"""In place of a source: 32 bits follow that are a constant, or say more of the first operand."""

Layout = Mapping[str, tuple[int, int]]
"""A field's lowest bit and its width."""

_SOP2 = {"ssrc0": (0, 8), "ssrc1": (8, 8), "sdst": (16, 7), "code": (23, 7)}
_SOPK = {"simm": (0, 16), "sdst": (16, 7), "code": (23, 5)}
_SOP1 = {"ssrc0": (0, 8), "code": (8, 8), "sdst": (16, 7)}
_SOPC = {"ssrc0": (0, 8), "ssrc1": (8, 8), "code": (16, 7)}
_SOPP = {"simm": (0, 16), "code": (16, 7)}
_SMEM = {"sbase": (0, 6), "sdst": (6, 7), "soffset_en": (14, 1), "nv": (15, 1), "glc": (16, 1), "imm": (17, 1)}
_SMEM |= {"code": (18, 8), "offset": (32, 21), "soffset": (57, 7)}
_VOP1 = {"src0": (0, 9), "code": (9, 8), "vdst": (17, 8)}
_VOP2 = {"src0": (0, 9), "vsrc1": (9, 8), "vdst": (17, 8), "code": (25, 6)}
_VOPC = {"src0": (0, 9), "vsrc1": (9, 8), "code": (17, 8)}
_VOP3 = {"vdst": (0, 8), "abs": (8, 3), "sdst": (8, 7), "op_sel": (11, 4), "clamp": (15, 1), "code": (16, 10)}
_VOP3 |= {"src0": (32, 9), "src1": (41, 9), "src2": (50, 9), "omod": (59, 2), "neg": (61, 3)}
_VOP3P = {"vdst": (0, 8), "neg_hi": (8, 3), "op_sel": (11, 3), "op_sel_hi2": (14, 1), "clamp": (15, 1), "code": (16, 7)}
_VOP3P |= {"src0": (32, 9), "src1": (41, 9), "src2": (50, 9), "op_sel_hi01": (59, 2), "neg": (61, 3)}
_MAI = {"vdst": (0, 8), "cbsz": (8, 3), "abid": (11, 4), "acc_cd": (15, 1), "code": (16, 7)}
_MAI |= {"src0": (32, 9), "src1": (41, 9), "src2": (50, 9), "acc": (59, 2), "blgp": (61, 3)}
_DS = {"offset0": (0, 8), "offset1": (8, 8), "offset": (0, 16), "gds": (16, 1), "code": (17, 8), "acc": (25, 1)}
_DS |= {"addr": (32, 8), "data0": (40, 8), "data1": (48, 8), "vdst": (56, 8)}
_FLAT = {"offset": (0, 13), "lds": (13, 1), "segment": (14, 2), "sc0": (16, 1), "nt": (17, 1), "code": (18, 7)}
_FLAT |= {"sc1": (25, 1), "addr": (32, 8), "data": (40, 8), "saddr": (48, 7), "acc": (55, 1), "vdst": (56, 8)}
_MUBUF = {"offset": (0, 12), "offen": (12, 1), "idxen": (13, 1), "sc0": (14, 1), "sc1": (15, 1), "lds": (16, 1)}
_MUBUF |= {"nt": (17, 1), "code": (18, 7), "vaddr": (32, 8), "vdata": (40, 8), "srsrc": (48, 5), "acc": (55, 1)}
_MUBUF |= {"soffset": (56, 8)}

_SCALAR = (
    (0x17D, 23, Family.SOP1, _SOP1),
    (0x17E, 23, Family.SOPC, _SOPC),
    (0x17F, 23, Family.SOPP, _SOPP),
    (0xB, 28, Family.SOPK, _SOPK),
    (0x2, 30, Family.SOP2, _SOP2),
)
"""How a word begins, from the longest prefix to the shortest."""

# In the word that follows.
_SDWA = {"vsrc0": (0, 8), "dst_sel": (8, 3), "dst_unused": (11, 2), "clamp": (13, 1), "omod": (14, 2)}
_SDWA |= {"sel0": (16, 3), "sext0": (19, 1), "neg0": (20, 1), "abs0": (21, 1), "scalar0": (23, 1)}
_SDWA |= {"sel1": (24, 3), "sext1": (27, 1), "neg1": (28, 1), "abs1": (29, 1), "scalar1": (31, 1)}
_SDWA_COMPARE = {**_SDWA, "sdst": (8, 7), "sd": (15, 1)}
_DPP = {"vsrc0": (0, 8), "ctrl": (8, 9), "bound_ctrl": (19, 1), "neg0": (20, 1), "abs0": (21, 1)}
_DPP |= {"neg1": (22, 1), "abs1": (23, 1), "bank_mask": (24, 4), "row_mask": (28, 4)}


class UnknownInstructionError(Exception):
    """Machine code holds what is not in the table of instructions; the message says what and where."""


class UnsupportedError(UnknownInstructionError):
    """A known instruction with a modifier, operand or mode that is not modelled."""


@dataclass(frozen=True)
class Instruction:
    """One decoded instruction, at a byte `offset` of the code: the values of its encoding's fields by name.

    `form` is "" for the shortest encoding of an operation, else "e64", "sdwa" or "dpp"; `extra` are the fields of the
    word that follows in the last two, `literal` the constant that follows.
    """

    operation: Operation
    offset: int
    size: int
    fields: Mapping[str, int]
    form: str = ""
    extra: Mapping[str, int] | None = None
    literal: int | None = None

    @property
    def name(self) -> str:
        """The mnemonic."""
        return self.operation.name

    def __getitem__(self, field: str) -> int:
        return self.fields[field]


def refuse(instruction: Instruction, what: str) -> UnsupportedError:
    """To be raised."""
    return UnsupportedError(f"{instruction.name} with {what} is not modelled, at byte {instruction.offset:#x}")


def decode(code: bytes, start: int, skip: Mapping[int, int] = {}) -> Iterator[Instruction]:
    """The instructions of `code` from byte `start` on, to the end. `skip` maps offsets to those to go on at.

    Raises UnknownInstructionError.
    """
    offset = start
    while offset < len(code):
        if offset in skip:
            offset = skip[offset]
            continue
        instruction = _decode_one(code, offset)
        yield instruction
        offset += instruction.size


def _decode_one(code: bytes, offset: int) -> Instruction:
    word = int.from_bytes(code[offset : offset + 8], "little")
    low = word & 0xFFFFFFFF
    if low >> 31 == 0:
        return _vector(word, offset)
    if low >> 30 == 2:
        return _scalar(word, offset)
    top = low >> 26
    if top == 0x34:
        return _packed(word, offset) if low >> 23 == 0x1A7 else _long_vector(word, offset)
    if top == 0x30:
        return _plain(Family.SMEM, _SMEM, word, offset)
    if top == 0x36:
        return _plain(Family.DS, _DS, word, offset)
    if top == 0x38:
        return _plain(Family.MUBUF, _MUBUF, word, offset)
    if top == 0x37:
        segment = (Family.FLAT, Family.SCRATCH, Family.GLOBAL)[min((low >> 14) & 3, 2)]
        return _plain(segment, _FLAT, word, offset)
    raise UnknownInstructionError(f"no encoding begins with {low:#010x}, at byte {offset:#x}")


def _fields(layout: Layout, word: int) -> dict[str, int]:
    return {name: (word >> first) & ((1 << width) - 1) for name, (first, width) in layout.items()}


def _operation(family: Family, code: int, offset: int) -> Operation:
    found = BY_CODE.get((family, code))
    if found is None:
        raise UnknownInstructionError(f"{family} instruction number {code} is not known, at byte {offset:#x}")
    return found


def _plain(family: Family, layout: Layout, word: int, offset: int) -> Instruction:
    fields = _fields(layout, word)
    return Instruction(_operation(family, fields["code"], offset), offset, 8, fields)


def _scalar(word: int, offset: int) -> Instruction:
    low = word & 0xFFFFFFFF
    family, layout = next((f, fields) for prefix, shift, f, fields in _SCALAR if low >> shift == prefix)
    fields = _fields(layout, low)
    operation = _operation(family, fields["code"], offset)
    if LITERAL in (fields.get("ssrc0"), fields.get("ssrc1")):
        return Instruction(operation, offset, 8, fields, literal=word >> 32)
    return Instruction(operation, offset, 4, fields)


def _vector(word: int, offset: int) -> Instruction:
    low, more = word & 0xFFFFFFFF, word >> 32
    top = low >> 25
    if top == 0x3F:
        family, layout = Family.VOP1, _VOP1
    elif top == 0x3E:
        family, layout = Family.VOPC, _VOPC
    else:
        family, layout = Family.VOP2, _VOP2
    fields = _fields(layout, low)
    operation = _operation(family, fields["code"], offset)
    source = fields["src0"]
    if source == SDWA:
        extra = _fields(_SDWA_COMPARE if family is Family.VOPC else _SDWA, more)
        return Instruction(operation, offset, 8, fields, "sdwa", extra)
    if source == DPP:
        return Instruction(operation, offset, 8, fields, "dpp", _fields(_DPP, more))
    if source == LITERAL or "literal" in operation.traits:
        return Instruction(operation, offset, 8, fields, literal=more)
    return Instruction(operation, offset, 4, fields)


def _long_vector(word: int, offset: int) -> Instruction:
    """VOP3: its numbers are those of VOPC, VOP2 and VOP1 one after another, and then its own."""
    fields = _fields(_VOP3, word)
    code = fields["code"]
    if code < 0x100:
        family = Family.VOPC
    elif code < 0x140:
        family, code = Family.VOP2, code - 0x100
    elif code < 0x1C0:
        family, code = Family.VOP1, code - 0x140
    else:
        family = Family.VOP3
    return Instruction(_operation(family, code, offset), offset, 8, fields, "" if family is Family.VOP3 else "e64")


def _packed(word: int, offset: int) -> Instruction:
    operation = _operation(Family.VOP3P, _fields(_VOP3P, word)["code"], offset)
    matrix = "matrix" in operation.traits or "accumulator" in operation.traits
    return Instruction(operation, offset, 8, _fields(_MAI if matrix else _VOP3P, word))
