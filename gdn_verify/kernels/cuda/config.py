"""How a launch is cut into blocks, and what that comes to for the sizes of a layer on a chip."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

from gdn_verify.kernels.cuda.launch import CLUSTERS, EMULATED

WORD = 16
"""Bytes that a thread loads at once, where addresses allow it."""
MOST_IN_CLUSTER = 8
"""Blocks of a cluster that every chip with clusters takes."""
MOST_HELD = 64
"""Numbers of the state that a thread keeps over the tokens of a draft."""


@dataclass(frozen=True)
class Sizes:
    """What a state is made of: H, HV, K, V, bytes of a number, its order, and bytes that can be loaded at once.

    `word` is the largest power of two up to 16 that all addresses of a row of the state are multiples of.
    """

    H: int
    HV: int
    K: int
    V: int
    itemsize: int
    state_kv: bool
    word: int = WORD

    @property
    def ratio(self) -> int:
        """r = HV/H."""
        return self.HV // self.H


@dataclass(frozen=True)
class Config:
    """One way to cut a launch.

    A block has all value heads of a key head (`whole_key_head`), or one, and one of `splits` slices of V. Of its
    `warps`, `lanes` threads share a row of the state. That is asked for `depth` turns ahead in registers, or with
    `stages` so many in shared memory. `blocks` is how many of a multiprocessor the registers must allow.

    With `cluster`, blocks of a key head are one, where the chip has clusters and they are eight at most; else they take
    tickets. With `dependent` the launch may begin before the one in front of it ends, on chips that can.
    """

    whole_key_head: bool = False
    splits: int = 1
    warps: int = 4
    lanes: int = 8
    depth: int = 4
    stages: int = 0
    blocks: int = 1
    cluster: bool = True
    dependent: bool = True

    def __post_init__(self) -> None:
        for name, allowed in (("splits", (1, 2, 4, 8)), ("lanes", (1, 2, 4, 8, 16, 32)), ("warps", range(1, 33))):
            if (value := getattr(self, name)) not in allowed:
                raise ValueError(f"{name}={value} is not one of {', '.join(map(str, allowed))}")
        if self.depth < 1 or self.stages < 0 or self.blocks < 1:
            raise ValueError(f"depth={self.depth} and blocks={self.blocks} must be positive, stages={self.stages} >= 0")

    @property
    def name(self) -> str:
        """Short, for tables: "head/4 w4 l8 d4 c"."""
        unit = "key-head" if self.whole_key_head else "head"
        split = f"/{self.splits}" * (self.splits > 1)
        ahead = f"s{self.stages}" if self.stages else f"d{self.depth}"
        rest = f" b{self.blocks}" * (self.blocks > 1) + " c" * self.cluster + " p" * self.dependent
        return f"{unit}{split} w{self.warps} l{self.lanes} {ahead}{rest}"

    def cut(self, capability: int, sizes: Sizes) -> Cut:
        """What that comes to for these sizes on a chip; a block never has more than there is of V and K."""
        return _cut(self, capability, sizes)


class Cut(NamedTuple):
    """The constants of a kernel's source, by their names there, that a configuration settles."""

    K: int
    V: int
    RATIO: int
    HEADS: int
    SPLITS: int
    WARPS: int
    LANES: int
    VEC: int
    DEPTH: int
    STAGES: int
    LEAST_BLOCKS: int
    STATE_KV: bool
    CLUSTER: bool
    TOKENS: int = 1

    @property
    def sharers(self) -> int:
        """Blocks of one key head in one row."""
        return self.RATIO // self.HEADS * self.SPLITS

    @property
    def ring_numbers(self) -> int:
        """Numbers of the state that a block's threads have asked for in shared memory."""
        columns = self.LANES * (1 if self.STATE_KV else self.VEC)
        return self.STAGES * -(-self.K // columns) * 32 * self.WARPS * self.VEC


@cache
def _cut(config: Config, capability: int, sizes: Sizes) -> Cut:
    ratio = sizes.ratio
    heads = ratio if config.whole_key_head else 1
    splits = min(config.splits, _power_within(sizes.V))
    cluster = config.cluster and has_clusters(capability) and ratio // heads <= MOST_IN_CLUSTER
    if cluster:
        splits = min(splits, _power_within(MOST_IN_CLUSTER // (ratio // heads)))
    vector = max(1, sizes.word // sizes.itemsize)
    vector = min(vector, 4) if sizes.state_kv else vector  # else a thread would have more rows than registers
    keys = sizes.K if sizes.state_kv else -(-sizes.K // vector)
    fewest = -(-sizes.K // (16 if sizes.state_kv else 32))
    lanes = min(32, max(min(config.lanes, _power_over(keys)), _power_over(fewest)))
    stages = config.stages if vector * sizes.itemsize >= 4 else 0  # fewer bytes cannot be copied by themselves
    rows = -(-sizes.V // splits)
    turns = heads * -(-rows // (32 * config.warps // lanes * (vector if sizes.state_kv else 1)))
    return Cut(
        sizes.K, sizes.V, ratio, heads, splits, config.warps, lanes, vector, min(config.depth, turns),
        min(stages, turns), config.blocks, sizes.state_kv, cluster,
    )  # fmt: skip


@cache
def spec_cut(config: Config, capability: int, sizes: Sizes, tokens: int) -> Cut:
    """`Config.cut` for drafts of so many tokens, whose state stays in registers: cut finer until it fits them.

    Where that makes more blocks of a key head than a cluster takes, they take tickets.
    """
    splits, warps = config.splits, config.warps
    while -(-sizes.V // splits) * sizes.K > MOST_HELD * 32 * warps and (splits < 8 or warps < 16):
        splits, warps = (2 * splits, warps) if splits < 8 else (splits, 2 * warps)
    fits = sizes.ratio * min(splits, _power_within(sizes.V)) <= MOST_IN_CLUSTER
    finer = replace(config, whole_key_head=False, splits=splits, warps=warps, cluster=config.cluster and fits, stages=0)
    return finer.cut(capability, sizes)._replace(TOKENS=tokens)


def has_clusters(capability: int) -> bool:
    """Whether blocks of a chip can be a cluster, as they can where the chip is emulated."""
    return capability == EMULATED or capability >= CLUSTERS


def _power_within(n: int) -> int:
    """The largest power of two that is not above n."""
    return 1 << n.bit_length() - 1


def _power_over(n: int) -> int:
    """The smallest power of two that is not below n."""
    return 1 << (n - 1).bit_length()
