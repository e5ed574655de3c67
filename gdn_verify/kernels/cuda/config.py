"""How a launch is cut into blocks: chosen by chip, rows and the size of the state, from tables that a sweep fills.

Nothing here was measured: there was no card. The tables begin where this project's Triton kernels ended on an H200.
"""

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


_Table = tuple[tuple[int | None, Config], ...]


def _by_tickets(table: _Table) -> _Table:
    return tuple((limit, replace(config, cluster=False, dependent=False)) for limit, config in table)


FEW = Config(splits=4)
SOME = Config(splits=2)
HEAD = Config(warps=8)
STREAM = Config(warps=4, lanes=16, stages=4)

# Up to so many value heads in a launch (rows · HV), this configuration; by bytes of a number of the state.
HOPPER: dict[int, _Table] = {
    4: ((128, FEW), (256, SOME), (1024, HEAD), (None, STREAM)),
    2: ((128, FEW), (256, SOME), (1024, HEAD), (None, STREAM)),
}
# Without clusters a split head costs a trip through the L2, and the ticket one more.
AMPERE: dict[int, _Table] = {size: _by_tickets(table) for size, table in HOPPER.items()}
# One of each kind, at the sizes that a test has: small blocks, as every thread is paid for.
_SMALL: _Table = (
    (1, Config(splits=2, warps=1, depth=2)),
    (2, Config(splits=4, warps=1, lanes=4)),
    (4, Config(splits=2, warps=2, cluster=False)),
    (6, Config(warps=1, stages=2)),
    (8, Config(whole_key_head=True, splits=2, warps=1, depth=1)),
    (12, Config(whole_key_head=True, warps=2, lanes=16)),
    (None, Config(warps=1, cluster=False, depth=3)),
)
SMALL: dict[int, _Table] = dict.fromkeys((2, 4), _SMALL)


# The same for drafts; `spec_cut` makes of it what fits.
_SPEC: _Table = ((64, Config(splits=4)), (256, Config(splits=2)), (None, Config(splits=1, warps=8)))
HOPPER_SPEC: dict[int, _Table] = dict.fromkeys((2, 4), _SPEC)
AMPERE_SPEC: dict[int, _Table] = dict.fromkeys((2, 4), _by_tickets(_SPEC))
_SMALL_SPEC: _Table = (
    (2, Config(splits=2, warps=1)),
    (4, Config(splits=4, warps=1, lanes=4, cluster=False)),
    (6, Config(splits=1, warps=2)),
    (None, Config(splits=1, warps=1, lanes=16, cluster=False)),
)
SMALL_SPEC: dict[int, _Table] = dict.fromkeys((2, 4), _SMALL_SPEC)


CANDIDATES: tuple[Config, ...] = (
    *(Config(splits=splits, warps=warps) for splits in (1, 2, 4, 8) for warps in (2, 4, 8)),
    *(Config(splits=splits, lanes=16) for splits in (2, 4)),
    *(Config(splits=4, cluster=False), Config(splits=4, dependent=False), Config(warps=8, dependent=False)),
    *(Config(whole_key_head=True, splits=splits, warps=warps) for splits in (1, 2, 4, 8) for warps in (4, 8)),
    *(Config(warps=warps, lanes=16, stages=stages) for warps in (2, 4) for stages in (2, 4, 6)),
    *(Config(warps=8, blocks=2, depth=2), Config(lanes=16, blocks=4, depth=2), Config(warps=2, lanes=16, depth=2)),
)
"""What a sweep on a card tries, to fill the tables with."""
SPEC_CANDIDATES: tuple[Config, ...] = tuple(
    Config(splits=splits, warps=warps, lanes=lanes) for splits in (1, 2, 4) for warps in (4, 8) for lanes in (8, 16)
)
"""The same for drafts."""


@cache
def choose(capability: int, rows: int, sizes: Sizes, drafts: bool = False) -> Config:
    """The configuration for a launch of `rows` rows, of one token each or `drafts`."""
    table = _table(capability, sizes, drafts)
    return next(config for limit, config in table if limit is None or rows * sizes.HV <= limit)


def configurations(capability: int, sizes: Sizes, drafts: bool = False) -> tuple[Config, ...]:
    """Every configuration that `choose` can return for these sizes."""
    return tuple(config for _, config in _table(capability, sizes, drafts))


def _table(capability: int, sizes: Sizes, drafts: bool) -> _Table:
    place = 0 if capability == EMULATED else 1 if capability < CLUSTERS else 2
    tables = (SMALL_SPEC, AMPERE_SPEC, HOPPER_SPEC) if drafts else (SMALL, AMPERE, HOPPER)
    return tables[place][sizes.itemsize]
