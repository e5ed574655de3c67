"""The checks of this folder, and the gate's, must fail: on copies of the kernels with one defect each."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gdn_verify.cases.contract import Kind
from gdn_verify.hosts import HOSTS
from gdn_verify.kernels.cuda.emulate import EmulationError, scheduled
from gdn_verify.paths import find
from gdn_verify.profiles import PROFILES
from gdn_verify.runner import Effort, run_case
from gdn_verify.service import Job, draw

from ..triton.problems import Problem, one_each
from ..triton.situations import DRAFTS
from .launching import JOINED, PLAIN, STAGED, TICKETS, check
from .planting import planted

FEW = Problem(K=40, V=24)
DEFECTS = {
    # What blocks and threads must agree on.
    "a block's threads do not meet after the conv": (
        "decode.cu", "  block_barrier();\n  if constexpr (BY_CLUSTER) cluster_arrive();",
        "  if constexpr (BY_CLUSTER) cluster_arrive();", FEW, "head, 8 splits",
    ),
    "nobody waits before the conv state of q and k is shifted": (
        "decode.cu", "    cluster_wait();  // all blocks of the key head have read\n", "", FEW, JOINED,
    ),
    "a head's sums are used before they have come": (
        "decode.cu", "  if constexpr (JOIN && BY_CLUSTER) wait_for_mail(s.mailbox);\n", "", FEW, JOINED,
    ),
    "sums are sent to the wrong block": (
        "decode.cu", "b.rank - b.split + lane, sum", "lane, sum", FEW, JOINED,
    ),
    "a mailbox is opened for fewer numbers than come": (
        "decode.cu", "open_mailbox(s.mailbox, HEADS * SUMS)", "open_mailbox(s.mailbox, HEADS * WARPS)", FEW, JOINED,
    ),
    "a mailbox waits for more than come": (
        "decode.cu", "open_mailbox(s.mailbox, HEADS * SUMS)", "open_mailbox(s.mailbox, HEADS * SUMS + 1)", FEW, JOINED,
    ),
    "every block shifts the conv state": (
        "block.cuh", "s.last[0] = (held + QUANTUM / SHARERS) % QUANTUM == 0;", "s.last[0] = 1;", FEW, TICKETS,
    ),
    "no block is the last": (
        "block.cuh", "constexpr int QUANTUM = 192;", "constexpr int QUANTUM = 191;", FEW, TICKETS,
    ),
    "a copy is used a turn too early": (
        "decode.cu", "wait_for_copies<STAGES ? STAGES - 1 : 0>()", "wait_for_copies<STAGES>()", FEW, STAGED,
    ),
    "half of a warp adds up": (
        "numbers.cuh", "x += of_lane_xor(x, bits);", "if (thread_index() % 32 < 16) x += of_lane_xor(x, bits);", FEW,
        PLAIN,
    ),
    "some threads pass a barrier by": (
        "decode.cu", "  block_barrier();\n  if constexpr (JOIN",
        "  if (thread_index()) block_barrier();\n  if constexpr (JOIN", FEW, PLAIN,
    ),
    # Shared memory and its ends.
    "a row of V too many": (
        "tile.cuh", "row(pass) < VB && split * VB + row(pass) < V", "row(pass) <= VB", replace(FEW, V=10), JOINED,
    ),
    "the tail of K is not masked": ("tile.cuh", "return EVEN_K || key(chunk) < K;", "return true;", FEW, PLAIN),
    "the tail of V is not masked": (
        "block.cuh", "i < OUTPUTS && v < V}", "i < OUTPUTS}", replace(FEW, V=10), JOINED,
    ),
    # The layer.
    "a head map that deals out": (
        "block.cuh", "qk_column = columns.q + i", "qk_column = b.head % a.heads * K + i", FEW, "head, cluster",
    ),
    "the decay is dropped": ("tile.cuh", "h[c][i] * gates.decay)", "h[c][i])", FEW, PLAIN),
    "beta is dropped": ("tile.cuh", "u[row] = gates.beta * (", "u[row] = (", FEW, PLAIN),
    "the state is not read": ("decode.cu", "widen(S, taken(ahead, place, turn));", "widen(S, Tile{});", FEW, PLAIN),
    "the norm's eps is on the sum": (
        "block.cuh", "inverse_root(squares / V + a.norm_eps)", "inverse_root((squares + a.norm_eps) / V)",
        replace(FEW, V=3, rows=one_each(*range(8))), PLAIN,
    ),
    "a history of four": (
        "layer.cuh", "of_channel[(first + w)", "of_channel[(1 + w)",
        replace(FEW, spare=1), PLAIN,
    ),
    "padding is not asked for": (
        "layer.cuh", "id >= 0 && id < a.num_slots && id != a.pad", "id >= 0 && id < a.num_slots",
        replace(FEW, rows=one_each(0, 3, 0, 1), pad_slot_id=0), PLAIN,
    ),
    "z of the token before": (
        "block.cuh", "+ token * a.stride_x + column", "+ (token ? token - 1 : 0) * a.stride_x + column", FEW, PLAIN,
    ),
    # Drafts.
    "a draft's state is not stored": (
        "spec.cu", "if (stored) store_tile(", "if (stored && t) store_tile(", DRAFTS, "head, cluster",
    ),
    "a draft's history begins at column 0": (
        "spec.cu", "streams[n].slot, row.accepted - 1);", "streams[n].slot, 0);", DRAFTS, "head, cluster",
    ),
    "a draft's state is that of column 0": (
        "spec.cu", "if (accepted == t + 1)", "if (t == 0)", DRAFTS, "head, cluster",
    ),
    "a draft's sums are exchanged by nobody": (
        "spec.cu", "  if constexpr (JOIN && BY_CLUSTER) wait_for_mail(s.mailbox);\n", "", DRAFTS, "head, 4 splits",
    ),
}  # fmt: skip
ORDERS = range(8)


def is_seen(problem: Problem, family: str) -> bool:
    """Whether some order of blocks and warps shows it; where one does, a card may."""
    for seed in ORDERS:
        with scheduled(seed):
            try:
                check(problem, family)
            except (AssertionError, EmulationError):
                return True
    return False


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_seen(name):
    """And the kernel without it is right in the same orders."""
    file, right, wrong, problem, family = DEFECTS[name]
    assert not is_seen(problem, family)
    with planted(file, right, wrong):
        assert is_seen(problem, family), name


GATED = ("the decay is dropped", "a head map that deals out", "beta is dropped", "the tail of K is not masked")


@pytest.mark.parametrize("name", GATED)
def test_the_gate_sees_it(name):
    """Its own cases, drawn as ever, on the path as it is registered; without the defect they agree."""
    path, host = find("cuda-decode"), HOSTS["emulated-cuda"]
    job = Job(path.name, host.name, Kind.DECODE, count=10, seed=PROFILES["gate"].seed, shapes=6)
    drawn = [fed for fed, _ in draw(job, path)]

    def findings() -> int:
        return sum(bool(run_case(*fed, path, host, effort=Effort.HASTY).findings) for fed in drawn)

    assert not findings()
    file, right, wrong, _, _ = DEFECTS[name]
    with planted(file, right, wrong):
        assert findings()
