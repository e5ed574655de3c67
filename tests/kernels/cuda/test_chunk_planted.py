"""The checks of the CUDA chunk kernel, and the gate's, must fail: on copies of it with one defect each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest
import torch

from gdn_verify.cases.contract import Kind
from gdn_verify.hosts import HOSTS
from gdn_verify.kernels.cuda import chunks
from gdn_verify.kernels.cuda.chunks import ChunkConfig
from gdn_verify.kernels.cuda.emulate import EmulationError, scheduled
from gdn_verify.kernels.cuda.prefill import chunk_delta
from gdn_verify.paths import find
from gdn_verify.profiles import PROFILES
from gdn_verify.runner import Effort, run_case
from gdn_verify.service import Job, draw

from ..triton.chunk_launches import LONG, SHORT, Launch, account
from .planting import planted
from .test_chunk_delta import early_writers

ROWS = replace(LONG, K=64, V=32, dtype=torch.bfloat16, ratio=1)
BRIEF = replace(SHORT, K=64, V=32, dtype=torch.bfloat16)
MANY = replace(ROWS, rows=((450, 1, 1, True), (330, 3, 3, False)))
"""Chunks enough for every slot and stage to be used again."""
TEAMS = ChunkConfig(splits=2, teams=2)
DEFECTS: dict[str, tuple[str, str, str, Launch, ChunkConfig]] = {
    # What warps must agree on.
    "every warp tells the first one's lengths": (
        "chunk_fold.cuh", "of[f.key(f.token(f.warp, i))]", "of[f.key(f.token(0, i))]", ROWS, ChunkConfig(),
    ),
    "a pair's inverse is used before it is there": (
        "chunk_fold.cuh", "  meet_team(f.team);\n  if (f.warp >= 2) {", "  if (f.warp >= 2) {", ROWS, ChunkConfig(),
    ),
    "the scan does not wait for what is folded": (
        "chunk_scan.cuh", "    meet(folded(chunk), HANDING);\n", "", ROWS, ChunkConfig(),
    ),
    "what is folded overwrites what is not scanned": (
        "chunk_fold.cuh", "  if (chunk >= SLOTS) meet(scanned(chunk), HANDING);\n", "", MANY, TEAMS,
    ),
    "keys overwrite what is not scanned": (
        "chunk_fetch.cuh", "    if (chunk >= STAGES) meet(emptied(chunk), EMPTYING);\n", "", MANY, ChunkConfig(),
    ),
    "keys are said to have come when they were asked for": (
        "chunk_fetch.cuh", "    wait_for_copies<0>();\n", "", ROWS, ChunkConfig(),
    ),
    "v is used when it was asked for": (
        "chunk_scan.cuh", "    wait_for_copies<1>();\n", "", ROWS, ChunkConfig(),
    ),
    "two teams have one slot": (
        "chunk_block.cuh", "return W_AT + chunk % SLOTS * KEY_BYTES;", "return W_AT;", MANY, TEAMS,
    ),
    "a warp parts": (
        "chunk_fold.cuh", "  if (f.warp >= 2) {\n    Words", "  if (f.warp >= 2 && f.lane) {\n    Words",
        ROWS, ChunkConfig(),
    ),
    # The recurrence.
    "the state does not decay": ("chunk_scan.cuh", "[i % 4] *= whole;", "[i % 4] *= 1.0f;", ROWS, ChunkConfig()),
    "W without beta": ("chunk_fold.cuh", "*= i / 2 % 2 ? below : above;", "*= 1.0f;", ROWS, ChunkConfig()),
    "weights above the diagonal": (
        "chunk_fold.cuh", "left || (!above && f.row >= f.two + n % 2) ? ", "true ? ", ROWS, ChunkConfig(),
    ),
    "the inverse by blocks of 4": (
        "chunk_fold.cuh", "size < 4; size++", "size < 3; size++", replace(ROWS, alike=True), ChunkConfig(),
    ),
    "a square of another column is handed on": (
        "chunk_fold.cuh", "store_square(f.handed(OF_ROW_2 + l), f.lane, lower[l]);",
        "store_square(f.handed(OF_ROW_2 + l), f.lane, lower[0]);", replace(ROWS, alike=True), ChunkConfig(),
    ),
    "the scale is dropped": (
        "chunk_fold.cuh", "s.of_queries[f.key(token)] * a.scale)", "s.of_queries[f.key(token)])", ROWS, ChunkConfig(),
    ),
    "the first pass is dropped": (
        "chunk_scan.cuh", "  if constexpr (PASSES > 1) add_to_state(h, lane, w_at(chunk), before);\n", "",
        replace(ROWS, V=128), ChunkConfig(),
    ),
    # Rows and their ends.
    "tokens behind the row's end are read": (
        "chunk_fetch.cuh", "const int64 there = token < last ? token : last;", "const int64 there = token;",
        replace(BRIEF, gap=5, tail=4), ChunkConfig(),
    ),
    "the state is not read": ("chunk_scan.cuh", "if (row.known) load_state", "if (false) load_state", ROWS, TEAMS),
    "the own slot is read": (
        "chunk_block.cuh", "row.read = a.read_indices ? ", "row.read = false ? ", replace(ROWS, reads=True), TEAMS,
    ),
    "padding is not asked for": (
        "chunk_block.cuh", "id >= 0 && id < a.num_slots && id != a.pad", "id >= 0 && id < a.num_slots",
        replace(BRIEF, pad_slot_id=4), TEAMS,
    ),
    "a head map that deals out": (
        "chunk_block.cuh", "return head / RATIO;", "return head % 2;", replace(BRIEF, H=2, ratio=2), ChunkConfig(),
    ),
}  # fmt: skip
ORDERS = range(6)


@contextmanager
def defective(file: str, right: str, wrong: str) -> Iterator[None]:
    """As `planted`, for the kernel that is found by `chunk_plan` too."""
    with planted(file, right, wrong):
        chunks.chunk_plan.cache_clear()
        try:
            yield
        finally:
            chunks.chunk_plan.cache_clear()


def is_seen(launch: Launch, config: ChunkConfig) -> bool:
    """Whether some order of blocks and warps shows it; where one does, a card may."""
    for seed in ORDERS:
        with scheduled(seed):
            try:
                account(launch, partial(chunk_delta, config=config))
            except (AssertionError, EmulationError):
                return True
    return False


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_seen(name: str) -> None:
    """And the kernel without it is right in the same orders."""
    file, right, wrong, launch, config = DEFECTS[name]
    assert not is_seen(launch, config)
    with defective(file, right, wrong):
        assert is_seen(launch, config), name


def test_denormal_operands_are_seen() -> None:
    """As the kernel had them at first: a gate on a card came to 7.56 of its limit of 8."""
    lifted, dropped = "return a.qk_norm ? 0x1p15f : 0x1p5f;", "return a.qk_norm ? 0x1p-15f : 0x1p-5f;"
    with planted("chunk_fold.cuh", lifted, "return 1.0f;"), defective("chunk_fold.cuh", dropped, "return 1.0f;"):
        assert early_writers(0.3) > 0.5


@pytest.mark.parametrize("name", ["the state does not decay", "W without beta", "weights above the diagonal"])
def test_the_gate_sees_it(name: str) -> None:
    """Its own cases, drawn as ever, on the path as it is registered; without the defect they agree."""
    path, host = find("cuda-chunk-delta"), HOSTS["emulated-cuda"]
    job = Job(path.name, host.name, Kind.PREFILL, count=4, seed=PROFILES["gate"].seed, shapes=2)
    drawn = [fed for fed, _ in draw(job, path)]

    def findings() -> int:
        return sum(bool(run_case(*fed, path, host, effort=Effort.HASTY).findings) for fed in drawn)

    assert not findings()
    file, right, wrong, _, _ = DEFECTS[name]
    with defective(file, right, wrong):
        assert findings()
