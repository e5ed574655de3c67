"""How the recurrence in chunks is cut into blocks, what it is specialised for, and what it does not take."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from gdn_verify.kernels.cuda.launch import Grid, Kernel
from gdn_verify.kernels.cuda.plans import Source

CHUNK = 64
KEYS, VALUES = (64, 128), (16, 32, 48, 64, 96, 128, 256)
COLUMNS = 16
"""Rows of V that a warp's tensor cores hold at once."""
MOST_COLUMNS = 128
"""Rows of V of a block, in registers."""
WARPS = 4
"""Of either kind: one for each scheduler of a multiprocessor."""
WORD = 16
MOST_SPLITS = 8
SLOTS = 2
"""Chunks that are folded and not yet scanned, at most."""
_MOST_SHARED = {80: 163, 86: 99, 87: 163, 89: 99, 90: 227, 100: 227, 103: 227, 110: 227, 120: 99, 121: 99}
"""KiB of shared memory that a block may have, by compute capability."""
_SPARE = 10
"""KiB that are not in the ring, at most."""


@dataclass(frozen=True)
class ChunkConfig:
    """One way to cut a launch: V of a value head into `splits` blocks, each with `teams` of warps that fold chunks."""

    splits: int = 1
    teams: int = 1

    def __post_init__(self) -> None:
        if self.splits not in (1, 2, 4, 8):
            raise ValueError(f"splits={self.splits} is not one of 1, 2, 4, 8")
        if self.teams not in (1, 2):
            raise ValueError(f"teams={self.teams} is not 1 or 2")

    @property
    def name(self) -> str:
        """Short, for tables: "head/4 t2"."""
        return "head" + f"/{self.splits}" * (self.splits > 1) + f" t{self.teams}" * (self.teams > 1)


CANDIDATES = tuple(ChunkConfig(splits, teams) for splits in (1, 2, 4, 8) for teams in (1, 2))
"""What a sweep on a card tries."""


class Operation(NamedTuple):
    """What a kernel is specialised for beside how it is cut, by the names of its source."""

    K: int
    V: int
    RATIO: int
    STATE_KV: bool
    PAIRED: bool
    STAGED: bool
    TX: torch.dtype
    TG: torch.dtype
    TBeta: torch.dtype
    TState: torch.dtype
    TOut: torch.dtype

    @classmethod
    def of(
        cls, q: Tensor, v: Tensor, g: Tensor, beta: Tensor, pool: Tensor, output: Tensor, state_order: str
    ) -> Operation:
        """That of a launch: two numbers of the state at once, and eight of o, where addresses allow it."""
        pairs = 2 * pool.element_size()
        paired = (pool.data_ptr() | pool.stride(0) * pool.element_size()) % pairs == 0
        staged = output.element_size() == 2 and _by_words(output)
        return cls(
            q.shape[2], v.shape[2], v.shape[1] // q.shape[1], state_order == "KV", paired, staged,
            q.dtype, g.dtype, beta.dtype, pool.dtype, output.dtype,
        )  # fmt: skip


@dataclass(frozen=True)
class ChunkPlan:
    """A specialised kernel, and how it is launched."""

    kernel: Kernel
    splits: int
    threads: int
    ring_bytes: int

    def grid(self, rows: int, heads: int) -> Grid:
        """For so many rows and value heads."""
        return Grid(rows * self.splits, heads, self.threads, ring_bytes=self.ring_bytes)

    def fits(self, capability: int) -> bool:
        """Whether a block of a chip has shared memory enough."""
        return self.ring_bytes <= (_MOST_SHARED.get(capability, 227) - _SPARE) * 1024


@cache
def chunk_plan(source: Source, config: ChunkConfig, operation: Operation) -> ChunkPlan:
    """One for all launches that are alike in these."""
    K, V = operation.K, operation.V
    splits = max(min(config.splits, V // COLUMNS), V // MOST_COLUMNS)
    while V % (splits * COLUMNS):
        splits //= 2
    tiles = -(-V // (splits * COLUMNS * WARPS))
    scanners = V // (splits * COLUMNS * tiles)
    teams, keys, values = config.teams, CHUNK * K * 2, 2 * scanners * CHUNK * COLUMNS * tiles * 2
    stages, slots, triangle, square, factors = teams + SLOTS, SLOTS, 10 * 512, 512, 2 * CHUNK * 4
    ring = 2 * stages * keys + values + slots * (keys + triangle + factors) + teams * (triangle + 4 * square)
    cut = {
        "SPLITS": splits, "SCANNERS": scanners, "TILES": tiles, "TEAMS": teams, "RING": ring, "LEAST_BLOCKS": 1,
    }  # fmt: skip
    kernel = Kernel(source.file, source.name, source.arguments, {**operation._asdict(), **cut})
    return ChunkPlan(kernel, splits, 32 * (WARPS * teams + scanners + (WARPS if scanners == WARPS else 1)), ring)


def fitting_plan(source: Source, config: ChunkConfig, operation: Operation, capability: int) -> ChunkPlan:
    """That of `config`, or with fewer teams and more parts of V where a chip's blocks have too little shared memory.

    Raises ValueError where none is small enough.
    """
    plan = chunk_plan(source, config, operation)
    splits = config.splits
    while not plan.fits(capability) and splits <= MOST_SPLITS:
        plan, splits = chunk_plan(source, ChunkConfig(splits, 1), operation), 2 * splits
    if plan.fits(capability):
        return plan
    raise ValueError(
        f"K={operation.K}: a block needs {plan.ring_bytes} bytes of shared memory beside {_SPARE} KiB, more than there "
        f"is on compute capability {capability / 10:.1f}; triton.chunk.chunk_delta runs there"
    )


def choose_chunks(heads: int, V: int, processors: int) -> ChunkConfig:
    """As many parts of V as leave each of `heads` value heads of rows a multiprocessor of its own; and two teams.

    The best of what was timed on an H200 (docs/cuda.md).
    """
    splits = 1
    while 2 * splits * heads <= processors and splits < min(4, V // COLUMNS):
        splits *= 2
    return ChunkConfig(splits, teams=2)


def refused(q: Tensor, k: Tensor, v: Tensor) -> str | None:
    """Why the kernel does not take these operands, which `check_chunked` has passed, or None."""
    if q.dtype not in (torch.bfloat16, torch.float16):
        return f"q has dtype {q.dtype}; the CUDA kernel multiplies bfloat16 and float16"
    if q.shape[2] not in KEYS:
        return f"q has K={q.shape[2]}; the CUDA kernel takes {', '.join(map(str, KEYS))}"
    if v.shape[2] not in VALUES:
        return f"v has V={v.shape[2]}; the CUDA kernel takes {', '.join(map(str, VALUES))}"
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        if not _by_words(tensor):
            return f"{name} has token stride {tensor.stride(0)}; its tokens must begin at multiples of {WORD} bytes"
    return None


def _by_words(x: Tensor) -> bool:
    return (x.data_ptr() | x.stride(0) * x.element_size()) % WORD == 0
