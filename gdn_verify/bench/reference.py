"""The equations of a decode launch in float64, vectorised over its rows, for inputs too large for the oracle's loops.

The tests hold it to the oracle. Stages take [n, S, …], n rows of S tokens each; nothing here reads a packed or a
rounded value twice, so an observer of the intermediates can move each of them on its own.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (its customary name)

from gdn_verify.bench.contender import Inputs
from gdn_verify.cases.contract import Geometry, Span, Stage, StateOrder
from gdn_verify.kernels.stages import QK_NORM_EPS

Move = Callable[[str, Tensor], Tensor]
"""(name of an intermediate, its value) → the value that the next stage gets."""


def keep(name: str, value: Tensor) -> Tensor:
    """Moves nothing."""
    return value


def conv_stream(inputs: Inputs, rows: slice) -> Tensor:
    """What the conv runs over, float64 [n, D, W-1+S]: each row's history, then its tokens, oldest first."""
    g = inputs.geometry
    slots = inputs.state_indices.reshape(-1, g.S)[rows, 0].long()
    start = accepted(inputs)[rows] - 1
    columns = start[:, None] + torch.arange(g.W - 1, device=start.device)
    history = inputs.conv_pool[slots].double().gather(2, columns[:, None].expand(-1, g.D, -1))
    tokens = inputs.mixed_qkv.unflatten(0, (-1, g.S))[rows].double().transpose(1, 2)
    return torch.cat([history, tokens], dim=2)


def accepted(inputs: Inputs) -> Tensor:
    """a of every row, int64 [N]: 1 where no drafts are verified."""
    given = inputs.num_accepted_tokens
    return torch.ones_like(inputs.query_start_loc[1:]).long() if given is None else given.long()


def conv(stream: Tensor, weight: Tensor, move: Move = keep) -> Tensor:
    """SiLU of the causal convolution of [n, D, W-1+S] with weight [D, W], without bias: [n, S, D]."""
    products = stream.unfold(2, weight.shape[1], 1) * weight.double()[:, None]
    return F.silu(move("products", products).sum(-1)).transpose(1, 2)


def gates(inputs: Inputs, rows: slice) -> tuple[Tensor, Tensor]:
    """g (the log decay) and β, float64 [n, S, HV] each."""
    a, b = (x.unflatten(0, (-1, inputs.geometry.S))[rows].double() for x in (inputs.a, inputs.b))
    return -inputs.A_log.double().exp() * F.softplus(a + inputs.dt_bias.double(), threshold=20.0), b.sigmoid()


def split(channels: Tensor, g: Geometry) -> tuple[Tensor, Tensor, Tensor]:
    """[n, S, D] as q, k [n, S, H, K] and v [n, S, HV, V]."""
    q, k, v = channels.split([g.H * g.K, g.H * g.K, g.HV * g.V], dim=-1)
    return q.unflatten(-1, (g.H, g.K)), k.unflatten(-1, (g.H, g.K)), v.unflatten(-1, (g.HV, g.V))


def states_before(inputs: Inputs, rows: slice, order: StateOrder) -> Tensor:
    """The state that each row reads, float64 [n, HV, V, K]: column a-1 of its slots."""
    table = inputs.state_indices.reshape(-1, inputs.geometry.S)[rows].long()
    slots = table.gather(1, accepted(inputs)[rows, None] - 1)[:, 0]
    return as_vk(inputs.pool[slots], order).double()


def as_vk(states: Tensor, order: StateOrder) -> Tensor:
    """States of either order as […, V, K]."""
    return states if order is StateOrder.VK else states.transpose(-1, -2)


def evaluate(inputs: Inputs, span: Span, order: StateOrder, rows: slice, move: Move = keep) -> tuple[Tensor, Tensor]:
    """The span's result [n, S, HV, V] and the state after each token [n, S, HV, V, K], float64, for some rows.

    `move` sees products (of the conv), conv, g, beta, q_hat, k_hat, o and normed, where the span computes them.
    """
    g = inputs.geometry
    channels = inputs.conv_out.unflatten(0, (-1, g.S))[rows].double()
    if Stage.CONV in span:
        channels = move("conv", conv(conv_stream(inputs, rows), inputs.conv_weight, move))
    decay, beta = (x.unflatten(0, (-1, g.S))[rows].double() for x in (inputs.g, inputs.beta))
    if Stage.GATES in span:
        decay, beta = gates(inputs, rows)
        decay, beta = move("g", decay), move("beta", beta)
    q, k, v = split(channels, g)
    q_hat, k_hat = move("q_hat", _unit(q) * g.K**-0.5), move("k_hat", _unit(k))
    o, h = _delta(q_hat, k_hat, v, decay, beta, states_before(inputs, rows, order))
    if Stage.NORM not in span:
        return o, h
    z = inputs.z.unflatten(0, (-1, g.S))[rows].double()
    return _gated_norm(move("o", o), z, inputs, move), h


def _unit(x: Tensor) -> Tensor:
    return x / (x.square().sum(-1, keepdim=True) + QK_NORM_EPS).sqrt()


def _delta(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """h ← e^g h; u = β (v - h k̂); h ← h + u k̂ᵀ; o = h q̂, token after token (contract, equation 4)."""
    q, k = (x.repeat_interleave(v.shape[2] // x.shape[2], dim=2) for x in (q, k))
    outputs, states = [], []
    for t in range(v.shape[1]):
        h = h * g[:, t, :, None, None].exp()
        u = beta[:, t, :, None] * (v[:, t] - (h @ k[:, t, :, :, None])[..., 0])
        h = h + u[..., None] * k[:, t, :, None]
        outputs.append((h @ q[:, t, :, :, None])[..., 0])
        states.append(h)
    return torch.stack(outputs, 1), torch.stack(states, 1)


def _gated_norm(o: Tensor, z: Tensor, inputs: Inputs, move: Move) -> Tensor:
    normed = o * (o.square().mean(-1, keepdim=True) + inputs.norm_eps).rsqrt() * inputs.norm_weight.double()
    return move("normed", normed) * F.silu(z)


def conv_pool_after(inputs: Inputs) -> Tensor:
    """The conv pool after the launch, a copy in its dtype: raw inputs are copied bit for bit."""
    g, after = inputs.geometry, inputs.conv_pool.clone()
    everything = slice(0, inputs.setting.rows)
    slots = inputs.state_indices.reshape(-1, g.S)[:, 0].long()
    after[slots, :, : g.W - 2 + g.S] = conv_stream(inputs, everything)[:, :, 1:].to(after.dtype)
    return after
