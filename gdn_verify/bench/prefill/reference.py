"""What a prefill should leave, by the compiled float64 recurrence on the processor, and how far rounding may move it.

A judge asks the same of every contender at a setting, so the answer is kept, on the device. Where tokens times value
heads are more than `MOST`, heads are left out, evenly, never the first and the last: the heads of the delta rule do
not meet, and a kernel treats them alike but for their addresses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gdn_verify.bench.contender import PrefillInputs, Setting
from gdn_verify.bench.damage import budget
from gdn_verify.bench.inputs import ACTIVATION
from gdn_verify.bench.reference import as_vk
from gdn_verify.cases.contract import DType, StateOrder
from gdn_verify.kernels.stages import QK_NORM_EPS
from gdn_verify.oracles.sequential import delta_rule

MOST = 1 << 20
DRAWS = 4
"""Fewer than a decode's: each row's mean square is over its numbers too, and long rows take seconds."""

Move = Callable[[str, Tensor], Tensor]
"""(name of an operand of the recurrence, its value) → the value that the recurrence gets."""


@dataclass(frozen=True)
class Expected:
    """Of `heads` alone: o [T, n, V] and h [N, n, V, K] in float64, and the budget of each row of them."""

    heads: Tensor
    out: Tensor
    out_budget: Tensor
    states: Tensor
    state_budget: Tensor


def heads(setting: Setting, most: int = MOST) -> list[int]:
    """The value heads that are looked at: all, or as many as `most` allows, the first and the last among them."""
    HV = setting.geometry.HV
    count = min(HV, max(2, most // setting.tokens))
    return sorted({round(i * (HV - 1) / max(count - 1, 1)) for i in range(count)})


def expect(inputs: PrefillInputs, order: StateOrder, draws: int = DRAWS, most: int = MOST) -> Expected:
    """By the equations, and by them again with every operand moved by one unit roundoff, `draws` times."""
    chosen = heads(inputs.setting, most)
    clean = evaluate(inputs, order, chosen)
    squares = [torch.zeros_like(value[..., 0]) for value in clean]
    for seed in range(draws):
        for total, value, moved in zip(squares, clean, evaluate(inputs, order, chosen, _Jolt(seed)), strict=True):
            total += (moved - value).square().sum(-1) / draws
    (out, h), (of_out, of_h) = clean, squares
    bounded = out, budget(out, of_out, ACTIVATION), h, budget(h, of_h, inputs.setting.state)
    device = inputs.q.device
    return Expected(torch.tensor(chosen, device=device), *(value.to(device) for value in bounded))


def evaluate(
    inputs: PrefillInputs, order: StateOrder, chosen: list[int], move: Move = lambda name, value: value
) -> tuple[Tensor, Tensor]:
    """o [T, n, V] and h [N, n, V, K] of some value heads, float64, on the processor.

    `move` sees q_hat and k_hat, once for each value head, v, g and beta.
    """
    g = inputs.geometry
    keys = [head // g.ratio for head in chosen]
    q_hat, k_hat = (_unit(x[:, keys].cpu().double()) for x in (inputs.q, inputs.k))
    operands = {"q_hat": q_hat * g.K**-0.5, "k_hat": k_hat}
    operands |= {name: getattr(inputs, name)[:, chosen].cpu().double() for name in ("v", "g", "beta")}
    states = as_vk(inputs.pool[inputs.state_indices.long()], order)[:, chosen].cpu().double()
    q, k, v, decay, beta = (move(name, value)[None].numpy() for name, value in operands.items())
    before = np.zeros_like(states[None].numpy()) if inputs.setting.fresh else states[None].numpy()
    out, h = delta_rule(q, k, v, decay, beta, before, inputs.query_start_loc.cpu().numpy())
    return torch.from_numpy(out[0]), torch.from_numpy(h[0])


def _unit(x: Tensor) -> Tensor:
    return x / (x.square().sum(-1, keepdim=True) + QK_NORM_EPS).sqrt()


class _Jolt:
    """Moves every number of an operand by one unit roundoff, up or down at random.

    Moving q̂ and k̂ stands for every product with a state or a key that is rounded to the activations' dtype too; moving
    v for the roundings of the chunk's solution.
    """

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def __call__(self, name: str, value: Tensor) -> Tensor:
        u = (DType.F32 if name == "g" else ACTIVATION).unit_roundoff
        bits = np.frombuffer(self.random.bytes(-(-value.numel() // 8)), np.uint8)
        up = torch.from_numpy(np.unpackbits(bits, count=value.numel())).view(value.shape).bool()
        return torch.where(up, value * (1 + u), value * (1 - u))
