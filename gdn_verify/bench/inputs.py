"""Layers to decode, drawn on the device: random values, no zeros, slots in random order."""

from __future__ import annotations

import torch
from torch import Tensor

from gdn_verify.bench import reference
from gdn_verify.bench.contender import AnyInputs, Inputs, Setting
from gdn_verify.cases.contract import ConvLayout, DType, StateOrder

ACTIVATION = DType.BF16
FREE_SLOTS = 2
"""Slots that no row names: slot 0, which some implementations take for padding, and one whose bytes are watched."""
STATE_SPREAD = 0.1
_BLOCK = 32


def torch_dtype(dtype: DType) -> torch.dtype:
    """torch's type of that name."""
    found = getattr(torch, dtype.value)
    assert isinstance(found, torch.dtype)
    return found


class Draw:
    """Normal and uniform numbers of one seed, on one device."""

    def __init__(self, device: str, seed: int) -> None:
        self.device = device
        self.generator = torch.Generator(device).manual_seed(seed)

    def normal(self, *shape: int, spread: float = 1.0, dtype: DType = ACTIVATION) -> Tensor:
        """Around 0, in a dtype."""
        made = torch.empty(shape, dtype=torch_dtype(dtype), device=self.device)
        return made.normal_(0.0, spread, generator=self.generator)

    def uniform(self, *shape: int) -> Tensor:
        """In [0, 1), float32."""
        return torch.rand(shape, device=self.device, generator=self.generator)

    def slots(self, count: int) -> Tensor:
        """Slots 1 … count in random order, int32."""
        order = torch.randperm(count, device=self.device, generator=self.generator)
        return (order + 1).to(torch.int32)

    def counts(self, rows: int, most: int) -> Tensor:
        """In 1 … most, int32."""
        drawn = torch.randint(1, most + 1, (rows,), device=self.device, generator=self.generator)
        return drawn.to(torch.int32)


def draw(setting: Setting, device: str, seed: int, order: StateOrder, layout: ConvLayout) -> Inputs:
    """One layer; the same seed gives the same numbers whatever the order of a state and the layout of a conv slot."""
    g, N, T = setting.geometry, setting.rows, setting.tokens
    made = Draw(device, seed)
    slots = T + FREE_SLOTS
    table = made.slots(T)
    drafts = g.S > 1
    states = made.normal(slots, g.HV, g.V, g.K, spread=STATE_SPREAD, dtype=setting.state)
    columns = made.normal(slots, g.C, g.D)
    inputs = Inputs(
        setting=setting,
        qkvz=made.normal(T, g.D + g.HV * g.V),
        ba=made.normal(T, 2 * g.HV),
        conv_out=torch.empty(T, g.D, dtype=torch_dtype(ACTIVATION), device=device),
        g=torch.empty(T, g.HV, device=device),
        beta=torch.empty(T, g.HV, device=device),
        conv_pool=_laid_out(columns.transpose(1, 2), layout),
        conv_weight=made.normal(g.D, g.W, spread=0.5),
        A_log=made.uniform(g.HV),
        dt_bias=made.uniform(g.HV),
        pool=states if order is StateOrder.VK else states.transpose(2, 3).contiguous(),
        state_indices=table.view(N, g.S) if drafts else table,
        query_start_loc=torch.arange(0, T + 1, g.S, dtype=torch.int32, device=device),
        norm_weight=1.0 + made.normal(g.V, spread=0.2),
        out=torch.full((T, g.HV, g.V), float("nan"), dtype=torch_dtype(ACTIVATION), device=device),
        num_accepted_tokens=made.counts(N, g.S) if drafts else None,
    )
    _fill_edges(inputs)
    return inputs


def _laid_out(conv_pool: Tensor, layout: ConvLayout) -> Tensor:
    """[P, D, C] as it comes, D contiguous, or a copy with C contiguous."""
    return conv_pool if layout is ConvLayout.D_CONTIGUOUS else conv_pool.contiguous()


def _fill_edges(inputs: Inputs) -> None:
    """The left edges further right: what the conv and the gates leave, rounded to their dtypes."""
    S = inputs.geometry.S
    for rows in blocks(inputs.setting.rows):
        tokens = slice(rows.start * S, rows.stop * S)
        channels = reference.conv(reference.conv_stream(inputs, rows), inputs.conv_weight)
        inputs.conv_out[tokens] = channels.flatten(0, 1).to(inputs.conv_out.dtype)
        g, beta = reference.gates(inputs, rows)
        inputs.g[tokens], inputs.beta[tokens] = g.flatten(0, 1).float(), beta.flatten(0, 1).float()


def blocks(rows: int) -> list[slice]:
    """All rows in stretches small enough for their float64 states."""
    return [slice(start, min(start + _BLOCK, rows)) for start in range(0, rows, _BLOCK)]


def refill(inputs: AnyInputs) -> None:
    """Fresh random states: an update repeated hundreds of times forgets them, and zeros run faster than data."""
    inputs.pool.normal_(0.0, STATE_SPREAD)
