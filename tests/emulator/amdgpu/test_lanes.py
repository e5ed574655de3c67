"""What moves numbers between lanes, and matrices: each layout against its documented table."""

from __future__ import annotations

import numpy as np
import pytest
from lab import Lab

from gdn_verify.emulator.amdgpu.instructions import OPERATIONS

RANDOM = np.random.default_rng(3)
A, B = (RANDOM.integers(0, 1 << 32, 64, np.uint64) for _ in range(2))
ACTIVE = 0xFFFF0F0FFFFF7FFE

LANES = {
    "v_readfirstlane_b32", "v_readlane_b32", "v_writelane_b32", "v_mbcnt_lo_u32_b32", "v_mbcnt_hi_u32_b32",
    "v_permlane16_swap_b32", "v_permlane32_swap_b32", "ds_swizzle_b32", "ds_permute_b32", "ds_bpermute_b32",
}  # fmt: skip
CONTROL = {
    "s_nop", "s_endpgm", "s_branch", "s_cbranch_scc0", "s_cbranch_scc1", "s_cbranch_vccz", "s_cbranch_vccnz",
    "s_cbranch_execz", "s_cbranch_execnz", "s_barrier", "s_waitcnt", "s_sleep", "s_setprio", "v_nop",
    "buffer_wbl2", "buffer_inv",
}  # fmt: skip
LOADS = {f"s_load_dword{n}" for n in ("", "x2", "x4", "x8", "x16")}
"""Tested in test_memory.py."""


@pytest.fixture(scope="module")
def lab() -> Lab:
    return Lab()


def _words(values: object) -> list[int]:
    return [int(x) for x in np.asarray(values)]


def test_every_other_instruction_is_tested() -> None:
    """An instruction without a test is not known."""
    others = {
        name for name, each in OPERATIONS.items()
        if each.function is None and "shape" not in each.traits and "matrix" not in each.traits
    }  # fmt: skip
    assert others == LANES | CONTROL | LOADS


@pytest.mark.parametrize("active", [(1 << 64) - 1, ACTIVE, 1 << 63, 0])
def test_one_lane(lab: Lab, active: int) -> None:
    """The first active lane, lane 0 where there is none; or any by its number, whether active or not."""
    lab.set(4, A)
    lab.set(5, B)
    lab.set_scalar(6, 64 + 37)
    lab.run(
        "v_readfirstlane_b32 s20, v4\nv_readlane_b32 s21, v4, 9\nv_readlane_b32 s22, v4, s6\n"
        "v_writelane_b32 v5, s6, 3\nv_writelane_b32 v5, 7, s6",
        active=active,
    )
    first = (active & -active).bit_length() - 1 if active else 0
    assert [lab.get_scalar(n) for n in (20, 21, 22)] == [int(A[first]), int(A[9]), int(A[37])]
    wanted = _words(B)
    wanted[3], wanted[37] = 64 + 37, 7
    assert _words(lab.get(5)) == wanted


def test_lanes_before(lab: Lab) -> None:
    """Bits of a mask below a lane's own place are counted."""
    mask = 0x0F0F3355FEDCBA98
    lab.set_scalar(20, mask, 2)
    lab.run("v_mbcnt_lo_u32_b32 v3, s20, 5\nv_mbcnt_hi_u32_b32 v3, s21, v3")
    assert _words(lab.get(3)) == [5 + (mask & ((1 << n) - 1)).bit_count() for n in range(64)]


@pytest.mark.parametrize(("name", "width"), [("v_permlane16_swap_b32", 16), ("v_permlane32_swap_b32", 32)])
def test_rows_swapped(lab: Lab, name: str, width: int) -> None:
    """Odd rows of the first register against even rows of the second."""
    lab.set(4, A)
    lab.set(5, B)
    lab.run(f"{name} v4, v5", "gfx950")
    first, second = _words(A), _words(B)
    for start in range(0, 64, 2 * width):
        odd, even = slice(start + width, start + 2 * width), slice(start, start + width)
        first[odd], second[even] = second[even], first[odd]
    assert (_words(lab.get(4)), _words(lab.get(5))) == (first, second)


SWIZZLES = {
    "swizzle(SWAP,16)": lambda n: n ^ 16,
    "swizzle(SWAP,1)": lambda n: n ^ 1,
    "swizzle(REVERSE,8)": lambda n: n ^ 7,
    "swizzle(BROADCAST,4,2)": lambda n: (n & ~3) | 2,
    "swizzle(QUAD_PERM,3,0,2,1)": lambda n: (n & ~3) | (3, 0, 2, 1)[n & 3],
}


@pytest.mark.parametrize("pattern", SWIZZLES)
@pytest.mark.parametrize("active", [(1 << 64) - 1, ACTIVE])
def test_swizzle(lab: Lab, pattern: str, active: int) -> None:
    """Within halves of the wave; a lane that is not active gives zero."""
    lab.set(4, A)
    lab.set(3, B)
    lab.run(f"ds_swizzle_b32 v3, v4 offset:{pattern}\ns_waitcnt lgkmcnt(0)", active=active)
    for lane, got in enumerate(_words(lab.get(3))):
        source = SWIZZLES[pattern](lane)
        wanted = int(A[source]) if (active >> source) & 1 else 0
        assert got == (wanted if (active >> lane) & 1 else int(B[lane]))


@pytest.mark.parametrize("active", [(1 << 64) - 1, ACTIVE])
def test_pull_and_push(lab: Lab, active: int) -> None:
    """Lanes by bytes of address, four a lane, counted round; of two that push to one lane the last one wins."""
    where = RANDOM.integers(0, 1 << 32, 64, np.uint64)
    lab.set(4, where)
    lab.set(5, A)
    lab.set(3, B)
    lab.set(6, B)
    lab.run("ds_bpermute_b32 v3, v4, v5 offset:8\nds_permute_b32 v6, v4, v5\ns_waitcnt lgkmcnt(0)", active=active)
    pulled = [((int(where[n]) + 8) // 4) % 64 for n in range(64)]
    pushed = [0] * 64
    for n in range(64):
        if (active >> n) & 1:
            pushed[int(where[n]) // 4 % 64] = int(A[n])
    for lane in range(64):
        on = (active >> lane) & 1
        wanted = int(A[pulled[lane]]) if (active >> pulled[lane]) & 1 else 0
        assert int(lab.get(3)[lane]) == (wanted if on else int(B[lane]))
        assert int(lab.get(6)[lane]) == (pushed[lane] if on else int(B[lane]))


# -- branches ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("branch", "setup", "taken"),
    [
        ("s_branch", "", True),
        ("s_cbranch_scc0", "s_cmp_eq_u32 s4, s4", False),
        ("s_cbranch_scc0", "s_cmp_lg_u32 s4, s4", True),
        ("s_cbranch_scc1", "s_cmp_eq_u32 s4, s4", True),
        ("s_cbranch_scc1", "s_cmp_lg_u32 s4, s4", False),
        ("s_cbranch_vccz", "s_mov_b64 vcc, 0", True),
        ("s_cbranch_vccz", "s_mov_b64 vcc, 4", False),
        ("s_cbranch_vccnz", "s_mov_b64 vcc, 0", False),
        ("s_cbranch_vccnz", "s_mov_b64 vcc, 4", True),
        ("s_cbranch_execz", "s_mov_b64 exec, 0", True),
        ("s_cbranch_execz", "s_mov_b64 exec, 4", False),
        ("s_cbranch_execnz", "s_mov_b64 exec, 0", False),
        ("s_cbranch_execnz", "s_mov_b64 exec, 4", True),
    ],
)
def test_branch(lab: Lab, branch: str, setup: str, taken: bool) -> None:
    """Forward over an instruction, by the condition that its name says."""
    lab.run(
        f"s_mov_b32 s20, 1\n{setup}\n{branch} there\ns_mov_b32 s20, 2\nthere:\ns_nop 0\ns_sleep 1\ns_setprio 1\nv_nop"
    )
    assert lab.get_scalar(20) == (1 if taken else 2)


def test_loop(lab: Lab) -> None:
    """Backward."""
    lab.run("s_mov_b32 s20, 0\nagain:\ns_addk_i32 s20, 3\ns_cmpk_lt_i32 s20, 30\ns_cbranch_scc1 again")
    assert lab.get_scalar(20) == 30


def test_caches_change_nothing(lab: Lab) -> None:
    lab.set(4, A)
    assert lab.run("buffer_wbl2 sc1\nbuffer_inv sc1\ns_waitcnt vmcnt(0)") == []
    assert _words(lab.get(4)) == _words(A)


# -- matrices ----------------------------------------------------------------------------------------------------

MATRICES = sorted(name for name, each in OPERATIONS.items() if "matrix" in each.traits)


def _place_of_input(i: int, k: int, side: int, per_lane: int) -> tuple[int, int]:
    """AMD's table for A[i][k] and B[k][i] of one block: (lane, number in the lane)."""
    return i + side * (k // per_lane), k % per_lane


def _place_of_output(i: int, j: int, side: int) -> tuple[int, int]:
    """AMD's table for D[i][j]: (lane, register)."""
    if side == 32:
        return j + 32 * ((i // 4) % 2), 4 * (i // 8) + i % 4
    return j + 16 * (i // 4), i % 4


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("constant", [None, "0", "2.0"])
@pytest.mark.parametrize("accumulates", [False, True])
def test_matrix(lab: Lab, name: str, constant: str | None, accumulates: bool) -> None:
    """Integers that all types hold, so that any order of the sum is exact; each number has a place of its own."""
    side, depth = int(name.split("_")[3].split("x")[0]), int(name.split("_")[3].split("x")[2])
    kind = name.split("_")[4]
    per_lane = side * depth // 64
    a, b, c = (
        RANDOM.integers(-8, 9, (side, depth)),
        RANDOM.integers(-8, 9, (depth, side)),
        RANDOM.integers(-99, 99, (side, side)),
    )
    registers = per_lane if kind == "f32" else per_lane // 2
    for first, matrix in ((8, a), (16, b.T)):
        words = np.zeros((registers, 64), np.uint64)
        for i in range(side):
            for k in range(depth):
                lane, place = _place_of_input(i, k, side, per_lane)
                value = np.float32(matrix[i, k])
                if kind == "f32":
                    words[place, lane] = value.view(np.uint32)
                else:
                    half = np.float16(value).view(np.uint16) if kind == "f16" else value.view(np.uint32) >> 16
                    words[place // 2, lane] |= np.uint64(half) << np.uint64(16 * (place % 2))
        for n in range(registers):
            lab.set(first + n, words[n])
    outputs = side * side // 64
    values = np.zeros((outputs, 64), np.float32)
    for i in range(side):
        for j in range(side):
            lane, register = _place_of_output(i, j, side)
            values[register, lane] = c[i, j]
    above = 256 if accumulates else 0
    for n in range(outputs):
        lab.state.vector[0, above + 32 + n] = values[n].view(np.uint32)
    source, target = ("a", "a") if accumulates else ("v", "v")
    of_a, of_b = (f"v{x}" if registers == 1 else f"v[{x}:{x + registers - 1}]" for x in (8, 16))
    added = constant or f"{source}[32:{31 + outputs}]"
    arch = OPERATIONS[name].traits.get("only", "gfx942")
    lab.run(f"{name} {target}[32:{31 + outputs}], {of_a}, {of_b}, {added}", arch, active=0x1234)
    wanted = a @ b + (c if constant is None else float(constant))
    for i in range(side):
        for j in range(side):
            lane, register = _place_of_output(i, j, side)
            got = lab.state.vector[0, above + 32 + register, lane : lane + 1].view(np.float32)[0]
            assert got == wanted[i, j], (i, j)
