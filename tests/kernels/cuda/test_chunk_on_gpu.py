"""`cuda.prefill.chunk_delta` on a card: near the fallback, the same bits each time, and in a graph."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from gdn_verify.kernels.cuda import compile as nvrtc
from gdn_verify.kernels.cuda.chunks import CANDIDATES, ChunkConfig
from gdn_verify.kernels.cuda.prefill import chunk_delta
from gdn_verify.kernels.rows import Tables

from ..triton.chunk_launches import Launch, account
from .test_chunk_delta import OPTIONS, ROWS

on_card = pytest.mark.skipif(
    not torch.cuda.is_available() or nvrtc.missing() is not None,
    reason="no CUDA card on this machine" if not torch.cuda.is_available() else str(nvrtc.missing()),
)
SERVED = replace(
    ROWS, H=2, ratio=2, K=128, V=128, slots=40, rows=tuple((1 + 97 * n % 700, n, n, n % 3 > 0) for n in range(32))
)
"""Heads as they are served, and rows of one token to eleven chunks."""
ON_CARD = [config for config in CANDIDATES if config.splits < 8]


def moved(tables: Tables, device: str) -> Tables:
    return Tables(*(x.to(device) if isinstance(x, Tensor) else x for x in vars(tables).values()))


def carried(*operands: Any, config: ChunkConfig, device: str, output: Tensor, **options: Any) -> None:
    """`chunk_delta` of copies on the device, and its results back in the buffers that were given."""
    *inputs, pool, tables = operands
    there, out = pool.to(device), output.to(device)
    chunk_delta(*(x.to(device) for x in inputs), there, moved(tables, device), config=config, output=out, **options)
    pool.copy_(there)
    output.copy_(out)


def repeated(launch: Launch, config: ChunkConfig, device: str, times: int) -> None:
    """From the same pools; every launch leaves the bits of the first."""
    operands, tables, states = [x.to(device) for x in launch.inputs()], moved(launch.tables(), device), launch.states()
    first: tuple[Tensor, Tensor] | None = None
    for _ in range(times):
        pool = states.view.to(device, copy=True)
        found = chunk_delta(*operands, pool, tables, config=config), pool
        first = first or found
        assert torch.equal(found[0], first[0])
        assert torch.equal(found[1].view(torch.uint8), first[1].view(torch.uint8))


@on_card
@pytest.mark.parametrize("config", ON_CARD, ids=lambda config: config.name)
@pytest.mark.parametrize("launch", [*OPTIONS.values(), SERVED], ids=[*OPTIONS, "served"])
def test_the_recurrence(launch: Launch, config: ChunkConfig) -> None:
    """Every launch that is accounted for where it is emulated."""
    account(launch, partial(carried, config=config, device="cuda"))


@on_card
@pytest.mark.parametrize("config", ON_CARD, ids=lambda config: config.name)
def test_200_repeats_are_the_same_bits(config: ChunkConfig) -> None:
    """Barriers between warps are what could fail seldom."""
    repeated(SERVED, config, "cuda", 200)


@on_card
@pytest.mark.parametrize("config", ON_CARD, ids=lambda config: config.name)
def test_a_replay_is_the_eager_launch(config: ChunkConfig) -> None:
    """Nothing is read back."""
    operands, tables = [x.cuda() for x in SERVED.inputs()], moved(SERVED.tables(), "cuda")
    before = SERVED.states().view.cuda()
    pools = before.clone(), before.clone()
    eager = chunk_delta(*operands, pools[0], tables, config=config)
    graph, out = torch.cuda.CUDAGraph(), torch.empty_like(eager)
    with torch.cuda.graph(graph):
        chunk_delta(*operands, pools[1], tables, config=config, output=out)
    graph.replay()
    assert torch.equal(out, eager)
    assert torch.equal(pools[1].view(torch.uint8), pools[0].view(torch.uint8))


@pytest.mark.parametrize("config", [ChunkConfig(), ChunkConfig(2, 2)], ids=lambda config: config.name)
def test_the_bodies_run_emulated(config: ChunkConfig) -> None:
    """Which proves nothing about a card, but that these functions work."""
    account(ROWS, partial(carried, config=config, device="cpu"))
    repeated(ROWS, config, "cpu", 2)
