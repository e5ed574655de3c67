"""Which configuration a launch has, by chip, rows and the state: tables that a sweep on a card has filled."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

from gdn_verify.kernels.cuda.config import Config, Sizes
from gdn_verify.kernels.cuda.launch import CLUSTERS, EMULATED

GEFORCES = 120
"""The first compute capability of consumer cards with clusters."""
_Table = tuple[tuple[int | None, Config], ...]
_Tables = dict[int, _Table]
"""By bytes of a number of the state: up to so many value heads in a launch (rows · HV), this configuration."""


def _with(tables: _Tables, **change: Any) -> _Tables:
    return {
        size: tuple((limit, replace(config, **change)) for limit, config in table) for size, table in tables.items()
    }


# The best of a sweep on an H200 (docs/cuda.md) for a layer of 16 key heads, 32 value heads and K = V = 128.
HOPPER: _Tables = {
    4: (
        (48, Config(splits=4, warps=8)),
        (96, Config(warps=8, lanes=4)),
        (256, Config(whole_key_head=True, warps=8)),
        (512, Config(stages=4)),
        (1024, Config(whole_key_head=True, warps=8, stages=4)),
        (None, Config(lanes=16, stages=8)),
    ),
    2: (
        (48, Config(splits=2, warps=8, lanes=4)),
        (128, Config(warps=8, lanes=4)),
        (256, Config(whole_key_head=True, warps=8)),
        (1024, Config(whole_key_head=True, warps=8, stages=4)),
        (4096, Config(lanes=16, stages=8)),
        (None, Config(warps=2, lanes=16, stages=16)),
    ),
}
# Elsewhere nothing was measured. Without clusters a split head costs a trip through the L2, and the ticket one more.
GEFORCE = HOPPER
AMPERE = _with(HOPPER, cluster=False, dependent=False)
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
SMALL: _Tables = dict.fromkeys((2, 4), _SMALL)

# The same for drafts of four tokens; `spec_cut` makes of it what fits.
HOPPER_SPEC: _Tables = {
    4: ((48, Config(splits=4, warps=8, lanes=16)), (None, Config(warps=8, lanes=16))),
    2: ((48, Config(splits=4, warps=8, lanes=16)), (256, Config(warps=8)), (None, Config())),
}
AMPERE_SPEC = _with(HOPPER_SPEC, cluster=False, dependent=False)
_SMALL_SPEC: _Table = (
    (2, Config(splits=2, warps=1)),
    (4, Config(splits=4, warps=1, lanes=4, cluster=False)),
    (6, Config(splits=1, warps=2)),
    (None, Config(splits=1, warps=1, lanes=16, cluster=False)),
)
SMALL_SPEC: _Tables = dict.fromkeys((2, 4), _SMALL_SPEC)

CANDIDATES: tuple[Config, ...] = (
    *(Config(splits=splits, warps=warps) for splits in (1, 2, 4, 8) for warps in (4, 8)),
    *(Config(splits=splits, warps=8, lanes=4) for splits in (1, 2, 4)),
    *(Config(splits=splits, warps=8, lanes=16) for splits in (2, 4)),
    *(Config(splits=4, warps=8, cluster=False), Config(splits=4, warps=8, dependent=False)),
    *(Config(whole_key_head=True, splits=splits, warps=8) for splits in (1, 2, 4, 8)),
    *(
        Config(whole_key_head=whole, warps=warps, lanes=lanes, stages=stages)
        for whole in (False, True)
        for warps in (2, 4, 8)
        for lanes in (4, 8, 16)
        for stages in (4, 8, 16)
    ),
    *(Config(whole_key_head=whole, splits=2, warps=4, lanes=8, stages=8) for whole in (False, True)),
)
"""What a sweep on a card tries, to fill the tables with."""
SPEC_CANDIDATES: tuple[Config, ...] = tuple(
    Config(splits=splits, warps=warps, lanes=lanes) for splits in (1, 2, 4) for warps in (4, 8) for lanes in (4, 8, 16)
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
    if capability == EMULATED:
        tables = SMALL_SPEC if drafts else SMALL
    elif capability < CLUSTERS:
        tables = AMPERE_SPEC if drafts else AMPERE
    else:
        tables = HOPPER_SPEC if drafts else HOPPER if capability < GEFORCES else GEFORCE
    return tables[sizes.itemsize]
