"""A planned launch is captured in a graph, and replayed with fewer rows than it was captured for."""

from __future__ import annotations

import pytest
import torch

from gdn_verify.kernels.dispatch import gated_delta_net_packed
from gdn_verify.kernels.plan import plan_rows
from gdn_verify.kernels.tables import Row, build_tables

from .launches import same_bits
from .test_dispatch import tiny

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no card to capture on")
DECODE = tuple(Row(1, (slot,)) for slot in (3, 1, 4, 2))
MIXED = (Row(40, (3,), fresh=True), Row(1, (1,)), Row(3, (4,)), Row(1, (2,)))


@pytest.mark.parametrize("rows", [DECODE, MIXED], ids=["decode", "mixed"])
@pytest.mark.parametrize("live", [4, 2, 0])
def test_a_replay_leaves_what_an_eager_launch_leaves(live, rows):
    """Outputs, z and both pools, bit for bit; the rows that are gone leave zeros and untouched slots."""
    launch = tiny(list(rows), device="cuda")
    for x in (launch.qkvz, launch.ba, launch.conv_pool, launch.pool):
        x.normal_()
    out, z = torch.full((2, len(launch.qkvz), 1, 2), float("nan"), device="cuda")
    filled = sum(row.length for row in rows[:live])
    pools = launch.conv_pool, launch.pool
    before = [pool.clone() for pool in pools]

    def run() -> None:
        gated_delta_net_packed(
            launch.qkvz, launch.ba, launch.layer, *pools, launch.tables, output=out, z_output=z,
            plan=plan_rows(rows, pad_to=4), kernel="fused",
        )  # fmt: skip

    def again() -> list[torch.Tensor]:
        """What is left by whatever ran last; the pools are as before afterwards."""
        left = [x.clone() for x in (out, z, *pools)]
        for pool, old in zip(pools, before, strict=True):
            pool.copy_(old)
        return left

    run()  # compiles, and makes the tickets
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    again()
    fewer = build_tables(rows[:live], pad_to=4, device="cuda")
    for name in ("query_start_loc", "state_indices", "has_initial_state"):
        getattr(launch.tables, name).copy_(getattr(fewer, name))
    run()
    eager = again()
    graph.replay()
    for replayed, expected in zip(again(), eager, strict=True):
        assert same_bits(replayed, expected)
    assert (eager[0][filled:] == 0).all()
    assert live or all(same_bits(pool, old) for pool, old in zip(eager[2:], before, strict=True))
