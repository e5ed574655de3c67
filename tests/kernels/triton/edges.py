"""Launches at the edge of what is legal, run where the interpreter is."""

from __future__ import annotations

import torch
from torch import Tensor

from gdn_verify.kernels.fallback import Layer, gated_delta_net_packed
from gdn_verify.kernels.rows import Tables
from gdn_verify.kernels.triton.decode import fused_decode

H, HV, K, V = 1, 1, 8, 8
D = 2 * H * K + HV * V


def layer(A_log: float = 0.0, dt_bias: float = 0.0) -> Layer:
    """A conv that passes the newest input on, and no norm."""
    weight = torch.zeros(D, 4)
    weight[:, 3] = 1.0
    return Layer(H, HV, K, V, weight, torch.full((HV,), A_log), torch.full((HV,), dt_bias), conv_activation=None)


def both(qkvz: Tensor, a: float, parameters: Layer, pool: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(o, state) of the kernel, then of the fallback, for one row with b = 0."""
    ba = torch.tensor([[0.0, a]])
    rows = torch.zeros(1, dtype=torch.int32)
    conv = torch.zeros(1, D, 3)
    mine, theirs = pool.clone(), pool.clone()
    o = fused_decode(qkvz, ba, parameters, conv.clone(), mine, rows)
    tables = Tables(torch.tensor([0, 1], dtype=torch.int32), rows)
    expected, _ = gated_delta_net_packed(qkvz, ba, parameters, conv.clone(), theirs, tables)
    return o, mine, expected, theirs


def large_numbers() -> tuple[bool, float]:
    """Keys of 1e15 on a state of 1e25, legal each: whether all is finite, and the largest relative error."""
    qkvz = torch.cat([torch.full((1, 2 * K), 1e15), torch.full((1, V), 1e20), torch.zeros(1, V)], 1)
    o, h, expected, state = both(qkvz, 0.0, layer(), torch.full((1, HV, V, K), 1e25))
    errors = [((x - y).norm() / y.norm()).item() for x, y in ((o / 1e20, expected / 1e20), (h / 1e20, state / 1e20))]
    return bool(o.isfinite().all() and h.isfinite().all()), max(errors)


def small_softplus() -> float:
    """Relative error of the decay where e^x is far below 1 and A_log makes up for it."""
    qkvz = torch.zeros(1, D + HV * V)
    _, h, _, state = both(qkvz, -12.0, layer(A_log=12.0), torch.ones(1, HV, V, K))
    return ((h - state).abs().max() / state.abs().max()).item()


def offsets_below_zero() -> bool:
    """Whether memory before the output keeps its bytes where the tables are garbage."""
    memory = torch.full((8, HV, V), 7.0)
    qkvz, ba = torch.zeros(4, D + HV * V), torch.zeros(4, 2)
    fused_decode(
        qkvz, ba, layer(), torch.zeros(1, D, 3), torch.zeros(1, HV, V, K), torch.full((1,), -1, dtype=torch.int32),
        query_start_loc=torch.tensor([-3, 1], dtype=torch.int32), output=memory[4:],
    )  # fmt: skip
    return bool((memory[:4] == 7.0).all())
