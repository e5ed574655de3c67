"""Each instruction that computes, through LLVM's assembler, the decoder and the machine, against its reference."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
import pytest
from lab import Lab
from numbers_as_bits import is_nan
from references import REFERENCES, Reference
from scalar_references import SCALAR_REFERENCES
from values import tries

from gdn_verify.emulator.amdgpu.instructions import OPERATIONS
from gdn_verify.emulator.amdgpu.table import VECTOR

REGISTERS = {"f": 1, "d": 2, "h": 1, "u": 1, "q": 2, "w": 1, "p": 2, "O": 2, "B": 1, "H": 1}
APART = {"v_accvgpr_read_b32", "v_accvgpr_write_b32", "v_accvgpr_mov_b32", "v_bitop3_b32", "v_pk_mov_b32"}
APART |= {"v_fma_mix_f32", "v_fma_mixlo_f16", "v_fma_mixhi_f16", "v_fmamk_f32", "v_fmaak_f32"}
APART |= {f"s_{word}_saveexec_b64" for word in ("and", "or", "xor", "andn2")}
APART |= {"s_movk_i32", "s_addk_i32", "s_mulk_i32"}
APART |= {f"s_cmpk_{word}_{kind}" for word in ("eq", "lg", "gt", "ge", "lt", "le") for kind in ("i32", "u32")}
"""Tested in test_forms.py, as what they do depends on more than their operands."""


@pytest.fixture(scope="module")
def lab() -> Lab:
    return Lab()


def test_every_instruction_that_computes_has_a_reference() -> None:
    """An instruction without a test is not known."""
    computing = {name for name, operation in OPERATIONS.items() if operation.function is not None}
    assert computing == set(REFERENCES) | set(SCALAR_REFERENCES) | APART


def _arch(name: str) -> str:
    return OPERATIONS[name].traits.get("only", "gfx942")


def _text(name: str, reference: Reference) -> tuple[str, list[int], int]:
    """A line of assembly, the operands' registers, and the result's."""
    target, registers, at = 30, [], 6
    sources = []
    for letter in reference.arguments.replace("m", "").replace("V", "").replace("O", ""):
        width = REGISTERS[letter]
        registers.append(at)
        sources.append(f"v{at}" if width == 1 else f"v[{at}:{at + 1}]")
        at += 4
    result = reference.results[0]
    words = [] if result == "m" else [f"v{target}" if REGISTERS[result] == 1 else f"v[{target}:{target + 1}]"]
    if "m" in reference.results:
        words.append("s[20:21]")
    words += sources
    if "m" in reference.arguments:
        words.append("s[22:23]")
    long = OPERATIONS[name].family in ("VOP1", "VOP2", "VOPC") and (
        "m" in reference.results or "m" in reference.arguments
    )
    return f"{name}{'_e64' if long else ''} {', '.join(words)}", registers, target


def _batches(items: list[tuple[int, ...]]) -> Iterator[list[tuple[int, ...]]]:
    for start in range(0, len(items), 64):
        batch = items[start : start + 64]
        yield batch + [batch[-1]] * (64 - len(batch))


def same(got: int, wanted: int, kind: str, close: bool) -> bool:
    """Whether bits are those that are wanted; any NaN is as good as another."""
    if kind in "fdh" and is_nan(wanted, kind):
        return is_nan(got, kind)
    if kind == "p":
        return all(same((got >> n) & 0xFFFFFFFF, (wanted >> n) & 0xFFFFFFFF, "f", close) for n in (0, 32))
    if kind == "B":
        nan = [(wanted >> n) & 0x7FFF > 0x7F80 for n in (0, 16)]
        return all((got >> n) & 0x7FFF > 0x7F80 if nan[n // 16] else (got ^ wanted) >> n & 0xFFFF == 0 for n in (0, 16))
    if kind == "H":
        return all(same((got >> n) & 0xFFFF, (wanted >> n) & 0xFFFF, "h", close) for n in (0, 16))
    return got == wanted or (close and abs(got - wanted) <= 1)


@pytest.mark.parametrize("name", sorted(REFERENCES))
def test_vector_instruction(lab: Lab, name: str) -> None:
    """All lanes, values at the edges and random ones; 16 bits exhaustively where there is one operand."""
    reference = REFERENCES[name]
    text, registers, target = _text(name, reference)
    kinds = reference.arguments.replace("V", "m")
    if reference.old:
        kinds = kinds[:-1] + kinds[0]
    for batch in _batches(tries(kinds, zlib.crc32(name.encode()))):
        columns = list(zip(*batch, strict=True))
        for register, letter, column in zip(registers, kinds, columns, strict=False):
            lab.set(register, np.array(column, np.uint64), REGISTERS[letter])
        result = reference.results[0]
        if reference.old:
            lab.set(target, np.array(columns[-1], np.uint64), REGISTERS[kinds[-1]])
        if "m" in kinds:
            mask = sum(bit << n for n, bit in enumerate(columns[-1]))
            lab.set_scalar(106 if "V" in reference.arguments else 22, mask, 2)
        lab.run(text, _arch(name))
        got = lab.get(target, REGISTERS[result]) if result != "m" else np.zeros(64, np.uint64)
        flags = lab.get_scalar(20, 2)
        for lane, values in enumerate(batch):
            wanted = reference.function(*values)
            value, flag = wanted if len(reference.results) == 2 else (wanted, wanted)
            if result != "m":
                assert same(int(got[lane]), value, result, reference.close), (
                    text,
                    [hex(x) for x in values],
                    hex(got[lane]),
                    hex(value),
                )
            if "m" in reference.results:
                assert (flags >> lane) & 1 == bool(flag), (text, [hex(x) for x in values], flag)


@pytest.mark.parametrize("name", sorted(SCALAR_REFERENCES))
def test_scalar_instruction(lab: Lab, name: str) -> None:
    """Values at the edges and random ones, with SCC set before and not."""
    reference = SCALAR_REFERENCES[name]
    arguments = reference.arguments.replace("m", "")
    sources = [
        f"s{6 + 4 * n}" if letter == "u" else f"s[{6 + 4 * n}:{7 + 4 * n}]" for n, letter in enumerate(arguments)
    ]
    result = reference.results.replace("m", "")
    words = ([{"u": "s30", "q": "s[30:31]"}[result]] if result else []) + sources
    for values in tries(arguments, zlib.crc32(name.encode()), 100):
        for scc in (0, 1):
            for n, (letter, value) in enumerate(zip(arguments, values, strict=True)):
                lab.set_scalar(6 + 4 * n, value, REGISTERS[letter])
            lab.state.scalar[0, 128] = scc
            lab.run(f"{name} {', '.join(words)}")
            wanted = reference.function(*values, *([scc] if "m" in reference.arguments else []))
            value, flag = wanted if len(reference.results) == 2 else (wanted, wanted)
            if result:
                got = lab.get_scalar(30, REGISTERS[result])
                assert got == value, (name, [hex(x) for x in values], scc, hex(got), hex(value))
            after = flag if "m" in reference.results else scc
            assert bool(lab.state.scalar[0, 128]) == bool(after), (name, [hex(x) for x in values], scc)


def test_vector_families_are_all_there() -> None:
    """The references of vector instructions are those of vector instructions."""
    assert {OPERATIONS[name].family for name in REFERENCES} <= set(VECTOR)
