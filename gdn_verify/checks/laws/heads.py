"""Laws of heads: they may be permuted with their parameters, and sharded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import Tensor

from gdn_verify.checks.laws.breaks import states_of_next_head
from gdn_verify.checks.laws.law import Law, Varied
from gdn_verify.checks.laws.relation import Relation, Trial
from gdn_verify.checks.laws.shots import Chain, Setting
from gdn_verify.feed import Pools

_BY_KEY_HEAD, _BY_VALUE_HEAD = ("q", "k"), ("v", "z", "o", "a", "b", "g", "beta")


def chosen(setting: Setting, keys: list[int], values: list[int]) -> Trial:
    """The launch with these key heads and value heads, in this order; value heads of a key head stand together."""
    g = setting.case.geometry
    channels = [
        *(h * g.K + i for h in keys for i in range(g.K)),
        *(g.H * g.K + h * g.K + i for h in keys for i in range(g.K)),
        *(2 * g.H * g.K + j * g.V + i for j in values for i in range(g.V)),
    ]
    geometry = replace(g, H=len(keys), HV=len(values))
    base = setting.base.shots[0]
    made = {name: _part(name, value, keys, values, channels) for name, value in base.inputs.items()}
    shot = replace(base, case=replace(base.case, geometry=geometry), inputs=made)
    chain = Chain(_pools(setting.pools, values, channels), (shot,))
    return Trial(chain, heads=tuple(values), channels=tuple(channels), breaks=states_of_next_head)


def _part(name: str, value: Tensor, keys: list[int], values: list[int], channels: list[int]) -> Tensor:
    if name in _BY_KEY_HEAD:
        return value[:, keys]
    if name in _BY_VALUE_HEAD:
        return value[:, values]
    if name == "x":
        return value[:, channels]
    if name in ("conv_weight", "conv_bias"):
        return value[channels]
    return value[values] if name in ("A_log", "dt_bias") else value


def _pools(pools: Pools, values: list[int], channels: list[int]) -> Pools:
    ssm = None if pools.ssm is None else pools.ssm[:, values]
    conv = None if pools.conv is None else pools.conv[:, channels]
    return Pools(ssm, conv)


def _needs_heads(setting: Setting) -> str | None:
    if not setting.live:
        return "no live row"
    return None if setting.case.geometry.HV > 1 else "one head"


def _needs_key_heads(setting: Setting) -> str | None:
    if not setting.live:
        return "no live row"
    return None if setting.case.geometry.H > 1 else "one key head"


def heads(setting: Setting) -> Varied:
    """Heads in another order, with their parameters and states, give the same results in that order.

    Key heads go with their value heads, which change places within each key head too. No entry of the catalogue is
    named after this law; wrong head maps of any kind break it.
    """
    g = setting.case.geometry
    orders = {
        "turned by one": (np.roll(np.arange(g.H), 1), np.roll(np.arange(g.ratio), 1)),
        "in reverse order": (np.arange(g.H)[::-1], np.arange(g.ratio)[::-1]),
    }
    found = []
    for says, (outer, inner) in orders.items():
        keys = [int(h) for h in outer]
        values = [h * g.ratio + int(i) for h in keys for i in inner]
        found.append(Relation(f"heads {says}", (chosen(setting, keys, values),)))
    return found


def sharding(setting: Setting) -> Varied:
    """Shards of the heads, each launched alone, give their parts of the whole.

    Tensor parallelism divides key heads with their value heads.

    Bugs: conv-state-sliced-as-one-block (a shard reads its part of the whole conv state, not its part of q, k and v).
    """
    g = setting.case.geometry
    middle = g.H // 2
    parts = [list(range(middle)), list(range(middle, g.H))]
    trials = [chosen(setting, keys, [h * g.ratio + i for h in keys for i in range(g.ratio)]) for keys in parts]
    return [Relation("in two shards", tuple(trials))]


LAWS = (
    Law("heads", "heads may stand in any order, with their parameters", _needs_heads, heads),
    Law("sharding", "shards of the heads concatenate", _needs_key_heads, sharding),
)
