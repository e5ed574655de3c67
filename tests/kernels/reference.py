"""The contract's equations as slow float64 loops over rows, tokens and heads; shares no code with the kernels.

Pools are float64 arrays in the order [slot, …]; every function returns what the contract says the launch
leaves, and says which elements it wrote, so that a test can ask for all others to be untouched.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Where:
    """Where one live row's tokens and states are; `read` is None for a row that starts from zeros."""

    start: int
    length: int
    conv_read: int | None
    conv_write: int
    first_column: int
    read: int | None
    writes: dict[int, int]  # token → slot
    spec: bool


def live_rows(rows, slots: int, pad_slot_id: int | None, conv: bool = True) -> list[Where]:
    """The contract's rules for padded rows and for the slots of each kind of row, row by row."""

    def legal(slot: int) -> bool:
        return 0 <= slot < slots and slot != pad_slot_id

    found, start = [], 0
    for row in rows:
        begin, start = start, start + row.length
        if row.length == 0:
            continue
        own = row.slots[0]
        if row.accepted is not None:
            read = row.slots[row.accepted - 1]
            if not legal(read) or (conv and not legal(own)):
                continue
            writes = {t: row.slots[t] for t in range(row.length) if legal(row.slots[t])}
            history = (own, row.accepted - 1)
        else:
            read = own if row.read_slot is None else row.read_slot
            if not legal(own) or not (row.fresh or legal(read)):
                continue
            writes = {row.length - 1: own}
            history = (read, 0)
        found.append(
            Where(
                begin,
                row.length,
                None if row.fresh else history[0],
                own,
                history[1],
                None if row.fresh else read,
                writes,
                row.accepted is not None,
            )
        )
    return found


def unpack(qkvz: Array, ba: Array, H: int, HV: int, K: int, V: int, packing: str) -> tuple[Array, ...]:
    """mixed_qkv, z, b, a, copied element range by element range."""
    T, r = len(qkvz), HV // H
    q, k = np.zeros((2, T, H, K))
    v, z = np.zeros((2, T, HV, V))
    b, a = np.zeros((2, T, HV))
    for j in range(HV):
        i = j // r
        if packing == "flat":
            at_q, at_k = i * K, (H + i) * K
            at_v, at_z = 2 * H * K + j * V, 2 * H * K + (HV + j) * V
            at_b, at_a = j, HV + j
        else:
            group = i * (2 * K + 2 * r * V)
            at_q, at_k = group, group + K
            at_v = group + 2 * K + (j - i * r) * V
            at_z = at_v + r * V
            at_b = i * 2 * r + (j - i * r)
            at_a = at_b + r
        q[:, i], k[:, i] = qkvz[:, at_q : at_q + K], qkvz[:, at_k : at_k + K]
        v[:, j], z[:, j] = qkvz[:, at_v : at_v + V], qkvz[:, at_z : at_z + V]
        b[:, j], a[:, j] = ba[:, at_b], ba[:, at_a]
    mixed_qkv = np.concatenate([q.reshape(T, H * K), k.reshape(T, H * K), v.reshape(T, HV * V)], axis=1)
    return mixed_qkv, z, b, a


def silu(x: Array) -> Array:
    return x * sigmoid(x)


def sigmoid(x: Array) -> Array:
    return 0.5 * (1 + np.tanh(x / 2))


def conv(x: Array, weight: Array, bias: Array | None, pool: Array, live: list[Where], activation: str | None):
    """(y, pool after the launch); y is zero where no live row is."""
    D, W = weight.shape
    y, after = np.zeros_like(x), pool.copy()
    for row in live:
        history = np.zeros((D, W - 1))
        if row.conv_read is not None:
            history = pool[row.conv_read][:, row.first_column : row.first_column + W - 1]
        tokens = x[row.start : row.start + row.length]
        line = np.concatenate([history.T, tokens])
        for t in range(row.length):
            total = np.zeros(D) if bias is None else bias.copy()
            for w in range(W):
                total += weight[:, w] * line[t + w]
            y[row.start + t] = silu(total) if activation == "silu" else total
        kept = line[1:] if row.spec else line[-(W - 1) :]
        after[row.conv_write][:, : len(kept)] = kept.T
    return y, after


def gates(a: Array, b: Array, A_log: Array, dt_bias: Array, beta_scale: float = 1.0) -> tuple[Array, Array]:
    """g and β, one number at a time."""
    g, beta = np.zeros_like(a), np.zeros_like(b)
    for t, j in np.ndindex(*a.shape):
        x = a[t, j] + dt_bias[j]
        softplus = x if x > 20 else math.log1p(math.exp(x))
        g[t, j] = -math.exp(A_log[j]) * softplus
        beta[t, j] = beta_scale / (1 + math.exp(-b[t, j]))
    return g, beta


def unit(x: Array, scale: float = 1.0) -> Array:
    """x / sqrt(Σx² + 1e-6) · scale over the last axis."""
    y = np.zeros_like(x)
    for at in np.ndindex(*x.shape[:-1]):
        y[at] = x[at] / math.sqrt(sum(e * e for e in x[at]) + 1e-6) * scale
    return y


def delta(q: Array, k: Array, v: Array, g: Array, beta: Array, pool: Array, live: list[Where]):
    """(o, {slot: state after the launch}) for a pool in VK order."""
    r = v.shape[1] // q.shape[1]
    o, stored = np.zeros_like(v), {}
    for row in live:
        h = np.zeros(pool.shape[1:]) if row.read is None else pool[row.read].copy()
        for t in range(row.length):
            n = row.start + t
            for j in range(v.shape[1]):
                h[j] *= math.exp(g[n, j])
                u = beta[n, j] * (v[n, j] - h[j] @ k[n, j // r])
                h[j] += np.outer(u, k[n, j // r])
                o[n, j] = h[j] @ q[n, j // r]
            if t in row.writes:
                stored[row.writes[t]] = h.copy()
    return o, stored


def norm(o: Array, z: Array, weight: Array, eps: float, activation: str) -> Array:
    """o · rsqrt(mean(o²) + eps) · weight · act(z), head by head."""
    out = np.zeros_like(o)
    for at in np.ndindex(*o.shape[:-1]):
        gate = silu(z[at]) if activation == "silu" else sigmoid(z[at])
        out[at] = o[at] / math.sqrt(sum(e * e for e in o[at]) / len(o[at]) + eps) * weight * gate
    return out
