"""The kernels on a card: graphs, repeats, streams, large pools, many rows, the compiler, and cases for a sanitizer.

For a sanitizer, so that it sees the buffers and not the allocator's pool:

    PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool memcheck \\
        python -m pytest tests/kernels/triton/test_on_gpu.py -k sanitizer_cases
"""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
import torch
from torch import Tensor

from gdn_verify.kernels import ops

from . import bodies
from .accounts import assert_same
from .families import PLAIN, SPLIT, STAGED, families, operands, options
from .problems import LARGE, SERVED, SMALL_HEADS, one_each

pytest.importorskip("triton")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA or ROCm card on this machine")

ids = [f"{kernel}: {family}" for kernel, family in bodies.CASES]


@pytest.mark.parametrize(("kernel", "family"), bodies.CASES, ids=ids)
def test_200_repeats_are_the_same_bits(kernel, family):
    """From the same pools, two hundred times; the first is near the fallback."""
    bodies.repeated(kernel, bodies.sized(kernel, SERVED), family, "cuda", 200)


@pytest.mark.parametrize("state", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kernel", ["decode", "spec"])
def test_every_configuration_that_can_be_chosen(kernel, state, monkeypatch):
    """Those of this card, however many rows they are for: repeats, and replays in a graph."""
    from gdn_verify.kernels.triton.config import Sizes, configurations, spec_configurations
    from gdn_verify.kernels.triton.target import current_target

    problem = replace(bodies.sized(kernel, SERVED), state=state)
    sizes = Sizes(problem.H, problem.HV, problem.K, problem.V, state.itemsize)
    target = current_target()
    width = problem.width
    chosen = configurations(target, sizes) if width is None else spec_configurations(target, width, sizes)
    for config in set(chosen):
        monkeypatch.setitem(families(problem), config.name, asdict(config))
        bodies.repeated(kernel, problem, config.name, "cuda", 200)
        bodies.replayed(kernel, problem, config.name, "cuda")


@pytest.mark.parametrize(("kernel", "family"), [*bodies.CASES, *bodies.ROUTES])
def test_a_replay_is_the_eager_launch(kernel, family):
    """Captured at N rows, replayed with N, N-1, 1 and 0 in refilled index buffers."""
    bodies.replayed(kernel, bodies.sized(kernel, SERVED), family, "cuda")


@pytest.mark.parametrize("family", ["chosen", SPLIT])
def test_a_replay_without_offsets(family):
    """Row n is token n: rows that are gone have a token and no slot."""
    bodies.replayed("decode", SERVED, family, "cuda")


@pytest.mark.parametrize("shared", [True, False], ids=["one pool", "16 pools"])
@pytest.mark.parametrize("family", ["chosen", PLAIN, SPLIT, STAGED])
def test_16_streams_at_once(family, shared):
    """Launches on slots of their own do not notice each other."""
    problem = replace(SERVED, rows=one_each(*range(24)))
    bodies.at_once(problem, family, "cuda", shared=shared)


@pytest.mark.parametrize(
    ("kernel", "family"),
    [("decode", "chosen"), ("decode", PLAIN), ("decode", SPLIT), ("decode", STAGED), ("spec", "chosen")],
)
def test_pools_beyond_2_to_the_31(kernel, family):
    """Both pools have more elements than an int32 counts, and the slots lie at their ends."""
    problem = bodies.sized(kernel, LARGE)
    slots = 2**31 // (problem.HV * problem.K * problem.V) + 1 + problem.slots
    bodies.far_away(kernel, problem, family, "cuda", slots=slots)


@pytest.mark.parametrize(
    ("kernel", "family"),
    [("decode", "stages"), ("decode", PLAIN), ("decode", SPLIT), ("spec", "1 split"), ("spec", "4 splits")],
)
def test_more_programs_than_65535(kernel, family):
    """2100 rows of 32 heads."""
    bodies.many_rows(kernel, SMALL_HEADS, family, "cuda", rows=2100, at_a_time=100)


@pytest.mark.parametrize("shift", [1, 2])
@pytest.mark.parametrize("kernel", ["decode", "spec"])
def test_addresses_and_strides_that_are_no_multiples_of_16(kernel, shift):
    """What is compiled for operands that are aligned to their elements only, or to 4 bytes."""
    problem = bodies.sized(kernel, replace(SERVED, shift=shift, gap=6, spare=1, packing="flat"))
    bodies.repeated(kernel, problem, "chosen", "cuda", 2)


def test_the_compiler_uses_the_operator_in_place():
    """Compiled whole: the eager bits, and no copy of the pool, which the compiler makes of what it cannot update."""
    problem = replace(LARGE, slots=60, state=torch.float32)
    eager, compiled = problem.buffers("cuda"), problem.buffers("cuda")
    before = compiled.copy()

    def program(*arguments: torch.Tensor) -> torch.Tensor:
        return ops.fused_decode(*arguments, **options(problem, compiled)) + 1

    expected = ops.fused_decode(*operands(problem, eager), **options(problem, eager)) + 1
    fast = torch.compile(program, fullgraph=True)
    fast(*operands(problem, compiled))
    compiled.restore(before)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    result = fast(*operands(problem, compiled))
    taken = torch.cuda.max_memory_allocated() - held
    assert torch.equal(result, expected)
    assert_same(compiled, eager, "compiled")  # takes memory for copies of its own
    pool = compiled.pool.storage
    assert taken < pool.numel() * pool.element_size() / 2


@pytest.mark.parametrize(("kernel", "family"), bodies.CASES, ids=ids)
def test_sanitizer_cases(kernel, family):
    """A few small launches of every configuration."""
    bodies.sanitized(kernel, family, "cuda")


@pytest.mark.parametrize("V", [256, 160, 64, 48, 32, 16])
@pytest.mark.parametrize("K", [256, 160])
def test_wide_heads_are_those_of_float32_products(K, V):
    """Within the rounding of their operands, and the same bits two hundred times: some shapes of 64 tokens are not."""
    from gdn_verify.kernels.rows import Tables
    from gdn_verify.kernels.triton.chunk import chunk_delta

    make, lengths, H, HV = torch.Generator("cuda").manual_seed(K + V), (300, 1, 64, 65, 2), 4, 8
    T, N = sum(lengths), len(lengths)
    q, k, v = (torch.randn(T, n, d, generator=make, device="cuda").bfloat16() for n, d in ((H, K), (H, K), (HV, V)))
    g, beta = (torch.rand(T, HV, generator=make, device="cuda") for _ in range(2))
    pool = torch.randn(N, HV, V, K, generator=make, device="cuda")
    starts = torch.tensor((0, *lengths), device="cuda").cumsum(0)

    def launch(exact: bool) -> tuple[Tensor, Tensor]:
        states = pool.clone()
        tables = Tables(starts, torch.arange(N, device="cuda"))
        return chunk_delta(q, k, v, -0.1 * g, beta, states, tables, exact=exact), states

    first, wanted = launch(False), launch(True)
    for x, y in zip(first, wanted, strict=True):
        assert (x.float() - y.float()).norm() < 1.5e-2 * y.float().norm()
    for _ in range(200):
        assert all(torch.equal(x, y) for x, y in zip(launch(False), first, strict=True))


def _prefilled(segments: int, graph: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """(o, states, checkpoints) of three rows, one of them long, in so many segments; eagerly or by a replay."""
    from gdn_verify.kernels.rows import Tables
    from gdn_verify.kernels.triton.chunk import choose_shape, chunk_delta
    from gdn_verify.kernels.triton.target import current_target

    make, T, H, HV, D = torch.Generator("cuda").manual_seed(1), 3217, 2, 4, 128
    q, k, v = (torch.randn(T, n, D, generator=make, device="cuda").bfloat16() for n in (H, H, HV))
    g, beta = (torch.rand(T, HV, generator=make, device="cuda") for _ in range(2))
    pool = torch.randn(4, HV, D, D, generator=make, device="cuda")
    starts, slots = (torch.tensor(x, device="cuda") for x in ([0, 17, 3200, 3217], [0, 2, 3]))
    o, entries, before = torch.empty_like(v), torch.zeros(T // 256, HV, D, D, device="cuda"), pool.clone()
    shape = replace(choose_shape(current_target(), D, False), segments=segments)

    def launch() -> None:
        chunk_delta(
            q, k, v, -0.002 * g, beta, pool, Tables(starts, slots), output=o, checkpoints=entries,
            checkpoint_every=256, shape=shape,
        )  # fmt: skip

    launch()
    if graph:
        captured = torch.cuda.CUDAGraph()
        with torch.cuda.graph(captured):
            launch()
        for x in (o, entries):
            x.zero_()
        pool.copy_(before)
        captured.replay()
    return o, pool, entries


@pytest.mark.parametrize("segments", [2, 5, 100])
def test_a_prefill_in_segments_is_that_of_whole_rows(segments):
    """Within the rounding of its operands, checkpoints too; a replay gives the same bits."""
    cut, replayed = _prefilled(segments), _prefilled(segments, graph=True)
    for x, y, whole in zip(cut, replayed, _prefilled(1), strict=True):
        assert torch.equal(x, y)
        assert (x.float() - whole.float()).norm() < 1.5e-2 * whole.float().norm()
