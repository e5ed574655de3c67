"""Loads, stores and atomics of all memories, each against what its name says; and what is found where it is wrong."""

from __future__ import annotations

import re
import struct

import numpy as np
import pytest
from lab import ALL, SHARED, WINDOW, Lab
from numbers_as_bits import added, bits, number, signed

from gdn_verify.emulator.amdgpu.access import Shape
from gdn_verify.emulator.amdgpu.encoding import UnknownInstructionError
from gdn_verify.emulator.amdgpu.faults import Fault
from gdn_verify.emulator.amdgpu.instructions import OPERATIONS

RANDOM = np.random.default_rng(11)
OFFSETS = RANDOM.permutation(64).astype(np.uint64) * 32
"""Of each lane, in bytes, apart from each other."""
OLD = 0xA5A5A5A5
_LOAD = "global_load_dword v{}, v[4:5], off\n"

SIMPLE = sorted(
    name for name, each in OPERATIONS.items()
    if isinstance(each.traits.get("shape"), Shape) and "atomic" not in name and not name.startswith("flat")
    and not re.match(r"ds_(add|read2|write2)", name)
)  # fmt: skip
ATOMICS = sorted(name for name in OPERATIONS if "_atomic_" in name and not name.startswith("flat"))
APART = {"ds_read2_b32", "ds_read2_b64", "ds_read2st64_b32", "ds_read2st64_b64", "ds_write2_b32", "ds_write2_b64"}
APART |= {"ds_write2st64_b32", "ds_write2st64_b64", "ds_add_u32", "ds_add_f32", "ds_add_rtn_u32"}
FLAT = {name for name in OPERATIONS if name.startswith("flat_")}
"""Known by name only, and refused: a flat address may be of any memory."""


@pytest.fixture(scope="module")
def lab() -> Lab:
    return Lab()


def test_every_access_is_tested() -> None:
    """An instruction without a test is not known."""
    accesses = {name for name, each in OPERATIONS.items() if "shape" in each.traits}
    assert accesses == {*SIMPLE, *ATOMICS, *APART, *FLAT}


def _parse(name: str) -> tuple[int, bool, str]:
    """From a name: bytes, whether it extends a sign, and the half of a register that it is about."""
    half = "high" if name.endswith("d16_hi") else "low" if name.endswith("d16") else ""
    if match := re.search(r"dwordx(\d)", name):
        return 4 * int(match[1]), False, half
    if match := re.search(r"_b(8|16|32|64|96|128)\b|_[ui](8|16)\b|_b(8|16)_d16|_[ui](8|16)_d16", name):
        return int(next(x for x in match.groups() if x)) // 8, bool(re.search(r"_i(8|16)", name)), half
    size = 1 if "byte" in name else 2 if "short" in name else 4
    return size, "sbyte" in name or "sshort" in name, half


def _registers(first: int, size: int) -> str:
    count = max(1, size // 4)
    return f"v{first}" if count == 1 else f"v[{first}:{first + count - 1}]"


def _memory(lab: Lab, name: str) -> np.ndarray:
    if name.startswith("ds_"):
        return lab.state.shared[0]
    return lab.memory


def _text(lab: Lab, name: str, data: str, offset: int) -> str:
    """A line, with each lane's address set up; there is data at OFFSETS + 64 + offset."""
    if name.startswith("ds_"):
        lab.set(4, OFFSETS + np.uint64(64))
        return f"{name} {data}, v4 offset:{offset}" if "read" in name else f"{name} v4, {data} offset:{offset}"
    if name.startswith("scratch_"):
        lab.set(4, 64)
        return (
            f"{name} {data}, v4, off offset:{offset}" if "load" in name else f"{name} v4, {data}, off offset:{offset}"
        )
    if name.startswith("buffer_"):
        lab.set(4, OFFSETS + np.uint64(32))
        lab.set_scalar(8, WINDOW, 2)
        lab.set_scalar(10, 1 << 16)
        lab.set_scalar(11, 0x27000)
        lab.set_scalar(12, 32)
        return f"{name} {data}, v4, s[8:11], s12 offen offset:{offset}"
    lab.set(4, OFFSETS + np.uint64(WINDOW + 64), 2)
    return (
        f"{name} {data}, v[4:5], off offset:{offset}"
        if "load" in name
        else f"{name} v[4:5], {data}, off offset:{offset}"
    )


@pytest.mark.parametrize("name", SIMPLE)
@pytest.mark.parametrize("active", [ALL, 0x00FF00FF12345678])
def test_access(lab: Lab, name: str, active: int) -> None:
    """What a lane reads is in its registers, what it writes in memory, and nothing else changes."""
    size, extends, half = _parse(name)
    loads = "load" in name or "read" in name
    private = name.startswith("scratch_")
    memory = _memory(lab, name)
    fresh = RANDOM.integers(0, 256, 4096, np.uint8)
    memory[:4096] = fresh
    lab.state.private[:] = RANDOM.integers(0, 1 << 32, lab.state.private.shape, np.uint32)
    before = lab.state.private[0].copy()
    for n in range(4):
        lab.set(8 + n, RANDOM.integers(0, 1 << 32, 64, np.uint64))
    data = [lab.get(8 + n) for n in range(4)]
    lab.run(_text(lab, name, _registers(8, size), 16), active=active)
    for lane in range(64):
        on = (active >> lane) & 1
        at = int(OFFSETS[lane]) + 80
        held = before[lane].tobytes()[80 : 80 + size] if private else bytes(fresh[at : at + size])
        given = b"".join(struct.pack("<I", int(data[n][lane])) for n in range(4))
        if loads:
            registers = [int(lab.get(8 + n)[lane]) for n in range(4)]
            wanted = [int(data[n][lane]) for n in range(4)]
            if on and size >= 4:
                wanted[: size // 4] = struct.unpack(f"<{size // 4}I", held)
            elif on:
                value = int.from_bytes(held, "little")
                value = signed(value, 8 * size) & 0xFFFFFFFF if extends else value
                if half == "low":
                    value = (wanted[0] >> 16 << 16) | (value & 0xFFFF)
                elif half == "high":
                    value = (wanted[0] & 0xFFFF) | ((value & 0xFFFF) << 16)
                wanted[0] = value
            assert registers == wanted, lane
        else:
            written = given[2:] if half == "high" else given
            now = lab.state.private[0, lane].tobytes()[80 : 80 + size] if private else bytes(memory[at : at + size])
            assert now == (written[:size] if on else held), lane
    if not loads and not private:
        touched = {int(o) + 80 + n for lane, o in enumerate(OFFSETS) if (active >> lane) & 1 for n in range(size)}
        others = [n for n in range(4096) if n not in touched]
        assert (memory[others] == fresh[others]).all()


@pytest.mark.parametrize(
    ("name", "size", "unit"), [("b32", 4, 4), ("b64", 8, 8), ("st64_b32", 4, 256), ("st64_b64", 8, 512)]
)
def test_two_places(lab: Lab, name: str, size: int, unit: int) -> None:
    """Offsets count in numbers, or in 64 numbers; a register that holds the address may be loaded to."""
    name = f"2{name}" if name.startswith("st") else f"2_{name}"
    shared = lab.state.shared[0]
    shared[:] = RANDOM.integers(0, 256, SHARED, np.uint8)
    addresses = np.arange(64, dtype=np.uint64) * np.uint64(size)
    lab.set(8, addresses)
    last = 8 + 2 * size // 4 - 1
    lab.run(f"ds_read{name} v[8:{last}], v8 offset0:3 offset1:5")
    for place, offset in enumerate((3, 5)):
        got = lab.get(8 + place * size // 4, size // 4)
        for lane in range(64):
            at = int(addresses[lane]) + offset * unit
            assert int(got[lane]) == int.from_bytes(shared[at : at + size].tobytes(), "little")
    values = [RANDOM.integers(0, 1 << 32, 64, np.uint64) for _ in range(4)]
    for n, value in enumerate(values):
        lab.set(12 + n, value)
    lab.set(8, addresses * np.uint64(2))
    width = size // 4
    data = [_registers(12, size), _registers(12 + width, size)]
    lab.run(
        f"ds_write{name} v8, {data[0]}, {data[1]} offset0:2 offset1:130"
        if "st" not in name
        else f"ds_write{name} v8, {data[0]}, {data[1]} offset0:2 offset1:9"
    )
    for place, offset in enumerate((2, 9 if "st" in name else 130)):
        for lane in range(64):
            at = 2 * int(addresses[lane]) + offset * unit
            wanted = b"".join(struct.pack("<I", int(values[place * width + n][lane])) for n in range(width))
            assert shared[at : at + size].tobytes() == wanted


def _atomic(name: str, old: int, new: int, other: int, width: int) -> int:
    word = re.sub(r"_(x2|u32|rtn_u32)$", "", name.split("atomic_")[-1].removeprefix("ds_")).removesuffix("_rtn")
    mask = (1 << width) - 1
    if word == "pk_add_f16":
        return sum(
            bits(added(number((old >> s) & 0xFFFF, "h"), number((new >> s) & 0xFFFF, "h"), "h"), "h") << s
            for s in (0, 16)
        )
    if word == "pk_add_bf16":
        from references import _brain

        halves = [
            bits(added(number(((old >> s) & 0xFFFF) << 16, "f"), number(((new >> s) & 0xFFFF) << 16, "f"), "f"), "f")
            for s in (0, 16)
        ]
        return _brain(halves[0]) | (_brain(halves[1]) << 16)
    kind = {"f32": "f", "f64": "d"}.get(word[-3:], "")
    if kind:
        a, b = number(old, kind), number(new, kind)
        return bits({"add": added(a, b, kind), "max": max(a, b), "min": min(a, b)}[word[:3]], kind)
    a, b = signed(old, width), signed(new, width)
    return {
        "swap": new,
        "cmpswap": new if old == other else old,
        "add": old + new,
        "sub": old - new,
        "smin": min(a, b),
        "smax": max(a, b),
        "umin": min(old, new),
        "umax": max(old, new),
        "and": old & new,
        "or": old | new,
        "xor": old ^ new,
    }[word] & mask


@pytest.mark.parametrize("name", [*ATOMICS, "ds_add_u32", "ds_add_rtn_u32", "ds_add_f32"])
@pytest.mark.parametrize("returns", [False, True])
def test_atomic(lab: Lab, name: str, returns: bool) -> None:
    """Lanes one after the other on one place, and what was there before each, where that is asked for."""
    if name.startswith("ds_") and returns != ("rtn" in name):
        pytest.skip("its name says whether it returns")
    width = 64 if name.endswith(("x2", "f64")) else 32
    floats = {"f32": 32, "f64": 64}.get(name[-3:])
    if floats:
        values = RANDOM.standard_normal(65).astype(f"f{floats // 8}").view(f"u{floats // 8}").astype(np.uint64)
    elif "f16" in name:
        halves = RANDOM.standard_normal((2, 65)).astype(np.float16).view(np.uint16).astype(np.uint64)
        if "bf16" in name:
            halves = RANDOM.standard_normal((2, 65)).astype(np.float32).view(np.uint32).astype(np.uint64) >> np.uint64(
                16
            )
        values = halves[0] | (halves[1] << np.uint64(16))
    else:
        values = (
            RANDOM.integers(0, 1 << width, 65, np.uint64, endpoint=False)
            if width == 32
            else RANDOM.integers(0, 1 << 63, 65, np.uint64) * np.uint64(2)
        )
    compared = np.roll(values[1:], 1)
    compared[::3] = 1
    compared[0] = values[0]
    memory = _memory(lab, name)
    memory[64 : 64 + width // 8] = np.frombuffer(int(values[0]).to_bytes(width // 8, "little"), np.uint8)
    lab.set(12, values[1:], width // 32)
    lab.set(12 + width // 32, compared, width // 32)
    lab.set(8, OLD)
    data = _registers(12, width // 8 * (2 if "cmpswap" in name else 1))
    back = _registers(8, width // 8) if returns else ""
    if name.startswith("ds_"):
        lab.set(4, 64)
        text = f"{name} {back + ', ' if back else ''}v4, {data}"
    elif name.startswith("buffer"):
        lab.set(4, 64)
        _text(lab, "buffer_", data, 0)
        lab.set(4, 64)
        lab.set(8, values[1:], width // 32)
        lab.set(8 + width // 32, compared, width // 32)
        data = _registers(8, width // 8 * (2 if "cmpswap" in name else 1))
        text = f"{name} {data}, v4, s[8:11], 0 offen{' sc0' if returns else ''}"
    else:
        lab.set(4, 64)
        lab.set_scalar(8, WINDOW, 2)
        text = f"{name} {back + ', ' if back else ''}v4, {data}, s[8:9]{' sc0' if returns else ''}"
    lab.run(text)
    now, results = int(values[0]), lab.get(8, width // 32)
    for lane in range(64):
        if returns:
            assert int(results[lane]) == now, lane
        now = _atomic(name, now, int(values[lane + 1]), int(compared[lane]), width)
    assert int.from_bytes(memory[64 : 64 + width // 8].tobytes(), "little") == now


@pytest.mark.parametrize("count", [1, 2, 4, 8, 16])
def test_scalar_load(lab: Lab, count: int) -> None:
    """Words in a row, by a constant, a register, or both."""
    lab.memory[:512] = RANDOM.integers(0, 256, 512, np.uint8)
    lab.set_scalar(4, WINDOW, 2)
    lab.set_scalar(7, 64)
    name = "s_load_dword" + (f"x{count}" if count > 1 else "")
    target = "s16" if count == 1 else f"s[16:{15 + count}]"
    for offset, text in ((32, "0x20"), (64, "s7"), (72, "s7 offset:0x8")):
        lab.run(f"{name} {target}, s[4:5], {text}\ns_waitcnt lgkmcnt(0)")
        wanted = lab.memory[offset : offset + 4 * count].view(np.uint32)
        assert [lab.get_scalar(16 + n) for n in range(count)] == [int(x) for x in wanted]


# -- what is found -----------------------------------------------------------------------------------------------


def test_outside_is_found(lab: Lab) -> None:
    """Nothing is read or written there; a load gives zero."""
    lab.set_scalar(4, WINDOW + (1 << 16), 2)
    there = "v_mov_b32 v4, s4\nv_mov_b32 v5, s5\nv_mov_b32 v8, 7\n"
    assert lab.run(there + "global_load_dword v8, v[4:5], off\ns_waitcnt vmcnt(0)") == [Fault.READ_OUTSIDE]
    assert not lab.get(8).any()
    assert lab.run("v_mov_b32 v8, 1\nv_mov_b32 v4, 0\nv_mov_b32 v5, 0\nglobal_store_dword v[4:5], v8, off") == [
        Fault.WRITE_OUTSIDE
    ]
    assert Fault.SHARED_OUTSIDE in lab.run("v_mov_b32 v4, 0x10000\nds_read_b32 v8, v4\ns_waitcnt lgkmcnt(0)")


def test_a_buffer_masks(lab: Lab) -> None:
    """What lies beyond a descriptor's size reads as zero, is not written, and is no finding."""
    lab.set_scalar(8, WINDOW, 2)
    lab.set_scalar(10, 64)
    lab.set_scalar(11, 0x27000)
    lab.memory[:256] = 1
    text = (
        "v_mov_b32 v4, 0x80000000\nbuffer_load_dword v8, v4, s[8:11], 0 offen\n"
        "s_waitcnt vmcnt(0)\nbuffer_store_dword v4, v4, s[8:11], 0 offen"
    )
    assert lab.run(text) == []
    assert not lab.get(8).any()
    assert (lab.memory[:256] == 1).all()


def test_a_descriptor_with_a_stride_is_refused(lab: Lab) -> None:
    lab.set_scalar(8, WINDOW | (4 << 48), 2)
    lab.set_scalar(10, 64)
    lab.set_scalar(11, 0x27000)
    assert Fault.REFUSED in lab.run("v_mov_b32 v4, 0\nbuffer_load_dword v8, v4, s[8:11], 0 offen\ns_waitcnt vmcnt(0)")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("global_load_dword v8, v[4:5], off\nv_add_u32 v9, v8, v8", Fault.NOT_WAITED),
        ("global_load_dword v8, v[4:5], off\nv_mov_b32 v8, 0", Fault.OVERWRITTEN),
        (
            "global_load_dword v8, v[4:5], off\nglobal_load_dword v9, v[4:5], off\n"
            "s_waitcnt vmcnt(1)\nv_mov_b32 v1, v9",
            Fault.NOT_WAITED,
        ),
        (
            "global_load_dword v8, v[4:5], off\nglobal_load_dword v9, v[4:5], off\n"
            "s_waitcnt vmcnt(1)\nv_mov_b32 v1, v8",
            None,
        ),
        ("global_load_dword v8, v[4:5], off\ns_waitcnt lgkmcnt(0)\nv_mov_b32 v1, v8", Fault.NOT_WAITED),
        ("ds_read_b32 v8, v6\nv_mov_b32 v1, v8", Fault.NOT_WAITED),
        ("ds_read_b32 v8, v6\nds_read_b32 v9, v6\ns_waitcnt lgkmcnt(1)\nv_mov_b32 v1, v8", None),
        ("ds_bpermute_b32 v8, v6, v6\nv_mov_b32 v1, v8", Fault.NOT_WAITED),
        ("s_load_dword s20, s[4:5], 0x0\ns_add_u32 s21, s20, s20", Fault.NOT_WAITED),
        (
            "s_load_dword s20, s[4:5], 0x0\ns_load_dword s22, s[4:5], 0x4\ns_waitcnt lgkmcnt(1)\ns_mov_b32 s21, s20",
            Fault.NOT_WAITED,
        ),
        ("s_load_dword s20, s[4:5], 0x0\ns_waitcnt lgkmcnt(0)\ns_mov_b32 s21, s20", None),
        (
            "global_load_dword v8, v[4:5], off\n" + "global_load_dword v9, v[4:5], off\n" * 62 + "v_mov_b32 v1, v8",
            Fault.NOT_WAITED,
        ),
        (_LOAD.format(8) + _LOAD.format(9) * 63 + "v_mov_b32 v1, v8", None),
        ("ds_read_b32 v8, v6\n" + "ds_read_b32 v9, v6\n" * 14 + "v_mov_b32 v1, v8", Fault.NOT_WAITED),
        ("ds_read_b32 v8, v6\n" + "ds_read_b32 v9, v6\n" * 15 + "v_mov_b32 v1, v8", None),
        ("ds_write_b32 v6, v6\ns_barrier", Fault.BARRIER_NOT_WAITED),
        ("ds_write_b32 v6, v6\ns_waitcnt lgkmcnt(0)\ns_barrier", None),
    ],
)
def test_waits_are_counted(lab: Lab, text: str, fault: Fault | None) -> None:
    """A register is filled when its access was waited for; those of one kind return in order, scalar loads in any."""
    lab.set_scalar(4, WINDOW, 2)
    found = lab.run("v_mov_b32 v4, s4\nv_mov_b32 v5, s5\nv_mov_b32 v6, 0\n" + text)
    assert found == ([] if fault is None else [fault])


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("global_store_dword v[4:5], v20, off", Fault.UNKNOWN_STORED),
        ("v_add_u32 v21, v20, v6\nglobal_store_dword v[4:5], v21, off", Fault.UNKNOWN_STORED),
        ("v_mov_b32 v21, s30\nglobal_store_dword v[4:5], v21, off", None),
        (
            "v_sub_u32 v22, v20, v20\nv_mul_lo_u32 v22, v22, 0\nglobal_load_dword v21, v22, s[4:5]\ns_waitcnt vmcnt(0)",
            Fault.UNKNOWN_ADDRESS,
        ),
        ("v_cmp_lt_u32 vcc, v20, v6\ns_cbranch_vccz 0", Fault.UNKNOWN_BRANCH),
        ("v_cmp_lt_u32 vcc, v20, v6\ns_and_saveexec_b64 s[20:21], vcc", Fault.UNKNOWN_BRANCH),
        ("v_cmp_lt_u32 vcc, v20, v6\ns_mov_b64 s[24:25], 0\ns_and_b64 vcc, vcc, s[24:25]\ns_cbranch_vccz 0", None),
        (
            "v_mov_b32 v21, 1\ns_mov_b64 vcc, -1\n"
            "v_cndmask_b32 v21, v20, v21, vcc\nglobal_store_dword v[4:5], v21, off",
            None,
        ),
        ("ds_read_b32 v21, v6\ns_waitcnt lgkmcnt(0)\nglobal_store_dword v[4:5], v21, off", Fault.UNKNOWN_STORED),
        ("ds_write_b32 v6, v6\nds_read_b32 v21, v6\ns_waitcnt lgkmcnt(0)\nglobal_store_dword v[4:5], v21, off", None),
        ("v_mad_u64_u32 v[22:23], s[20:21], v6, v6, v[6:7]\nglobal_store_dword v[4:5], v22, off", None),
        ("v_mad_u64_u32 v[22:23], s[20:21], v6, v6, v[6:7]\nglobal_store_dword v[4:5], v23, off", Fault.UNKNOWN_STORED),
        ("v_fma_mixlo_f16 v22, v6, v6, v6\nglobal_store_short v[4:5], v22, off", None),
        ("v_fma_mixlo_f16 v22, v6, v6, v6\nglobal_store_dword v[4:5], v22, off", Fault.UNKNOWN_STORED),
        ("v_fma_mixlo_f16 v22, v6, v6, v6\nv_fma_mixhi_f16 v22, v6, v6, v6\nglobal_store_dword v[4:5], v22, off", None),
    ],
)
def test_what_was_never_computed_is_followed(lab: Lab, text: str, fault: Fault | None) -> None:
    """What nothing was written to may be moved and computed with; not stored, and nothing may depend on it."""
    lab.set_scalar(4, WINDOW, 2)
    found = lab.run("v_mov_b32 v4, s4\nv_mov_b32 v5, s5\nv_mov_b32 v6, 0\n" + text)
    assert found == ([] if fault is None else [fault])


def test_flat_addresses_are_refused(lab: Lab) -> None:
    with pytest.raises(UnknownInstructionError, match="flat_load_dword"):
        lab.run("flat_load_dword v8, v[4:5]")
