"""Hopper's own scan on a Hopper card: the bits of the scan that every chip has, and which operands it refuses.

The other scan is the one that the interpreter and the gate judge, so equal bits hand its evidence on.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from gdn_verify.kernels.rows import Tables

from ..launches import same_bits

pytest.importorskip("triton")
HOPPER = torch.cuda.is_available() and torch.cuda.get_device_capability() == (9, 0)
on_hopper = pytest.mark.skipif(not HOPPER, reason="no Hopper card on this machine")
REPEATS = 200


@dataclass(frozen=True)
class Launch:
    """Rows of `lengths`; every third row is padded where `pads`; what no live row owns is NaN."""

    lengths: tuple[int, ...] = (64, 0, 65, 1, 130, 300)
    H: int = 2
    ratio: int = 2
    K: int = 128
    V: int = 128
    dtype: torch.dtype = torch.bfloat16
    pool: torch.dtype = torch.float32
    output: torch.dtype | None = None
    state_order: str = "VK"
    known: bool = True
    pads: bool = False
    reads: bool = False
    tail: int = 0
    gap: int = 0
    packed: bool = False
    zero_pads: bool = True
    index: torch.dtype = torch.int32
    segments: int = 1
    every: int = 0

    @property
    def HV(self) -> int:
        return self.H * self.ratio

    @property
    def tokens(self) -> int:
        return sum(self.lengths) + self.tail


@dataclass(frozen=True)
class Given:
    """What a launch is given, on the card; `pool` and `checkpoints` are views of guarded storages."""

    inputs: tuple[Tensor, ...]
    tables: Tables
    pool: Tensor
    output: Tensor
    checkpoints: Tensor | None


def given(launch: Launch, seed: int = 0) -> Given:
    make = torch.Generator(device="cuda").manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, device="cuda", generator=make)

    N, T, widths = len(launch.lengths), launch.tokens, (launch.H * launch.K, launch.H * launch.K, launch.HV * launch.V)
    mixed = draw(T, sum(widths)).to(launch.dtype)
    parts = mixed.split(widths, 1) if launch.packed else [x.contiguous() for x in mixed.split(widths, 1)]
    q, k, v = (x.unflatten(1, (-1, D)) for x, D in zip(parts, (launch.K, launch.K, launch.V), strict=True))
    g = -0.02 * torch.rand(T, launch.HV, device="cuda", generator=make)  # a segment remembers where it started
    beta = draw(T, launch.HV).sigmoid()
    starts = torch.tensor((0, *launch.lengths), device="cuda").cumsum(0)
    slots = torch.randperm(2 * N, device="cuda", generator=make)
    own, read = slots[:N].clone(), slots[N:].clone()
    if launch.pads:
        own[::3] = -1
        for n in range(0, N, 3):
            for x in (q, k, v, g, beta):
                x[starts[n] : starts[n + 1]] = torch.nan
    for x in (q, k, v, g, beta):
        x[starts[-1] :] = torch.nan
    known = torch.arange(N, device="cuda") % 4 != 1 if launch.known else None
    tables = Tables(
        starts.to(launch.index), own.to(launch.index), has_initial_state=known,
        read_indices=read.to(launch.index) if launch.reads else None,
    )  # fmt: skip
    inner = (launch.V, launch.K) if launch.state_order == "VK" else (launch.K, launch.V)
    slot = launch.HV * launch.K * launch.V
    storage = 0.3 * draw(2 * N, slot + launch.gap)
    pool = storage.to(launch.pool)[:, :slot].unflatten(1, (launch.HV, *inner))
    output = torch.full((T, launch.HV, launch.V), 7.0, dtype=launch.output or launch.dtype, device="cuda")
    kept = torch.full((T // launch.every, launch.HV, *inner), 7.0, device="cuda") if launch.every else None
    return Given((q, k, v, g, beta), tables, pool, output, kept)


def run(launch: Launch, has: Given, groups: int) -> None:
    """One launch on these operands, in place."""
    from gdn_verify.kernels.triton.chunk import chunk_delta
    from gdn_verify.kernels.triton.shape import HOPPER_AHEAD, Shape

    shape = Shape(64, 4, 4, HOPPER_AHEAD.get(groups, 3), launch.segments, 128, groups)
    chunk_delta(
        *has.inputs, has.pool, has.tables, state_order=launch.state_order, output=has.output,
        zero_pads=launch.zero_pads, checkpoints=has.checkpoints, checkpoint_every=launch.every, shape=shape,
    )  # fmt: skip


def results(has: Given) -> list[Tensor]:
    """Every byte that a launch may have written, and the holes between slots."""
    found = [has.output, has.pool.as_strided((has.pool.untyped_storage().nbytes() // has.pool.itemsize,), (1,), 0)]
    return found if has.checkpoints is None else [*found, has.checkpoints]


LAUNCHES = {
    "rows of any length": Launch(),
    "float16": Launch(dtype=torch.float16, pool=torch.float16),
    "bfloat16 pool": Launch(pool=torch.bfloat16),
    "float32 output": Launch(output=torch.float32),
    "K 64": Launch(K=64),
    "K 64, V 256": Launch(K=64, V=256),
    "V 256, three heads to a key": Launch(V=256, ratio=3),
    "KV": Launch(state_order="KV"),
    "KV, V 256": Launch(state_order="KV", V=256, pool=torch.bfloat16),
    "no flags of initial states": Launch(known=False),
    "padded rows and a tail": Launch(pads=True, tail=70),
    "untouched pads": Launch(pads=True, tail=3, zero_pads=False),
    "read elsewhere": Launch(reads=True),
    "gaps between slots": Launch(gap=24),
    "views of a packed projection": Launch(packed=True),
    "int64 indices": Launch(index=torch.int64),
    "one token": Launch(lengths=(1,)),
    "fewer tokens than a chunk": Launch(lengths=(3, 0, 5)),
    "rows without tokens": Launch(lengths=(0, 0, 64, 0)),
    "40 rows": Launch(lengths=tuple(range(0, 200, 5)), H=4),
    "long": Launch(lengths=(2000, 64)),
    "segments": Launch(lengths=(700, 0, 64, 300, 1), segments=4),
    "segments, padded, KV": Launch(lengths=(700, 90, 64, 300, 1), segments=5, pads=True, tail=70, state_order="KV"),
    "segments behind the end of short rows": Launch(lengths=(100, 0), segments=8, tail=8092),
    "segments, read elsewhere": Launch(lengths=(700, 90, 64), segments=3, reads=True, pool=torch.bfloat16),
    "checkpoints": Launch(lengths=(700, 0, 64, 63, 300), every=64),
    "checkpoints in segments, KV": Launch(lengths=(700, 90, 64, 300), every=128, segments=3, state_order="KV"),
}


@on_hopper
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("launch", LAUNCHES.values(), ids=LAUNCHES)
def test_it_leaves_the_bits_of_the_other_scan(launch: Launch, groups: int) -> None:
    """Output, pool, checkpoints, and what is between and behind them."""
    if launch.V % (64 * groups):
        pytest.skip("V has no room for two warpgroups")
    expected, actual = given(launch), given(launch)
    run(launch, expected, 0)
    run(launch, actual, groups)
    for wanted, found in zip(results(expected), results(actual), strict=True):
        assert same_bits(wanted, found)


@on_hopper
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("name", ["rows of any length", "40 rows", "long", "segments", "checkpoints"])
def test_repeats_are_the_same_bits(name: str, groups: int) -> None:
    """Two hundred times from the same pool."""
    launch = LAUNCHES[name]
    first = given(launch)
    before = first.pool.clone()
    run(launch, first, groups)
    wanted = [x.clone() for x in results(first)]
    for _ in range(REPEATS):
        first.pool.copy_(before)
        first.output.fill_(3.0)
        run(launch, first, groups)
        assert all(same_bits(x, y) for x, y in zip(wanted, results(first), strict=True))


@on_hopper
@pytest.mark.parametrize("segments", [1, 4])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_replay_serves_other_rows(groups: int, segments: int) -> None:
    """Captured once; then the buffers hold rows of other lengths, in other slots, and fewer of them."""
    launch = Launch(lengths=(100, 64, 0, 136), tail=4, segments=segments)
    has = given(launch)
    run(launch, has, groups)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run(launch, has, groups)
    for seed, lengths in enumerate([(100, 64, 0, 136), (1, 200, 99, 0), (300, 0, 0, 0), (0, 0, 0, 0)], start=1):
        other = replace(launch, lengths=lengths, tail=304 - sum(lengths))
        fresh, eager = given(other, seed), given(other, seed)
        for old, new in zip(has.inputs, fresh.inputs, strict=True):
            old.copy_(new)
        has.tables.query_start_loc.copy_(fresh.tables.query_start_loc)
        has.tables.state_indices.copy_(fresh.tables.state_indices)
        has.pool.copy_(fresh.pool)
        has.output.fill_(7.0)
        graph.replay()
        run(other, eager, groups)
        assert all(same_bits(x, y) for x, y in zip(results(eager), results(has), strict=True))


@on_hopper
def test_it_is_chosen_where_it_can_serve() -> None:
    """And the other one for operands that the copy engine does not take, such as tokens 8 bytes off."""
    from gdn_verify.kernels.triton import chunk

    launch = Launch()
    has = given(launch)
    assert chunk._default_shape(*has.inputs[:3], 6, exact=False).groups == 1
    assert chunk._default_shape(*has.inputs[:3], 600, exact=False).groups == 2
    off = torch.empty(launch.tokens, launch.H * launch.K + 4, dtype=torch.bfloat16, device="cuda")
    q = off[:, 4:].unflatten(1, (launch.H, launch.K))
    assert chunk._default_shape(q, *has.inputs[1:3], 6, exact=False).groups == 0


def refused() -> list[str]:
    """In the interpreter's process: what is said of operands that a forced scan does not take, and where it is not."""
    from gdn_verify.kernels.triton.chunk import chunk_delta
    from gdn_verify.kernels.triton.shape import Shape

    said = []
    for K, V, dtype, groups in (
        (32, 64, torch.bfloat16, 1), (64, 64, torch.bfloat16, 2), (64, 64, torch.float32, 1), (64, 64, torch.float16, 1)
    ):  # fmt: skip
        q, v, gate = torch.zeros(2, 1, K, dtype=dtype), torch.zeros(2, 1, V, dtype=dtype), torch.zeros(2, 1)
        tables = Tables(torch.tensor([0, 2]), torch.tensor([0]), has_initial_state=torch.tensor([True]))
        with pytest.raises(ValueError, match="Hopper") as error:
            chunk_delta(
                q, q, v, gate, gate, torch.zeros(1, 1, V, K), tables, shape=Shape(64, 4, 4, 2, groups=groups)
            )  # fmt: skip
        said.append(str(error.value))
    return said


def test_what_it_does_not_take_is_refused_where_it_is_forced(interpreted) -> None:
    """By size, by its warpgroups, by dtype, by the chip; with the way out."""
    for said in interpreted(refused):
        assert "use groups=0" in said


@pytest.mark.parametrize(
    ("field", "shape"),
    [
        ("groups=3", {"groups": 3, "ahead": 2}),
        ("ahead=1", {"groups": 1, "ahead": 1}),
        ("ahead=3", {"groups": 2, "ahead": 3}),
        ("ahead=0", {"ahead": 0}),
        ("segments=-1", {"segments": -1, "ahead": 1}),
        ("block_v=128", {"block_v": 128, "ahead": 1}),
    ],
)
def test_a_shape_that_would_hang_cannot_be_made(field: str, shape: dict[str, int]) -> None:
    """Warpgroups that nobody starts, a ring whose only place is waited for, and numbers that mean nothing."""
    from gdn_verify.kernels.triton.shape import Shape

    with pytest.raises(ValueError, match=field):
        Shape(64, 4, 4, **shape)


def test_rows_and_slots_are_found_as_elsewhere() -> None:
    """Gluon needs functions of its own: they are the text of Triton's, in its language."""
    from gdn_verify.kernels.triton import hopper_rows, varlen

    for name in ("legal_slot", "find_slots"):
        ours, theirs = (inspect.getsource(getattr(module, name).fn) for module in (hopper_rows, varlen))
        assert ours.replace("gluon.jit", "triton.jit").replace("gl.", "tl.") == theirs
