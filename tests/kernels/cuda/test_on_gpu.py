"""The kernels on a card: graphs, repeats, streams, programmatic launch, large pools, many rows, and for a sanitizer.

The bodies are those of the Triton kernels; one test runs them emulated. For a sanitizer, so that it sees the buffers
and not the allocator's pool:

    PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool memcheck \\
        python -m pytest tests/kernels/cuda/test_on_gpu.py -k sanitizer_cases
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gdn_verify.kernels.cuda import compile as nvrtc
from gdn_verify.kernels.cuda.choices import CANDIDATES, SPEC_CANDIDATES, configurations
from gdn_verify.kernels.cuda.config import Config, Sizes

from ..triton import bodies
from ..triton.accounts import assert_same
from ..triton.problems import LARGE, PADDING, SERVED, SMALL_HEADS, Problem, one_each
from . import launching
from .launching import DECODE, JOINED, PLAIN, SPEC, STAGED, TICKETS

on_card = pytest.mark.skipif(
    not torch.cuda.is_available() or nvrtc.missing() is not None,
    reason="no CUDA card on this machine" if not torch.cuda.is_available() else str(nvrtc.missing()),
)
CASES = [("decode", name) for name in DECODE] + [("spec", name) for name in SPEC]


@pytest.fixture(autouse=True)
def of_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bodies launch the kernels in CUDA C++."""
    monkeypatch.setattr(bodies, "launch", launching.launch)


@on_card
@pytest.mark.parametrize(("kernel", "family"), CASES)
def test_200_repeats_are_the_same_bits(kernel, family):
    """From the same pools, two hundred times; the first is near the fallback."""
    bodies.repeated(kernel, bodies.sized(kernel, SERVED), family, "cuda", 200)


@on_card
@pytest.mark.parametrize("state", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("order", ["VK", "KV"])
@pytest.mark.parametrize("kernel", ["decode", "spec"])
def test_every_configuration_of_this_card(kernel, order, state, monkeypatch):
    """Those that can be chosen: repeats, and replays in a graph."""
    problem = replace(bodies.sized(kernel, SERVED), state=state, state_order=order)
    sizes = Sizes(problem.H, problem.HV, problem.K, problem.V, state.itemsize, order == "KV")
    major, minor = torch.cuda.get_device_capability()
    configs = configurations(10 * major + minor, sizes, problem.width is not None)
    _repeated_and_replayed(kernel, problem, configs, monkeypatch)


@on_card
@pytest.mark.slow
@pytest.mark.parametrize("state", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kernel", ["decode", "spec"])
def test_every_configuration_of_the_sweep(kernel, state, monkeypatch):
    """The same for those that a sweep tries."""
    problem = replace(bodies.sized(kernel, SERVED), state=state)
    _repeated_and_replayed(kernel, problem, CANDIDATES if kernel == "decode" else SPEC_CANDIDATES, monkeypatch)


def _repeated_and_replayed(kernel, problem, configs, monkeypatch):
    for config in dict.fromkeys(configs):
        monkeypatch.setitem(launching.families(problem), config.name, config)
        bodies.repeated(kernel, problem, config.name, "cuda", 50)
        bodies.replayed(kernel, problem, config.name, "cuda")


@on_card
@pytest.mark.parametrize(("kernel", "family"), CASES)
def test_programmatic_launch_changes_no_bit(kernel, family, monkeypatch):
    """A chain of ten launches, each behind kernels that write what it reads, with it and without."""
    problem = bodies.sized(kernel, SERVED)
    config = launching.families(problem)[family] or Config()
    left = []
    for dependent in (False, True):
        monkeypatch.setitem(launching.families(problem), "asked", replace(config, dependent=dependent))
        on = problem.buffers("cuda")
        fresh = on.copy()
        for _ in range(10):
            launching.launch(problem, on, "asked")
            on.qkvz.storage.copy_(fresh.qkvz.storage)  # and now the next one reads what was just written
            on.layer.conv_weight.mul_(1.0)
            launching.launch(problem, on, "asked")
        torch.cuda.synchronize()
        left.append(on)
    assert_same(left[1], left[0], "with programmatic launch")


@on_card
@pytest.mark.parametrize(("kernel", "family"), [*CASES, ("dispatch decode", "cuda"), ("dispatch spec", "cuda")])
def test_a_replay_is_the_eager_launch(kernel, family):
    """Captured at N rows, replayed with N, N-1, 1 and 0 in refilled index buffers."""
    bodies.replayed(kernel, bodies.sized(kernel, SERVED), family, "cuda")


@on_card
@pytest.mark.parametrize("shared", [True, False], ids=["one pool", "16 pools"])
@pytest.mark.parametrize("family", ["chosen", PLAIN, JOINED, TICKETS, STAGED])
def test_16_streams_at_once(family, shared):
    """Launches on slots of their own do not notice each other."""
    problem = replace(SERVED, rows=one_each(*range(24)))
    bodies.at_once(problem, family, "cuda", shared=shared)


@on_card
@pytest.mark.parametrize(
    ("kernel", "family"),
    [("decode", PLAIN), ("decode", JOINED), ("decode", STAGED), ("spec", "chosen"), ("spec", "head, 4 splits")],
)
def test_pools_beyond_2_to_the_31(kernel, family):
    """Both pools have more elements than an int32 counts, and the slots lie at their ends."""
    problem = bodies.sized(kernel, LARGE)
    slots = 2**31 // (problem.HV * problem.K * problem.V) + 1 + problem.slots
    bodies.far_away(kernel, problem, family, "cuda", slots=slots)


@on_card
@pytest.mark.parametrize(("kernel", "family"), [("decode", PLAIN), ("decode", JOINED), ("spec", "head, 4 splits")])
def test_more_blocks_than_65535(kernel, family):
    """9000 rows of 32 heads."""
    bodies.many_rows(kernel, SMALL_HEADS, family, "cuda", rows=9000, at_a_time=500)


@on_card
@pytest.mark.parametrize("shift", [1, 2])
@pytest.mark.parametrize("kernel", ["decode", "spec"])
def test_addresses_and_strides_that_are_no_multiples_of_16(kernel, shift):
    """What is compiled for operands that are aligned to their elements only, or to 4 bytes."""
    problem = bodies.sized(kernel, replace(SERVED, shift=shift, gap=6, spare=1, packing="flat"))
    bodies.repeated(kernel, problem, "chosen", "cuda", 2)


@on_card
@pytest.mark.parametrize("ratio", [1, 3, 6, 8])
def test_clusters_of_every_size(ratio):
    """Those that are no powers of two too."""
    bodies.repeated("decode", bodies.sized("decode", replace(SERVED, ratio=ratio)), "head, cluster", "cuda", 20)


@on_card
@pytest.mark.parametrize(("kernel", "family"), CASES)
def test_sanitizer_cases(kernel, family):
    """A few small launches of every configuration."""
    bodies.sanitized(kernel, family, "cuda")


@pytest.mark.parametrize(("kernel", "family"), [("decode", JOINED), ("decode", TICKETS), ("spec", "head, 4 splits")])
def test_the_bodies_run_emulated(kernel, family):
    """Which proves nothing about a card, but that these functions work."""
    problem = bodies.sized(kernel, Problem(rows=one_each(3, PADDING, 1), slots=5))
    bodies.repeated(kernel, problem, family, "cpu", 3)
    bodies.replayed(kernel, problem, family, "cpu")
    bodies.sanitized(kernel, family, "cpu")
    bodies.far_away(kernel, problem, family, "cpu", slots=problem.slots + 3)
    bodies.many_rows(kernel, problem, family, "cpu", rows=21, at_a_time=7)
    bodies.at_once(replace(Problem(rows=one_each(0, 1)), slots=2), "chosen", "cpu", shared=True, count=2, rounds=1)
