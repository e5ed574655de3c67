"""What an encoding adds to an instruction: modifiers, parts of registers, constants, masks, lanes of others."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from lab import LANES, Lab
from numbers_as_bits import bits, fused, number, rounded, signed

from gdn_verify.emulator.amdgpu.encoding import UnknownInstructionError

U32 = 0xFFFFFFFF
RANDOM = np.random.default_rng(5)
A, B, C = (RANDOM.integers(0, 1 << 32, 64, np.uint64) for _ in range(3))
FLOATS = RANDOM.standard_normal((6, 64)).astype(np.float32)


@pytest.fixture(scope="module")
def lab() -> Lab:
    return Lab()


def _words(values: object) -> list[int]:
    return [int(x) for x in np.asarray(values)]


# -- constants and literals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [(str(n), n & U32) for n in (*range(0, 65), *range(-1, -17, -1))]
    + [(str(x), bits(x, "f")) for x in (0.5, -0.5, 1.0, -1.0, 2.0, -2.0, 4.0, -4.0)]
    + [("0.15915494", 0x3E22F983), ("0x12345678", 0x12345678)],
)
def test_constant(lab: Lab, text: str, wanted: int) -> None:
    """Inline constants and a literal, in a vector and a scalar instruction."""
    lab.run(f"v_mov_b32 v3, {text}\ns_mov_b32 s5, {text}")
    assert _words(lab.get(3)) == [wanted] * 64
    assert lab.get_scalar(5) == wanted


def test_constant_of_64_bits(lab: Lab) -> None:
    """Integers are extended by their sign, floats are float64."""
    lab.run("s_mov_b64 s[6:7], -3\ns_mov_b64 s[8:9], 17\nv_add_f64 v[4:5], 0.5, 2.0\nv_lshlrev_b64 v[6:7], 1, -2")
    assert (lab.get_scalar(6, 2), lab.get_scalar(8, 2)) == ((1 << 64) - 3, 17)
    assert number(int(lab.get(4, 2)[0]), "d") == 2.5
    assert int(lab.get(6, 2)[0]) == (1 << 64) - 4


def test_literal_of_64_bits(lab: Lab) -> None:
    """A float64's literal is its upper half; of an integer one whose sign would matter is refused."""
    lab.set(4, np.full(64, 1.0))
    lab.run("v_add_f64 v[4:5], 1.0, 1.0\ns_mov_b64 s[6:7], 0x12345678")
    assert lab.get_scalar(6, 2) == 0x12345678
    with pytest.raises(UnknownInstructionError, match="literal"):
        lab.run("s_mov_b64 s[6:7], 0x92345678")


@pytest.mark.parametrize("name", ["v_fmamk_f32", "v_fmaak_f32"])
def test_multiplication_with_a_literal(lab: Lab, name: str) -> None:
    a, b = FLOATS[0], FLOATS[1]
    lab.set(4, a)
    lab.set(5, b)
    third = 0x40490FDB
    lab.run(f"{name} v3, v4, {hex(third)}, v5" if name == "v_fmamk_f32" else f"{name} v3, v4, v5, {hex(third)}")
    k = number(third, "f")
    for lane, got in enumerate(_words(lab.get(3))):
        x, y = float(a[lane]), float(b[lane])
        wanted = fused(x, k, y, "f") if name == "v_fmamk_f32" else fused(x, y, k, "f")
        assert got == bits(wanted, "f")


# -- modifiers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["v4", "-v4", "|v4|", "-|v4|"])
@pytest.mark.parametrize("second", ["v5", "-v5", "|v5|", "-|v5|", "s9", "-s9"])
def test_absolute_and_negative(lab: Lab, first: str, second: str) -> None:
    """|x| and -x change a sign bit, whatever the number."""
    lab.set(4, A)
    lab.set(5, B)
    lab.set_scalar(9, 0xBF800000)
    lab.run(f"v_max_f32_e64 v3, {first}, {first}\nv_max_f32_e64 v6, {second}, {second}")

    def of(word: str) -> list[int]:
        source = {"v4": A, "v5": B}.get(word.strip("-|"), np.full(64, 0xBF800000, np.uint64))
        found = [int(x) for x in source]
        if "|" in word:
            found = [x & 0x7FFFFFFF for x in found]
        return [x ^ 0x80000000 for x in found] if word[0] == "-" else found

    def same(got: int, wanted: int) -> bool:
        quiet = wanted | 0x400000 if wanted & 0x7FFFFFFF > 0x7F800000 else wanted
        return got == quiet

    assert all(map(same, _words(lab.get(3)), of(first)))
    assert all(map(same, _words(lab.get(6)), of(second)))


@pytest.mark.parametrize("name", ["v_add_u32", "v_sub_u32", "v_subrev_u32"])
def test_saturation(lab: Lab, name: str) -> None:
    """clamp of unsigned integers stays at the ends."""
    lab.set(4, A)
    lab.set(5, B)
    lab.run(f"{name}_e64 v3, v4, v5 clamp")
    function = {"v_add_u32": lambda a, b: a + b, "v_sub_u32": lambda a, b: a - b, "v_subrev_u32": lambda a, b: b - a}[
        name
    ]
    assert _words(lab.get(3)) == [min(max(function(a, b), 0), U32) for a, b in zip(_words(A), _words(B), strict=True)]


@pytest.mark.parametrize(
    "text", ["v_add_f32_e64 v3, v4, v5 clamp", "v_mul_f32_e64 v3, v4, v5 mul:2", "v_mul_lo_u32 v3, v4, src_shared_base"]
)
def test_what_is_not_modelled_is_refused(lab: Lab, text: str) -> None:
    """Never a guess: the message names the instruction."""
    with pytest.raises(UnknownInstructionError, match=r"v_(add|mul)_"):
        lab.run(text)


def test_unknown_instruction_is_refused(lab: Lab) -> None:
    """With its encoding and number, and where it is."""
    with pytest.raises(UnknownInstructionError, match=r"VOP1 instruction number 41 is not known, at byte 0x0"):
        lab.run("v_sin_f32 v1, v2")


# -- parts of registers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["BYTE_0", "BYTE_1", "BYTE_2", "BYTE_3", "WORD_0", "WORD_1", "DWORD"])
@pytest.mark.parametrize("extend", [False, True])
def test_sdwa_source(lab: Lab, place: str, extend: bool) -> None:
    """A byte or word of the source, extended with zeros or its sign."""
    if place == "DWORD" and extend:
        pytest.skip("nothing to extend")
    lab.set(4, A)
    lab.set(5, B)
    source = "sext(v5)" if extend else "v5"
    lab.run(f"v_add_u32_sdwa v3, v4, {source} dst_sel:DWORD dst_unused:UNUSED_PAD src0_sel:DWORD src1_sel:{place}")
    kind, _, number_ = place.partition("_")
    width = {"BYTE": 8, "WORD": 16, "DWORD": 32}[kind]
    parts = [(b >> (width * int(number_ or 0))) & ((1 << width) - 1) for b in _words(B)]
    parts = [signed(x, width) for x in parts] if extend else parts
    assert _words(lab.get(3)) == [(a + x) & U32 for a, x in zip(_words(A), parts, strict=True)]


def test_sdwa_comparison(lab: Lab) -> None:
    """Its mask goes to any scalar pair."""
    lab.set(4, A)
    lab.set(5, 77)
    lab.run("v_cmp_ne_u16_sdwa s[26:27], v4, v5 src0_sel:BYTE_0 src1_sel:DWORD")
    assert lab.get_scalar(26, 2) == sum((a & 0xFF != 77) << n for n, a in enumerate(_words(A)))


@pytest.mark.parametrize("sources", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_halves_of_sources(lab: Lab, sources: tuple[int, int]) -> None:
    """op_sel takes the upper half of an operand of 16 bits."""
    lab.set(4, A)
    lab.set(5, B)
    lab.run(f"v_pack_b32_f16 v3, v4, v5 op_sel:[{sources[0]},{sources[1]},0]")
    halves = [[(x >> (16 * s)) & 0xFFFF for x in _words(v)] for v, s in zip((A, B), sources, strict=True)]
    assert _words(lab.get(3)) == [a | (b << 16) for a, b in zip(*halves, strict=True)]


@pytest.mark.parametrize("target", ["v_fma_mix_f32", "v_fma_mixlo_f16", "v_fma_mixhi_f16"])
@pytest.mark.parametrize("which", [(0, 0, 0), (1, 0, 0), (0, 1, 1), (1, 1, 1)])
@pytest.mark.parametrize("upper", [(0, 0, 0), (1, 1, 1)])
def test_mixed_precision(lab: Lab, target: str, which: tuple[int, ...], upper: tuple[int, ...]) -> None:
    """Each operand a float32, or a half of a register; a float16 goes to one half, and leaves the other."""
    halves = FLOATS.astype(np.float16).view(np.uint16).astype(np.uint64)
    for n in range(3):
        lab.set(4 + n, (halves[n] | (halves[3 + n] << 16)) if which[n] else FLOATS[n])
    lab.set(3, C)
    selects = [u & w for u, w in zip(upper, which, strict=True)]
    lab.run(
        f"{target} v3, v4, -v5, v6 op_sel:{selects} op_sel_hi:{list(which)}".replace(" [", "[")
        .replace(", ", ",")
        .replace(",v", ", v")
        .replace(",-v", ", -v")
    )
    for lane, got in enumerate(_words(lab.get(3))):
        x = [
            float(FLOATS[n + 3 * selects[n]].astype(np.float16)[lane]) if which[n] else float(FLOATS[n][lane])
            for n in range(3)
        ]
        exact = fused(x[0], -x[1], x[2], "f")
        half = bits(rounded(Fraction(exact), "h", exact), "h")
        old = int(C[lane])
        wanted = {"v_fma_mix_f32": bits(exact, "f"), "v_fma_mixlo_f16": (old >> 16 << 16) | half}.get(
            target, (old & 0xFFFF) | (half << 16)
        )
        assert got == wanted


@pytest.mark.parametrize("low", [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("high", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_pairs(lab: Lab, low: tuple[int, int], high: tuple[int, int]) -> None:
    """op_sel says for each half of the result which register of an operand it comes of; signs are apart."""
    for n in range(4):
        lab.set(4 + n, FLOATS[n])
    lab.run(
        f"v_pk_mul_f32 v[2:3], v[4:5], v[6:7] op_sel:[{low[0]},{low[1]}] op_sel_hi:[{high[0]},{high[1]}] "
        "neg_lo:[1,0] neg_hi:[0,0]"
    )
    wanted = -FLOATS[low[0]] * FLOATS[2 + low[1]], FLOATS[high[0]] * FLOATS[2 + high[1]]
    for n in range(2):
        assert _words(lab.get(2 + n)) == _words(wanted[n].view(np.uint32))


def test_pairs_in_place(lab: Lab) -> None:
    """A result that covers its operands."""
    lab.set(4, FLOATS[0])
    lab.set(5, FLOATS[1])
    lab.run("v_pk_mul_f32 v[4:5], v[4:5], v[4:5] op_sel:[1,0] op_sel_hi:[0,1]")
    assert _words(lab.get(4)) == _words((FLOATS[1] * FLOATS[0]).view(np.uint32))
    assert _words(lab.get(5)) == _words((FLOATS[0] * FLOATS[1]).view(np.uint32))


@pytest.mark.parametrize("selects", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_pair_of_moves(lab: Lab, selects: tuple[int, int]) -> None:
    for n in range(4):
        lab.set(4 + n, FLOATS[n])
    lab.run(f"v_pk_mov_b32 v[2:3], v[4:5], v[6:7] op_sel:[{selects[0]},{selects[1]}]")
    assert _words(lab.get(2)) == _words(FLOATS[selects[0]].view(np.uint32))
    assert _words(lab.get(3)) == _words(FLOATS[2 + selects[1]].view(np.uint32))


@pytest.mark.parametrize("constant", ["0", "1.0", "-2.0"])
def test_pair_with_a_constant(lab: Lab, constant: str) -> None:
    """A constant is the same for both halves."""
    lab.set(4, FLOATS[0])
    lab.set(5, FLOATS[1])
    lab.run(f"v_pk_add_f32 v[2:3], v[4:5], {constant} op_sel_hi:[1,0]")
    for n in range(2):
        assert _words(lab.get(2 + n)) == _words((FLOATS[n] + np.float32(constant)).view(np.uint32))


@pytest.mark.parametrize("table", [0x00, 0x01, 0x6A, 0x80, 0xCA, 0xFE, 0xE8, 0x96, 0x40, 0xC0])
def test_truth_table(lab: Lab, table: int) -> None:
    """Each bit of the result by the three bits above it."""
    for n, values in enumerate((A, B, C)):
        lab.set(4 + n, values)
    lab.run(f"v_bitop3_b32 v3, v4, v5, v6 bitop3:{hex(table)}", "gfx950")
    for lane, got in enumerate(_words(lab.get(3))):
        a, b, c = (f"{int(x[lane]):032b}" for x in (A, B, C))
        assert got == int("".join(str((table >> int(x + y + z, 2)) & 1) for x, y, z in zip(a, b, c, strict=True)), 2)


def test_accumulators(lab: Lab) -> None:
    """Moves between the two halves of the register file."""
    lab.set(4, A)
    lab.run(
        "v_accvgpr_write_b32 a7, v4\nv_accvgpr_mov_b32 a9, a7\n"
        "v_accvgpr_read_b32 v3, a9\nv_accvgpr_write_b32 a8, 5\nv_accvgpr_read_b32 v5, a8"
    )
    assert _words(lab.get(3)) == _words(A)
    assert _words(lab.get(5)) == [5] * 64


# -- masks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("active", [0, 1, 0x8000000000000000, 0x0F0F00FF12345678])
def test_inactive_lanes_keep_their_values(lab: Lab, active: int) -> None:
    """And their bits of a mask become zero."""
    for register, values in ((4, A), (5, B), (3, C), (8, C), (9, C)):
        lab.set(register, values)
    lab.run(
        "v_add_u32 v3, v4, v5\nv_lshlrev_b64 v[8:9], 1, v[4:5]\n"
        "v_cmp_lt_u32 vcc, v4, v5\nv_add_co_u32 v10, s[20:21], v4, v5",
        active=active,
    )
    on = [(active >> n) & 1 for n in range(64)]
    assert _words(lab.get(3)) == [
        (a + b) & U32 if x else c for a, b, c, x in zip(*map(_words, (A, B, C, on)), strict=True)
    ]
    assert _words(lab.get(9)) == [
        (((b << 32 | a) << 1) >> 32) & U32 if x else c for a, b, c, x in zip(*map(_words, (A, B, C, on)), strict=True)
    ]
    assert (
        lab.get_scalar(106, 2)
        == sum((a < b) << n for n, (a, b) in enumerate(zip(_words(A), _words(B), strict=True))) & active
    )
    assert (
        lab.get_scalar(20, 2)
        == sum((a + b > U32) << n for n, (a, b) in enumerate(zip(_words(A), _words(B), strict=True))) & active
    )


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("and", lambda a, e: a & e),
        ("or", lambda a, e: a | e),
        ("xor", lambda a, e: a ^ e),
        ("andn2", lambda a, e: a & ~e),
    ],
)
@pytest.mark.parametrize("mask", [0, 0xFFFFFFFFFFFFFFFF, 0x0F0F00FF12345678])
def test_saving_exec(lab: Lab, name: str, function: object, mask: int) -> None:
    """The old mask is kept, the new one is of both; SCC says whether a lane is left."""
    active = 0xFFFF0000FFFF1111
    lab.set_scalar(22, mask, 2)
    lab.run(
        f"s_{name}_saveexec_b64 s[20:21], s[22:23]\ns_cselect_b32 s24, 1, 0\ns_mov_b64 s[26:27], exec", active=active
    )
    wanted = function(mask, active) & ((1 << 64) - 1)  # type: ignore[operator]
    assert (lab.get_scalar(20, 2), lab.get_scalar(26, 2), lab.get_scalar(24)) == (active, wanted, wanted != 0)


# -- 16-bit constants of scalar instructions ---------------------------------------------------------------------


@pytest.mark.parametrize("k", [0, 1, 0x7FFF, 0x8000, 0xFFFF, 0x1234])
@pytest.mark.parametrize("value", [0, 1, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFF8000, 0xFFFFFFFF])
def test_scalar_with_a_short_constant(lab: Lab, k: int, value: int) -> None:
    short, number_ = signed(k, 16), signed(value, 32)
    for name, wanted in (
        ("s_movk_i32", (short & U32, None)),
        ("s_addk_i32", ((number_ + short) & U32, not -(1 << 31) <= number_ + short < 1 << 31)),
        ("s_mulk_i32", (number_ * short & U32, None)),
        ("s_cmpk_eq_i32", (value, number_ == short)),
        ("s_cmpk_lg_i32", (value, number_ != short)),
        ("s_cmpk_gt_i32", (value, number_ > short)),
        ("s_cmpk_ge_i32", (value, number_ >= short)),
        ("s_cmpk_lt_i32", (value, number_ < short)),
        ("s_cmpk_le_i32", (value, number_ <= short)),
        ("s_cmpk_eq_u32", (value, value == k)),
        ("s_cmpk_lg_u32", (value, value != k)),
        ("s_cmpk_gt_u32", (value, value > k)),
        ("s_cmpk_ge_u32", (value, value >= k)),
        ("s_cmpk_lt_u32", (value, value < k)),
        ("s_cmpk_le_u32", (value, value <= k)),
    ):
        lab.set_scalar(7, value)
        lab.state.scalar[0, 128] = 0
        lab.run(f"{name} s7, {hex(k)}\ns_cselect_b32 s8, 1, 0")
        assert lab.get_scalar(7) == wanted[0], name
        assert wanted[1] is None or lab.get_scalar(8) == wanted[1], name


# -- DPP: lanes of others ------------------------------------------------------------------------------------------


def _rows(within: object) -> list[int]:
    return [(n & ~15) + within(n & 15) if 0 <= within(n & 15) < 16 else -1 for n in LANES]  # type: ignore[operator]


DPP = {
    "quad_perm:[1,0,3,2]": [n ^ 1 for n in LANES],
    "quad_perm:[2,3,0,1]": [n ^ 2 for n in LANES],
    "quad_perm:[0,0,0,3]": [(n & ~3) + (3 if n % 4 == 3 else 0) for n in LANES],
    "row_shl:1": _rows(lambda i: i + 1),
    "row_shl:15": _rows(lambda i: i + 15),
    "row_shr:1": _rows(lambda i: i - 1),
    "row_shr:8": _rows(lambda i: i - 8),
    "row_ror:4": _rows(lambda i: (i - 4) % 16),
    "row_mirror": _rows(lambda i: 15 - i),
    "row_half_mirror": [(n & ~7) + 7 - (n & 7) for n in LANES],
    "row_bcast:15": [-1] * 16 + [15] * 16 + [31] * 16 + [47] * 16,
    "row_bcast:31": [-1] * 32 + [31] * 32,
    "row_newbcast:5": [(n & ~15) + 5 for n in LANES],
}


@pytest.mark.parametrize("control", DPP)
@pytest.mark.parametrize(("rows", "banks"), [(0xF, 0xF), (0xA, 0xF), (0xF, 0x5), (0x3, 0xC)])
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("active", [(1 << 64) - 1, 0xFFFF0F0FFFFF7FFE])
@pytest.mark.parametrize("in_place", [False, True])
def test_dpp(lab: Lab, control: str, rows: int, banks: int, zeros: bool, active: int, in_place: bool) -> None:
    """A lane whose source is outside or inactive reads zero with bound_ctrl, else is not written; as is one masked."""
    lab.set(4, A)
    lab.set(3, C)
    target = 4 if in_place else 3
    bound = " bound_ctrl:0" if zeros else ""
    lab.run(f"v_mov_b32_dpp v{target}, v4 {control} row_mask:{hex(rows)} bank_mask:{hex(banks)}{bound}", active=active)
    old = A if in_place else C
    for lane, (got, source) in enumerate(zip(_words(lab.get(target)), DPP[control], strict=True)):
        selected = (rows >> (lane // 16)) & 1 and (banks >> (lane % 16 // 4)) & 1 and (active >> lane) & 1
        there = source >= 0 and (active >> source) & 1
        wanted = int(A[source]) if there else 0
        assert got == (wanted if selected and (there or zeros) else int(old[lane])), lane


def test_dpp_computes(lab: Lab) -> None:
    """The exchange is of the first operand alone."""
    lab.set(4, A)
    lab.set(5, B)
    lab.run("v_add_u32_dpp v3, v4, v5 quad_perm:[1,0,3,2] row_mask:0xf bank_mask:0xf")
    assert _words(lab.get(3)) == [(int(A[n ^ 1]) + int(B[n])) & U32 for n in LANES]


# -- division: seven instructions together ---------------------------------------------------------------------------

DIVISION = """v_div_scale_f32 v6, s[20:21], v5, v5, v4
v_rcp_f32 v7, v6
v_fma_f32 v8, -v6, v7, 1.0
v_fmac_f32 v7, v8, v7
v_div_scale_f32 v9, vcc, v4, v5, v4
v_mul_f32 v8, v9, v7
v_fma_f32 v10, -v6, v8, v9
v_fmac_f32 v8, v10, v7
v_fma_f32 v6, -v6, v8, v9
v_div_fmas_f32 v6, v6, v7, v8
v_div_fixup_f32 v3, v6, v5, v4"""
"""What LLVM makes of a division of float32."""


def test_division_is_ieee(lab: Lab) -> None:
    """Rounded once for all exponents of both, denormals, zeros, infinities and NaN."""
    patterns = RANDOM.integers(0, 1 << 32, (400, 2, 64), np.uint64)
    patterns[0, :, :8] = [0, 1 << 31, 0x7F800000, 0x7FC00000, 1, 0x7F7FFFFF, 0x800000, 0x3F800000]
    patterns[0, 1] = np.repeat(patterns[0, 0, :8], 8)
    patterns[0, 0] = np.tile(patterns[0, 0, :8], 8)
    for a, b in patterns:
        lab.set(4, a)
        lab.set(5, b)
        lab.run(DIVISION)
        with np.errstate(all="ignore"):
            wanted = (a.astype(np.uint32).view(np.float32) / b.astype(np.uint32).view(np.float32)).view(np.uint32)
        got = lab.get(3).astype(np.uint32)
        nan = np.isnan(wanted.view(np.float32))
        assert np.isnan(got.view(np.float32))[nan].all()
        wrong = (got != wanted) & ~nan
        assert not wrong.any(), [
            (hex(x), hex(y), hex(g), hex(v))
            for x, y, g, v in zip(a[wrong], b[wrong], got[wrong], wanted[wrong], strict=True)
        ]
