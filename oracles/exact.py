"""The layer in 50 decimal digits, for tiny cases: what the float64 oracles are pinned to.

Plain lists in, plain lists of mpmath numbers out; one row, no runs, no sites. Each function is the equation
of the contract as it stands, written without a thought for speed. Lists are indexed like the arrays of
`stages` and `sequential` without their leading axis of runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import mpmath

Number = Any  # mpmath's own type; a float on the way in is taken exactly
Vector = Sequence[Number]

mp = mpmath.MPContext()  # a context of our own: mpmath.mp's precision belongs to the caller
mp.dps = 50


def softplus(x: Number, threshold: float = 20.0) -> Number:
    """log(1 + e^x), or x above `threshold`."""
    x = mp.mpf(x)
    return x if x > threshold else mp.log1p(mp.exp(x))


def sigmoid(x: Number) -> Number:
    """1 / (1 + e^-x)."""
    return 1 / (1 + mp.exp(-mp.mpf(x)))


def silu(x: Number) -> Number:
    """x · sigmoid(x)."""
    return mp.mpf(x) * sigmoid(x)


def causal_conv(
    x: Sequence[Vector], weight: Sequence[Vector], bias: Vector | None, history: Sequence[Vector], act: bool
) -> list[list[Number]]:
    """Equation 1 for one row: x [L][D], weight [D][W], bias [D], history [D][W-1] → y [L][D]."""
    inputs = [[*past, *new] for past, new in zip(history, _columns(x, len(weight)), strict=True)]
    return [
        [_tap(inputs[d][t:], weight[d], bias[d] if bias else 0, act) for d in range(len(weight))] for t in range(len(x))
    ]


def gates(
    a: Sequence[Vector], b: Sequence[Vector], A_log: Vector, dt_bias: Vector, beta_scale: float = 1.0
) -> tuple[list[list[Number]], list[list[Number]]]:
    """Equation 2: a, b [T][HV], A_log, dt_bias [HV] → g, β [T][HV]."""
    heads = range(len(A_log))
    g = [[-mp.exp(A_log[j]) * softplus(mp.mpf(row[j]) + dt_bias[j]) for j in heads] for row in a]
    return g, [[beta_scale * sigmoid(x) for x in row] for row in b]


def unit(x: Vector, scale: Number = 1, eps: float = 1e-6) -> list[Number]:
    """Equation 3 for one vector: x / sqrt(Σx² + eps) · scale."""
    length = mp.sqrt(_dot(x, x) + mp.mpf(eps))
    return [mp.mpf(element) / length * scale for element in x]


def delta_rule(
    q: Sequence[Sequence[Vector]],
    k: Sequence[Sequence[Vector]],
    v: Sequence[Sequence[Vector]],
    g: Sequence[Vector],
    beta: Sequence[Vector],
    state: Sequence[Sequence[Vector]],
) -> tuple[list[list[list[Number]]], list[Any]]:
    """Equation 4 for one row: q, k [L][H][K], v [L][HV][V], g, β [L][HV], state [HV][V][K] → o [L][HV][V], h."""
    o = []
    h = [[[mp.mpf(x) for x in row] for row in head] for head in state]
    for t in range(len(v)):
        out = []
        for j in range(len(v[t])):
            key_head = j // (len(v[t]) // len(q[t]))
            h[j] = step(h[j], k[t][key_head], v[t][j], g[t][j], beta[t][j])
            out.append([_dot(row, q[t][key_head]) for row in h[j]])
        o.append(out)
    return o, h


def step(h: Sequence[Vector], k: Vector, v: Vector, g: Number, beta: Number) -> list[list[Number]]:
    """One token of one value head: the state [V][K] after h ← e^g h; u = β (v - h k̂); h ← h + u k̂ᵀ."""
    decayed = [[mp.exp(g) * x for x in row] for row in h]
    u = [mp.mpf(beta) * (mp.mpf(value) - _dot(row, k)) for value, row in zip(v, decayed, strict=True)]
    return [[x + y * key for x, key in zip(row, k, strict=True)] for y, row in zip(u, decayed, strict=True)]


def gated_norm(o: Vector, z: Vector, weight: Vector, eps: float, act: str) -> list[Number]:
    """Equation 5 for one head's output: o, z, weight [V] → [V]; act is "silu" or "sigmoid"."""
    scale = 1 / mp.sqrt(_dot(o, o) / len(o) + mp.mpf(eps))
    gate = {"silu": silu, "sigmoid": sigmoid}[act]
    return [mp.mpf(x) * scale * w * gate(y) for x, y, w in zip(o, z, weight, strict=True)]


def layer(
    mixed_qkv: Sequence[Vector],
    z: Sequence[Sequence[Vector]],
    b: Sequence[Vector],
    a: Sequence[Vector],
    conv: tuple[Sequence[Vector], Vector | None, Sequence[Vector]],
    gate: tuple[Vector, Vector],
    norm: tuple[Vector, float, str],
    state: Sequence[Sequence[Vector]],
    H: int,
) -> tuple[list[list[list[Number]]], list[Any]]:
    """All stages after unpack for one row, with SiLU in the conv and scale K^-½.

    mixed_qkv [L][D], z [L][HV][V], b, a [L][HV]; conv is (weight, bias, history), gate (A_log, dt_bias),
    norm (weight, eps, act); state [HV][V][K]. Returns out [L][HV][V] and the state after the row.
    """
    HV, V, K = len(state), len(state[0]), len(state[0][0])
    q, k, v = [], [], []
    for y in causal_conv(mixed_qkv, *conv, True):
        q.append([unit(x, mp.mpf(K) ** -0.5) for x in _heads(y[: H * K], K)])
        k.append([unit(x) for x in _heads(y[H * K : 2 * H * K], K)])
        v.append(_heads(y[2 * H * K :], V))
    o, h = delta_rule(q, k, v, *gates(a, b, *gate), state)
    return [[gated_norm(o[t][j], z[t][j], *norm) for j in range(HV)] for t in range(len(o))], h


def _columns(x: Sequence[Vector], width: int) -> list[list[Number]]:
    return [[row[d] for row in x] for d in range(width)]


def _tap(inputs: Vector, weight: Vector, bias: Number, act: bool) -> Number:
    total = mp.mpf(bias) + _dot(weight, inputs[: len(weight)])
    return silu(total) if act else total


def _dot(x: Vector, y: Vector) -> Number:
    return mp.fsum(mp.mpf(a) * mp.mpf(b) for a, b in zip(x, y, strict=True))


def _heads(x: Vector, size: int) -> list[Vector]:
    return [x[i:j] for i, j in pairwise(range(0, len(x) + 1, size))]
