"""The arena reports every forbidden change of memory, and names where it happened."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gdn_verify.arena import Arena, Fault, MemoryFinding, Poison, Region, Role, Writable

# The arena has one route for all devices; where torch has a GPU (ROCm's answers to "cuda" too), it runs there as well.
DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
OTHERS = [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.bool]
P, HV, V, K, HOLE = 5, 2, 4, 4, 8
SLOT = HV * V * K
LIVE = [1, 3]


@pytest.fixture(params=DEVICES)
def arena(request: pytest.FixtureRequest) -> Arena:
    """A sealed launch: an input, a pool of strided slots, a strided conv pool, an output and scratch."""
    arena = Arena(request.param)
    free = ~Writable.slots(P, LIVE).mask
    arena.place("q", torch.arange(12.0).reshape(3, 4), role=Role.INPUT)
    arena.place("ssm", torch.ones(P, HV, V, K), role=Role.STATE, slot_stride=SLOT + HOLE, poisoned=free)
    arena.place("conv", torch.ones(P, 6, 3).bfloat16(), role=Role.STATE, strides=(20, 1, 6))
    arena.place("out", shape=(3, 4), dtype=torch.bfloat16, role=Role.OUTPUT, strides=(7, 1), misalign_bytes=6)
    arena.place("work", shape=(16,), dtype=torch.float32, role=Role.SCRATCH)
    arena.seal()
    return arena


ALLOWED = {"ssm": Writable.slots(P, LIVE), "conv": Writable.slots(P, LIVE), "out": Writable.ALL}


def flip(arena: Arena, name: str, offset: int) -> None:
    """Invert the byte that lies `offset` bytes from the start of a view, wherever that is."""
    slab, buffer = arena._home(name)
    slab.memory[buffer.start + offset] ^= 0xFF


def the_finding(arena: Arena) -> MemoryFinding:
    [finding] = arena.violations(ALLOWED)
    assert finding.fault is Fault.CHANGED
    assert finding.expected != finding.found
    return finding


def run_healthy_launch(arena: Arena) -> None:
    for name in ("ssm", "conv"):
        arena[name][LIVE] = 7.0
    arena["out"].fill_(2.0)
    arena["work"].normal_()


def test_a_healthy_launch_gives_no_finding(arena: Arena) -> None:
    """Writes to live slots, outputs and scratch are what a launch is for."""
    run_healthy_launch(arena)
    assert arena.violations(ALLOWED) == []
    assert arena.unwritten("out") == []
    assert arena.unwritten("ssm", Writable.slots(P, LIVE).mask) == []


@pytest.mark.parametrize("name", ["q", "ssm", "conv", "out", "work"])
def test_one_byte_past_a_buffer_is_found(arena: Arena, name: str) -> None:
    """The guard starts with the first byte behind the view and the hole behind its last row."""
    span = arena._home(name)[1].layout.span
    flip(arena, name, span)
    finding = the_finding(arena)
    assert (finding.buffer, finding.region, finding.offset) == (name, Region.GUARD_AFTER, span)
    assert (finding.index, finding.bytes_differ, len(finding.found)) == (None, 1, 2)


@pytest.mark.parametrize("name", ["q", "ssm", "conv", "out", "work"])
def test_one_byte_before_a_buffer_is_found(arena: Arena, name: str) -> None:
    """The guard ends with the last byte in front of the view."""
    flip(arena, name, -1)
    finding = the_finding(arena)
    assert (finding.buffer, finding.region, finding.offset) == (name, Region.GUARD_BEFORE, -1)


@pytest.mark.parametrize(("slot", "region"), [(-1, Region.GUARD_BEFORE), (4, Region.GUARD_AFTER)])
@pytest.mark.parametrize("byte", [0, 3999])
def test_a_state_pool_guards_the_slots_minus_one_and_p(slot: int, region: Region, byte: int) -> None:
    """The commonest bad ids, -1 and P, land in the guards of their own pool and are named as slots."""
    arena = Arena("cpu", guard_bytes=16)
    for name in ("before", "pool", "after"):
        arena.place(name, shape=(4, 1000), dtype=torch.float32, role=Role.STATE)
    arena.seal()
    flip(arena, "pool", slot * 4000 + byte)
    [finding] = arena.violations({"pool": Writable.ALL})
    assert (finding.buffer, finding.region, finding.slot) == ("pool", region, slot)


@pytest.mark.parametrize(
    ("name", "offset", "slot"),
    [("ssm", SLOT * 4, 0), ("ssm", (4 * (SLOT + HOLE) + SLOT) * 4, 4), ("conv", (20 + 18) * 2 + 1, 1), ("out", 8, 0)],
)
def test_a_write_into_a_hole_is_found_even_in_a_writable_buffer(
    arena: Arena, name: str, offset: int, slot: int
) -> None:
    """Bytes between slots, behind the last slot and between rows belong to somebody else."""
    flip(arena, name, offset)
    finding = the_finding(arena)
    assert (finding.buffer, finding.region, finding.offset, finding.slot) == (name, Region.HOLE, offset, slot)


def test_a_write_into_an_unnamed_slot_is_found_with_its_index(arena: Arena) -> None:
    """The finding gives the element, the slot and the bytes in memory order."""
    arena["ssm"][2, 1, 0, 3] = 1.0
    finding = the_finding(arena)
    assert (finding.region, finding.slot, finding.index) == (Region.SLOT, 2, (2, 1, 0, 3))
    assert (finding.expected, finding.found) == ("7b7bc07f", "0000803f")
    assert finding.offset == (2 * (SLOT + HOLE) + 16 + 3) * 4


def test_the_index_follows_the_strides(arena: Arena) -> None:
    """Where D is the contiguous axis of a conv slot, the index is still [slot, d, column]."""
    arena["conv"][4, 5, 1] = 3.0
    assert (the_finding(arena).index, the_finding(arena).slot) == ((4, 5, 1), 4)


def test_a_modified_input_is_found(arena: Arena) -> None:
    """An input that is no output must be bit-identical; -0.0 for 0.0 is a change."""
    arena["q"][0, 0] = -0.0
    finding = the_finding(arena)
    assert (finding.region, finding.index, finding.expected, finding.found) == (
        *(Region.ELEMENT, (0, 0)),
        *("00000000", "00000080"),
    )


def test_another_nan_is_a_change(arena: Arena) -> None:
    """Bits are compared: the canonical NaN is not the poison."""
    arena["ssm"][0, 0, 0, 0] = torch.nan
    assert (the_finding(arena).expected, the_finding(arena).found) == ("7b7bc07f", "0000c07f")


def test_an_allowed_column_does_not_free_its_slot(arena: Arena) -> None:
    """A mask [P, 1, C] allows columns of slots, and nothing beside them."""
    columns = torch.zeros(P, 1, 3, dtype=torch.bool)
    columns[1, 0, :2] = True
    arena["conv"][1] = 9.0
    [finding] = arena.violations({"conv": Writable(columns)})
    assert (finding.index, finding.bytes_differ) == ((1, 0, 2), 6 * 2)


def test_each_slot_and_region_has_its_finding(arena: Arena) -> None:
    """A wrong slot does not hide a hole, a guard or another slot; `limit` bounds the slots."""
    for offset in (-3, SLOT * 4):
        flip(arena, "ssm", offset)
    arena["ssm"][[0, 2, 4]] = 5.0
    findings = arena.violations(ALLOWED)
    regions = [(f.region, f.slot) for f in findings]
    assert regions[:3] == [(Region.SLOT, 0), (Region.SLOT, 2), (Region.SLOT, 4)]
    assert regions[3:] == [(Region.GUARD_BEFORE, -1), (Region.HOLE, 0)]
    assert {f.bytes_differ for f in findings} == {3 * SLOT * _changed_bytes(5.0) + 2}
    assert [f.slot for f in arena.violations(ALLOWED, limit=1)] == [0, -1, 0]


def _changed_bytes(value: float) -> int:
    poison = torch.tensor([0x7FC07B7B], dtype=torch.int32).view(torch.uint8)
    return int((torch.tensor([value]).view(torch.uint8) != poison).sum())


def test_a_buffer_that_nobody_allows_must_not_change(arena: Arena) -> None:
    """Outputs and pools are read-only until a launch declares what it writes; scratch is always free."""
    run_healthy_launch(arena)
    assert {f.buffer for f in arena.violations()} == {"ssm", "conv", "out"}


def test_unwritten_elements_are_found(arena: Arena) -> None:
    """One finding a row names its first element that still holds the poison."""
    arena["out"].fill_(1.0)
    arena.restore()
    arena["out"][0] = 1.0
    arena["out"][1, :3] = 1.0
    first, second = arena.unwritten("out")
    assert (first.fault, first.index, first.offset, first.found) == (Fault.UNWRITTEN, (1, 3), (7 + 3) * 2, "db7f")
    assert (second.index, second.bytes_differ) == ((2, 0), 5 * 2)
    assert arena.unwritten("out", torch.tensor([True, False, False])) == []


def test_an_unwritten_slot_of_a_pool_is_found(arena: Arena) -> None:
    """A fresh row's slot starts as poison and must be filled by the launch."""
    arena["ssm"][0].fill_(0.0)
    arena["ssm"][0, 1, 2, 3] = torch.tensor(0x7FC07B7B, dtype=torch.int32).view(torch.float32)
    [finding] = arena.unwritten("ssm", Writable.slots(P, [0]).mask)
    assert (finding.region, finding.index, finding.bytes_differ) == (Region.SLOT, (0, 1, 2, 3), 4)


def test_a_second_poison_tells_a_result_from_the_pattern() -> None:
    """A result that equals the first run's finite poison is cleared by a run under another poison."""
    marks = []
    for poison in (Poison.PLAUSIBLE, Poison.HUGE):
        arena = Arena("cpu", poison=poison)
        out = arena.place("out", shape=(2,), dtype=torch.bfloat16, role=Role.OUTPUT)
        out[0] = torch.tensor(Poison.PLAUSIBLE.bits(torch.bfloat16), dtype=torch.int16).view(torch.bfloat16)
        marks.append(arena.still_poisoned("out"))
    assert [m.tolist() for m in marks] == [[True, True], [False, True]]
    [finding] = arena.unwritten("out", also=marks[0])
    assert finding.index == (1,)


@pytest.mark.parametrize("poison", Poison)
@pytest.mark.parametrize("dtype", FLOATS + OTHERS)
def test_poison_is_what_it_says(poison: Poison, dtype: torch.dtype) -> None:
    """Floats are NaN, huge or plausible; a value that holds the pattern keeps its bits when placed."""
    arena = Arena("cpu", poison=poison)
    out = arena.place("out", shape=(3,), dtype=dtype, role=Role.OUTPUT)
    assert arena.still_poisoned("out").all()
    if dtype in FLOATS:
        good = {Poison.NAN: out.isnan(), Poison.HUGE: out > torch.finfo(dtype).max / 2, Poison.PLAUSIBLE: out < 0.5}
        assert good[poison].all()
    copy = arena.place("copy", out, role=Role.INPUT)
    assert torch.equal(copy.view(torch.uint8), out.view(torch.uint8))


@pytest.mark.parametrize("dtype", FLOATS)
def test_arithmetic_does_not_make_the_poison(dtype: torch.dtype) -> None:
    """0/0, inf - inf and a converted NaN have the canonical payload."""
    zero, inf = torch.zeros(1, dtype=dtype), torch.full((1,), torch.inf, dtype=dtype)
    made = torch.cat([zero / zero, inf - inf, torch.tensor([torch.nan]).to(dtype), -(zero / zero)])
    arena = Arena("cpu")
    arena.place("made", made, role=Role.OUTPUT)
    assert made.isnan().all()
    assert not arena.still_poisoned("made").any()


@pytest.mark.parametrize("shape", [(0,), (0, 4), (3, 0, 2), ()])
def test_empty_tensors_and_scalars_are_legal(shape: tuple[int, ...]) -> None:
    """T = 0 and N = 0 launches have empty tensors; their guards are monitored all the same."""
    arena = Arena("cpu")
    placed = arena.place("x", shape=shape, dtype=torch.float32, role=Role.OUTPUT)
    arena.seal()
    assert placed.shape == shape
    assert arena.violations({"x": Writable.ALL}) == []
    assert len(arena.unwritten("x")) == placed.numel()
    flip(arena, "x", -1)
    assert [f.region for f in arena.violations({"x": Writable.ALL})] == [Region.GUARD_BEFORE]


@pytest.mark.parametrize("misalign", [0, 4, 64, 252])
def test_addresses_are_aligned_as_asked(misalign: int) -> None:
    """A view's address is a multiple of 256 bytes plus the misalignment."""
    arena = Arena("cpu", guard_bytes=1)
    for name in "abc":
        placed = arena.place(name, torch.ones(5), role=Role.INPUT, misalign_bytes=misalign)
        assert placed.data_ptr() % 256 == misalign


def test_each_tensor_has_a_storage_of_its_own_that_outlives_the_arena(arena: Arena) -> None:
    """Arguments are no aliases of each other, and a bound taken from the storage is the view's span."""
    q, out = arena["q"], arena["out"]
    assert q.untyped_storage().nbytes() == 12 * 4
    assert out.untyped_storage().nbytes() == 3 * 7 * 2
    del arena
    assert q.tolist()[2] == [8.0, 9.0, 10.0, 11.0]


def test_restore_repeats_the_launch_and_repoison_prepares_the_next(arena: Arena) -> None:
    """Restoring gives the sealed bytes at the same addresses; poison can be put back by mask."""
    address = arena["ssm"].data_ptr()
    run_healthy_launch(arena)
    arena.restore()
    assert arena.violations() == []
    assert arena["ssm"].data_ptr() == address
    arena["out"].fill_(1.0)
    arena.repoison("out", torch.tensor([True, False, False]))
    assert arena.still_poisoned("out").sum(1).tolist() == [4, 0, 0]
    with pytest.raises(RuntimeError, match="not sealed"):
        arena.violations()


def test_placing_undoes_the_seal(arena: Arena) -> None:
    """A buffer placed after the seal would not be monitored, so the arena asks to be sealed again."""
    arena.place("late", torch.ones(3), role=Role.INPUT)
    with pytest.raises(RuntimeError, match="not sealed"):
        arena.violations()
    arena.seal()
    arena["late"][1] = 0.0
    assert [f.index for f in arena.violations()] == [(1,)]


def test_a_pool_larger_than_a_slab_is_monitored() -> None:
    """Large pools get an allocation of their own, with the same guards."""
    arena = Arena("cpu")
    arena.place("small", torch.ones(3), role=Role.INPUT)
    pool = arena.place("pool", shape=(300, 1024), dtype=torch.float32, role=Role.STATE)
    arena.place("late", torch.ones(3), role=Role.INPUT)
    arena.seal()
    pool[299, 1023] = 0.0
    arena["late"][2] = 0.0
    assert [(f.buffer, f.index) for f in arena.violations()] == [("pool", (299, 1023)), ("late", (2,))]


def test_findings_read_as_sentences(arena: Arena) -> None:
    """A person sees the buffer, the place and the bytes."""
    arena["ssm"][2, 1, 0, 3] = 1.0
    flip(arena, "out", -1)
    flip(arena, "conv", 38)
    arena["q"][0, 0] = 1.0
    assert [str(f) for f in arena.violations(ALLOWED)] == [
        "q: element (0, 0), byte 2 from the view's start: must stay 00000000, is 0000803f "
        "(2 bytes of the buffer changed that must not)",
        "ssm: slot 2, element (2, 1, 0, 3), byte 396 from the view's start: must stay 7b7bc07f, is 0000803f "
        "(4 bytes of the buffer changed that must not)",
        "conv: hole of slot 0, byte 38 from the view's start: must stay db, is 24 "
        "(1 bytes of the buffer changed that must not)",
        "out: guard before (the place of slot -1), byte -1 from the view's start: must stay 7f, is 80 "
        "(1 bytes of the buffer changed that must not)",
    ]
    assert str(arena.unwritten("out")[0]) == (
        "out: element (0, 0), byte 0 from the view's start: never written, still db7f (24 bytes unwritten in all)"
    )


def test_misuse_is_refused_with_the_way_out(arena: Arena) -> None:
    """Errors name the argument and its value."""
    new: dict[str, Any] = {"role": Role.INPUT, "dtype": torch.float32}
    refused: dict[str, dict[str, Any]] = {
        "'q' is already placed": {"name": "q", "shape": (1,)},
        "no value; give both": {"name": "a", "shape": None},
        "the arena copies bits": {"name": "a", "value": torch.ones(2).half()},
        "misalign_bytes=2 of 'a'": {"name": "a", "shape": (1,), "misalign_bytes": 2},
        "overlap or interleave": {"name": "a", "shape": (2, 3), "strides": (0, 1)},
        "give one stride an axis": {"name": "a", "shape": (2, 3), "strides": (1,)},
        "needs a leading axis": {"name": "a", "shape": (), "slot_stride": 4},
        "has no poison": {"name": "a", "shape": (1,), "dtype": torch.complex64},
        "does not cover the leading axes": {"name": "a", "shape": (2, 3), "poisoned": torch.ones(3) > 0},
    }
    for message, arguments in refused.items():
        with pytest.raises(ValueError, match=message):
            arena.place(**(new | arguments))
    with pytest.raises(ValueError, match="guard_bytes=0"):
        Arena("cpu", guard_bytes=0)


def test_contradictory_permissions_are_refused(arena: Arena) -> None:
    """Unknown buffers, writable inputs and masks that are not masks never pass silently."""
    with pytest.raises(KeyError, match=r"no buffer 'o'.*placed are q, ssm, conv"):
        arena.violations({"o": Writable.ALL})
    with pytest.raises(ValueError, match="'q' has role INPUT"):
        arena.violations({"q": Writable.NOTHING})
    with pytest.raises(ValueError, match="'q' has role INPUT"):
        arena.unwritten("q")
    with pytest.raises(ValueError, match="shape \\(3,\\)"):
        arena.violations({"ssm": Writable(torch.tensor([True, False, True]))})
    with pytest.raises(TypeError, match=r"give torch\.bool"):
        Writable(torch.tensor([1, 3]))
    with pytest.raises(ValueError, match="ids holds -1"):
        Writable.slots(4, [0, -1])
