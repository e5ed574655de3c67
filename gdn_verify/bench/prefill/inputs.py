"""Layers to prefill, drawn on the device: heads that forget within a token and heads that remember a thousand."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (its customary name)

from gdn_verify.bench.contender import PrefillInputs, Setting
from gdn_verify.bench.inputs import ACTIVATION, FREE_SLOTS, STATE_SPREAD, Draw, torch_dtype
from gdn_verify.cases.contract import StateOrder

SLOWEST, FASTEST = 1e-3, 1.0
"""Least and largest decay rate of a head; log-uniform between. A layer's heads differ as much."""


def draw(setting: Setting, device: str, seed: int, order: StateOrder) -> PrefillInputs:
    """One layer; the same seed gives the same numbers whatever the order of a state."""
    g, N, T = setting.geometry, setting.rows, setting.tokens
    made = Draw(device, seed)
    states = made.normal(N + FREE_SLOTS, g.HV, g.V, g.K, spread=STATE_SPREAD, dtype=setting.state)
    return PrefillInputs(
        setting=setting,
        q=made.normal(T, g.H, g.K),
        k=made.normal(T, g.H, g.K),
        v=made.normal(T, g.HV, g.V),
        g=_decays(made, T, g.HV),
        beta=made.normal(T, g.HV).float().sigmoid(),
        pool=states if order is StateOrder.VK else states.transpose(2, 3).contiguous(),
        state_indices=made.slots(N),
        query_start_loc=starts(setting, device),
        out=torch.full((T, g.HV, g.V), float("nan"), dtype=torch_dtype(ACTIVATION), device=device),
        has_initial_state=torch.zeros(N, dtype=torch.bool, device=device) if setting.fresh else None,
    )


def starts(setting: Setting, device: str) -> Tensor:
    """query_start_loc, int32 [N+1]."""
    lengths = torch.tensor((0, *setting.lengths), dtype=torch.int32)
    return lengths.cumsum(0, dtype=torch.int32).to(device)


def _decays(made: Draw, tokens: int, heads: int) -> Tensor:
    """g: a rate of the head times softplus of a number of the token, float32 [T, HV]."""
    rates = SLOWEST * (FASTEST / SLOWEST) ** made.uniform(heads)
    return -rates * F.softplus(made.normal(tokens, heads).float())
