"""Over random layouts, any single flipped byte is found and named; and the whole check is cheap."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gdn_verify.arena import Arena, MemoryFinding, Poison, Region, Role, Writable

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int32, torch.int64, torch.bool]


@dataclass
class Spec:
    """One buffer of a random arena, with the mask of what may change in it."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype
    role: Role
    misalign: int
    mask: torch.Tensor
    addresses: dict[int, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Find by brute force which byte of the view belongs to which element."""
        size = self.dtype.itemsize
        for index in itertools.product(*map(range, self.shape)):
            first = sum(i * s for i, s in zip(index, self.strides, strict=True)) * size
            self.addresses |= {first + byte: index for byte in range(size)}

    def may_change(self, index: tuple[int, ...]) -> bool:
        return self.role is Role.SCRATCH or bool(self.mask[index])


@st.composite
def specs(draw: st.DrawFn) -> Spec:
    """Nested strides in any order of axes with pads at every level; shrinks to an empty unpadded input."""
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=4)))
    strides = [0] * len(shape)
    reach = 1
    for axis in draw(st.permutations(range(len(shape)))):
        strides[axis] = reach + draw(st.integers(0, 3))
        reach = strides[axis] * max(shape[axis], 1)
    dtype = draw(st.sampled_from(DTYPES))
    role = draw(st.sampled_from(list(Role)))
    misalign = draw(st.integers(0, 20)) * dtype.itemsize
    mask = torch.zeros(shape, dtype=torch.bool)
    if role is not Role.INPUT:
        mask = torch.rand(shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 99)))) < 0.5
    return Spec(shape, tuple(strides), dtype, role, misalign, mask)


@st.composite
def arenas(draw: st.DrawFn) -> tuple[Arena, dict[str, Spec]]:
    """A sealed arena with up to three buffers, half of them filled with values."""
    arena = Arena("cpu", poison=draw(st.sampled_from(Poison)), guard_bytes=draw(st.integers(1, 300)))
    buffers = {f"b{i}": spec for i, spec in enumerate(draw(st.lists(specs(), min_size=1, max_size=3)))}
    for name, spec in buffers.items():
        value = torch.ones(spec.shape, dtype=spec.dtype) if draw(st.booleans()) else None
        arena.place(
            name,
            value,
            shape=spec.shape,
            dtype=spec.dtype,
            strides=spec.strides,
            role=spec.role,
            misalign_bytes=spec.misalign,
        )
    arena.seal()
    return arena, buffers


def allowed(buffers: dict[str, Spec]) -> dict[str, Writable]:
    return {name: Writable(s.mask) for name, s in buffers.items() if s.role not in (Role.INPUT, Role.SCRATCH)}


def flip(arena: Arena, at: int) -> tuple[str, int]:
    """Invert byte `at` of the arena; gives the owner's name and the offset from its view."""
    slab = arena._slabs[0]
    slab.memory[at] ^= 0xFF
    owner = next(b for b in slab.buffers if b.begin <= at < b.end)
    return owner.name, at - owner.start


def check_names_the_place(finding: MemoryFinding, spec: Spec, name: str, offset: int) -> None:
    assert (finding.buffer, finding.offset, finding.bytes_differ) == (name, offset, 1)
    assert finding.index == spec.addresses.get(offset)
    if finding.index is not None:
        assert finding.region is (Region.SLOT if spec.role is Role.STATE else Region.ELEMENT)
        assert finding.slot == (finding.index[0] if finding.index else None)
    elif offset < 0:
        assert finding.region is Region.GUARD_BEFORE
    elif offset < max(spec.addresses, default=-1):
        assert finding.region is Region.HOLE
    else:
        assert finding.region in (Region.HOLE, Region.GUARD_AFTER)


@given(arenas(), st.data())
@settings(max_examples=300, deadline=None)
def test_any_flipped_byte_is_found_and_named_unless_allowed(
    made: tuple[Arena, dict[str, Spec]], data: st.DataObject
) -> None:
    """The oracle enumerates each element's bytes; the arena must agree on what, where and whether."""
    arena, buffers = made
    name, offset = flip(arena, data.draw(st.integers(0, arena._slabs[0].used - 1), label="byte"))
    index = buffers[name].addresses.get(offset)
    findings = arena.violations(allowed(buffers))
    if index is not None and buffers[name].may_change(index):
        assert findings == []
    else:
        [finding] = findings
        check_names_the_place(finding, buffers[name], name, offset)


@given(arenas(), st.data())
@settings(max_examples=100, deadline=None)
def test_each_buffer_counts_its_own_forbidden_bytes(made: tuple[Arena, dict[str, Spec]], data: st.DataObject) -> None:
    """Many flips, allowed or not: the counts are exact, and no buffer is blamed for another's."""
    arena, buffers = made
    every = st.integers(0, arena._slabs[0].used - 1)
    forbidden = dict.fromkeys(buffers, 0)
    for at in data.draw(st.sets(every, max_size=20), label="bytes"):
        name, offset = flip(arena, at)
        index = buffers[name].addresses.get(offset)
        forbidden[name] += index is None or not buffers[name].may_change(index)
    counted = {f.buffer: f.bytes_differ for f in arena.violations(allowed(buffers))}
    assert counted == {name: count for name, count in forbidden.items() if count}


@given(arenas())
@settings(max_examples=100, deadline=None)
def test_writes_to_allowed_elements_give_no_finding(made: tuple[Arena, dict[str, Spec]]) -> None:
    """Through the views themselves, every allowed element is written; and then none of them is unwritten."""
    arena, buffers = made
    for name, spec in buffers.items():
        arena[name].masked_fill_(torch.ones(()) > 0 if spec.role is Role.SCRATCH else spec.mask, 0)
    assert arena.violations(allowed(buffers)) == []
    for name in allowed(buffers):
        assert arena.unwritten(name, buffers[name].mask) == []


def decode_case() -> list[MemoryFinding]:
    """A decode launch of four rows, 14 buffers: place all, seal, write, look for violations and unwritten."""
    N, H, HV, K, V, W, P = 4, 1, 2, 16, 16, 4, 8
    D, bf16 = 2 * H * K + HV * V, torch.bfloat16
    arena, live = Arena("cpu"), Writable.slots(P, range(N))
    inputs = [(N, D + HV * V), (N, 2 * HV), (D, W), (D,), (HV,), (HV,), (V,), (N + 1,), (N,), (N,)]
    for i, shape in enumerate(inputs):
        arena.place(f"input{i}", torch.ones(shape, dtype=bf16), role=Role.INPUT)
    ssm = torch.ones(P, HV, V, K)
    arena.place("ssm", ssm, role=Role.STATE, slot_stride=HV * V * K + 32, poisoned=~live.mask)
    conv = torch.ones(P, D, W - 1, dtype=bf16)
    arena.place("conv", conv, role=Role.STATE, strides=(D * (W - 1), 1, D), poisoned=~live.mask)
    for name in ("out", "z"):
        arena.place(name, shape=(N, HV, V), dtype=bf16, role=Role.OUTPUT)
    arena.seal()
    for name in ("ssm", "conv", "out", "z"):
        arena[name][:N] = 0.5
    findings = arena.violations({"ssm": live, "conv": live, "out": Writable.ALL, "z": Writable.ALL})
    return findings + arena.unwritten("out") + arena.unwritten("z")


def test_a_decode_case_costs_about_a_millisecond(record_testsuite_property: Callable[[str, object], None]) -> None:
    """About 0.5 ms on a quiet core. The bound is loose, for busy runners: it catches a change of kind."""
    assert decode_case() == []
    costs = []
    for _ in range(40):
        start = time.perf_counter()
        decode_case()
        costs.append(time.perf_counter() - start)
    milliseconds = 1e3 * min(costs)
    record_testsuite_property("arena_decode_case_ms", round(milliseconds, 3))
    assert milliseconds < 5, f"placing, sealing and checking 14 small buffers took {milliseconds:.2f} ms"
