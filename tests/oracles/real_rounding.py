"""Kernels in numpy that round for real, to nearest and ties to even, where `oracles.rounding` says that a kernel does.

Arithmetic is float32, and `cast` takes an intermediate to a storage type and back. Unlike the oracle's perturbed
runs nothing here is random: this is what a right kernel's numbers look like.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch

from gdn_verify.cases.contract import Activation, DType, DTypes, Stage
from gdn_verify.feed import TORCH
from gdn_verify.oracles.compose import Array, Problem

F = np.float32
Real = dict[str, np.ndarray]


def cast(x: np.ndarray, dtype: DType) -> np.ndarray:
    """`x` rounded to `dtype`, as float32."""
    return torch.from_numpy(np.ascontiguousarray(x, F)).to(TORCH[dtype]).float().numpy()


def sequential(problem: Problem, dtypes: DTypes, store: DType) -> dict[str, Array]:
    """The span token by token in float32; conv, o, out and stored states are rounded to their types."""
    known: Real = {name: value.astype(F) for name, value in problem.tensors.items()}
    if Stage.CONV in problem.span:
        known |= _conv(problem, known, dtypes.activation)
    if Stage.GATES in problem.span:
        known |= _gates(problem, known)
    known |= unit_vectors(problem, known)
    o, h = _scan(problem, known)
    known |= {"o": cast(o, dtypes.activation), "h": cast(h, store)}
    if Stage.NORM in problem.span:
        known["out"] = cast(_norm(problem, known), dtypes.activation)
    return doubles(known)


def doubles(known: Real) -> dict[str, Array]:
    """Results as the checks take them."""
    return {name: value.astype(np.float64) for name, value in known.items()}


def _conv(problem: Problem, known: Real, dtype: DType) -> Real:
    g, x, weight = problem.geometry, known["x"], known["conv_weight"]
    assert problem.history is not None
    y = np.empty_like(x)
    for row, (start, end) in enumerate(pairwise(problem.query_start_loc)):
        seen = np.concatenate([problem.history[row].T.astype(F), x[start:end]])
        total = np.zeros_like(x[start:end]) + known.get("conv_bias", F(0))
        for w in range(g.W):
            total = total + weight[:, w] * seen[w : w + end - start]
        y[start:end] = total
    y = cast(_silu(y) if problem.options.conv_activation is Activation.SILU else y, dtype)
    q, k, v = np.split(y, (g.H * g.K, 2 * g.H * g.K), axis=1)
    heads = {"q": q.reshape(-1, g.H, g.K), "k": k.reshape(-1, g.H, g.K), "v": v.reshape(-1, g.HV, g.V)}
    return {"conv": y, **heads}


def _sigmoid(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return F(1) / (F(1) + np.exp(-x))


def _silu(x: np.ndarray) -> np.ndarray:
    return x * _sigmoid(x)


def _gates(problem: Problem, known: Real) -> Real:
    x = known["a"] + known["dt_bias"]
    with np.errstate(over="ignore"):
        softplus = np.where(x > 20, x, np.log(F(1) + np.exp(x)))
    beta = F(problem.options.beta_scale) * _sigmoid(known["b"])
    return {"g": -np.exp(known["A_log"]) * softplus, "beta": beta}


def unit_vectors(problem: Problem, known: Real) -> Real:
    """q̂ and k̂ in float32."""
    scale = F(problem.options.q_scale(problem.geometry))
    return {"q_hat": _unit(known["q"]) * scale, "k_hat": _unit(known["k"])}


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt(np.square(x).sum(axis=-1, keepdims=True) + F(1e-6))


def _scan(problem: Problem, known: Real) -> tuple[np.ndarray, np.ndarray]:
    q, k = (known[name].repeat(problem.geometry.ratio, axis=1) for name in ("q_hat", "k_hat"))
    v, beta, decay = known["v"], known["beta"], np.exp(known["g"])
    assert problem.state is not None
    o, states = np.empty_like(v), np.empty((*v.shape, k.shape[-1]), F)
    for row, (start, end) in enumerate(pairwise(problem.query_start_loc)):
        h = problem.state[row].astype(F)
        for t in range(start, end):
            h = h * decay[t, :, None, None]
            u = beta[t, :, None] * (v[t] - (h * k[t, :, None]).sum(axis=-1))
            h = h + u[..., None] * k[t, :, None]
            o[t], states[t] = (h * q[t, :, None]).sum(axis=-1), h
    if problem.every_token:
        return o, states if problem.kept is None else states[problem.kept]
    return o, states[problem.query_start_loc[1:] - 1]


def _norm(problem: Problem, known: Real) -> np.ndarray:
    o, z = known["o"], known["z"]
    mean = np.square(o).sum(axis=-1, keepdims=True) / F(o.shape[-1])
    value = o * (F(1) / np.sqrt(mean + F(problem.options.norm_eps))) * known["norm_weight"]
    return value * (_silu(z) if problem.options.norm_activation is Activation.SILU else _sigmoid(z))


def chunked(problem: Problem, dtypes: DTypes, operand: DType, size: int = 64) -> dict[str, Array]:
    """The delta stage in chunks: sums in float32, operands of products rounded to `operand`, states kept in float32."""
    known: Real = {name: value.astype(F) for name, value in problem.tensors.items()}
    known |= {name: cast(value, operand) for name, value in unit_vectors(problem, known).items()}
    g = problem.geometry
    assert problem.state is not None
    o, h = np.empty_like(known["v"]), problem.state.astype(F).transpose(0, 1, 3, 2).copy()
    for row, head, tokens in _chunks(problem, size):
        q, k = known["q_hat"][tokens, head // g.ratio], known["k_hat"][tokens, head // g.ratio]
        parts = (known[name][tokens, head] for name in ("v", "g", "beta"))
        o[tokens, head], h[row, head] = _chunk(q, k, *parts, h[row, head], operand)
    known |= {"o": cast(o, dtypes.activation), "h": h.transpose(0, 1, 3, 2)}
    return doubles(known)


def _chunks(problem: Problem, size: int) -> Iterator[tuple[int, int, slice]]:
    for row, (start, end) in enumerate(pairwise(problem.query_start_loc)):
        for first in range(start, end, size):
            for head in range(problem.geometry.HV):
                yield row, head, slice(first, min(first + size, end))


def _chunk(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, g: np.ndarray, beta: np.ndarray, h: np.ndarray, operand: DType
) -> tuple[np.ndarray, np.ndarray]:
    """Output [n, V] and next state [K, V] of one chunk; names as in `oracles.chunked`."""
    G = np.cumsum(g, dtype=F)
    between = np.tril(np.exp(np.minimum(G[:, None] - G, 0)))
    from_start, to_end = np.exp(G)[:, None], np.exp(G[-1] - G)[:, None]
    T = cast(_inverse(np.tril(beta[:, None] * (k @ k.T) * between, -1)), operand)
    u = cast(T @ cast(v * beta[:, None], operand), operand)
    w = cast(T @ cast(k * beta[:, None] * from_start, operand), operand)
    snapshot = cast(h, operand)
    v_new = u - w @ snapshot
    weights = cast((q @ k.T) * between, operand)
    o = (q @ snapshot) * from_start + weights @ cast(v_new, operand)
    return o, h * from_start[-1] + k.T @ cast(v_new * to_end, operand)


def _inverse(A: np.ndarray) -> np.ndarray:
    T = np.eye(len(A), dtype=F)
    for i in range(1, len(A)):
        T[i, :i] = -(A[i, :i] @ T[:i, :i])
    return T


def folded(problem: Problem, dtypes: DTypes, size: int, defect: str = "") -> dict[str, Array]:
    """The delta stage in chunks that are folded before the state is known; `defect` names a mistake to make in it.

    q and k are multiplied with each other and with the state as they come. Other operands are float16 until the state
    is met; what is handed on, the state's snapshot and v' are of the activations' type. Where that is float32 nothing
    is narrow.
    """
    exact = dtypes.activation is DType.F32
    before = DType.F32 if exact else DType.F16
    known: Real = {name: value.astype(F) for name, value in problem.tensors.items()}
    g, scale = problem.geometry, F(problem.options.q_scale(problem.geometry))
    assert problem.state is not None
    o, h = np.empty_like(known["v"]), problem.state.astype(F).transpose(0, 1, 3, 2).copy()
    starts = set(problem.query_start_loc.tolist())
    for row, head, tokens in _chunks(problem, size):
        given = {name: known[name][tokens, head // g.ratio] for name in ("q", "k")}
        given |= {name: known[name][tokens, head] for name in ("v", "g", "beta")}
        if defect == "state ignored from the second chunk" and tokens.start not in starts:
            h[row, head] = 0
        o[tokens, head], h[row, head] = _folded_chunk(**given, h=h[row, head], scale=scale, before=before,
                                                      operand=dtypes.activation, defect=defect)  # fmt: skip
    known |= {"o": cast(o, dtypes.activation), "h": cast(h.transpose(0, 1, 3, 2), dtypes.state)}
    return doubles(known)


FOLDED_DEFECTS = (
    "state ignored from the second chunk",
    "the last token's decay misses the state",
    "W of undecayed keys",
    "B of undecayed products",
    "an inverse of one block less",
    "no beta in X",
    "v' of undecayed keys",
)


def _folded_chunk(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, g: np.ndarray, beta: np.ndarray, h: np.ndarray, scale: np.float32,
    before: DType, operand: DType, defect: str,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Output [n, V] and next state [K, V] of one chunk; names as in `oracles._folded`, ρ = 1 / norm as the kernel's."""
    G = np.cumsum(g.astype(np.float64) / np.log(2.0))
    from_start, to_end = np.exp2(G.astype(F)), np.exp2((G[-1] - G).astype(F))
    kk = k @ k.T
    rho_k, rho_q = (F(1) / np.sqrt(np.diagonal(x) + F(1e-6)) for x in (kk, q @ q.T))
    A = np.tril(_decayed(kk, G, rho_k * beta, rho_k), -1)
    T = _doubled(A, before, len(A) // 2 if defect == "an inverse of one block less" else len(A))
    strength = np.ones_like(beta) if defect == "no beta in X" else beta
    tail = T if defect == "W of undecayed keys" else T * to_end[:, None]
    W = cast((cast(tail, before).T @ cast(k * rho_k[:, None], before)) * strength[:, None], operand)
    gates = np.zeros_like(G) if defect == "B of undecayed products" else G
    weights = np.tril(_decayed(q @ k.T, gates, rho_q, rho_k))
    B = cast((cast(weights, before) @ cast(T, before)) * (strength * scale), operand)

    snapshot = cast(h, operand)
    held = (k @ snapshot) * (rho_k if defect == "v' of undecayed keys" else from_start * rho_k)[:, None]
    fresh = cast(v - held, operand)
    o = (q @ snapshot) * (from_start * (rho_q * scale))[:, None] + B @ fresh
    whole = from_start[-2] if defect == "the last token's decay misses the state" and len(G) > 1 else from_start[-1]
    return o, h * whole + W.T @ fresh


def _decayed(products: np.ndarray, G: np.ndarray, of_rows: np.ndarray, of_columns: np.ndarray) -> np.ndarray:
    """products_ij · of_rows_i · of_columns_j · e^(G_i - G_j) for j ≤ i; from two decays where blocks of 16 differ.

    Both factors take their decay before they meet; within a block the products take it first.
    """
    i, j = np.indices(products.shape)
    start = np.arange(len(G)) // 16 * 16
    before = np.where(start > 0, G[np.maximum(start - 1, 0)], 0.0)
    row_decay = np.exp2((G - before).astype(F))[:, None]
    column_decay = np.exp2(np.minimum(before[:, None] - G, 0).astype(F))
    across = products * ((of_rows[:, None] * row_decay) * (column_decay * of_columns))
    within = products * np.exp2(np.minimum(G[:, None] - G, 0).astype(F)) * of_rows[:, None] * of_columns
    return np.where(i // 16 == j // 16, within, across)


def _doubled(A: np.ndarray, operand: DType, up_to: int) -> np.ndarray:
    """(I + A)⁻¹ by blocks of 2, 4, … tokens, whole matrices at once."""
    i, j = np.indices(A.shape)
    X = np.eye(len(A), dtype=F) - np.where(i // 2 == j // 2, A, 0)
    size = 2
    while size < up_to:
        below = (i // (2 * size) == j // (2 * size)) & (i // size != j // size)
        left = cast(cast(X, operand) @ cast(np.where(below, A, 0), operand), operand)
        X = X - left @ cast(X, operand)
        size *= 2
    return X
