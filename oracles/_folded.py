"""The delta rule in chunks that are folded before the state is known: the WY form of `chunked`, bracketed otherwise.

With T, G and U as there, u = T (β v) and w = T (β e^G k) give U = T diag(β) (v - e^G k h_0ᵀ). Let

    X = T diag(β),   v' = v - e^G k h_0ᵀ,   so  U = X v'.

Inserted into o = e^G q h_0ᵀ + tril(q kᵀ e^{G_i-G_j}) U and h_n = e^{G_n} h_0 + Uᵀ (k e^{G_n-G}), the products in front
of v' need no state:

    B = tril(q kᵀ e^{G_i-G_j}) X,               o = e^G q h_0ᵀ + B v',
    W = (diag(e^{G_n-G}) X)ᵀ k,                 h_n = e^{G_n} h_0 + v'ᵀ W.

β multiplies the columns of both products, with T in the place of X, and so does the scale of q that of B: they may have
any size, where operands are narrow. So are the norms of q and k factors, of products q kᵀ and k kᵀ that round in their
sums alone (LENGTH, KK and QK); only W has unit keys for operands.

T is built from blocks of 2, 4, 8, … tokens. For A = [A₁₁ 0; A₂₁ A₂₂] and the inverses T₁₁ and T₂₂ of I + A₁₁ and
I + A₂₂, the block below is T₂₁ = -(T₂₂ A₂₁) T₁₁: multiplying out (I + A) T = I gives A₂₁ T₁₁ + (I + A₂₂) T₂₁ = 0. Of
two tokens it is -A₂₁ itself.

Decays between tokens have an exp each only within blocks of 16. Between two blocks e^{G_i-G_j} is the product of
e^{G_i-G_m}, which a row shares, and of e^{G_m-G_j}, with m the last token before i's block.

A row may be cut into segments that are computed side by side. h_n is affine in h_0, so is the state behind a segment,
M h + h_s: h_s is the state that v leaves of zero, and the columns of M are those that the segment leaves of the
identity's with v = 0. From them follows where the next segment starts; its outputs begin there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ._compiled import helper
from ._matrices import (
    accumulate,
    copied,
    cumulative,
    decay_of,
    masked,
    product,
    round_all,
    round_below,
    scaled,
    snapshot,
    transposed,
)
from ._noise import jolted, rounded, silent, stream
from .sites import Site

BLOCK = 16


@helper
def folded_chunk(q: Any, k: Any, v: Any, g: Any, beta: Any, h: Any, scale: Any, noise: Any) -> Any:
    """Output [n, V] of one chunk; `h` [K, V] is the state before it and, on return, after it; `scale` is in q."""
    G = cumulative(g, noise)
    from_start = np.empty_like(G)
    for i in range(len(G)):
        from_start[i] = rounded(decay_of(G[i], noise), noise, Site.GATE_EXP)
    B, W = _folded(q, k, G, beta, scale, noise)

    operand = snapshot(h, noise)
    held = scaled(product(k, operand, False, noise, Site.KH_DOT), from_start)
    fresh = _fresh(v, round_all(held, noise, Site.KH), noise)
    o = scaled(product(q, operand, False, noise, Site.QH_DOT), from_start)
    accumulate(B, fresh, round_all(o, noise, Site.QH), True, noise, Site.FRESH_O_DOT)

    decay = from_start[-1]
    for x in range(len(h)):
        for y in range(h.shape[1]):
            h[x, y] *= decay
    round_all(h, noise, Site.STATE_DECAY)
    accumulate(transposed(W), fresh, h, False, noise, Site.FRESH_H_DOT)
    return round_all(o, noise, Site.OUT)


@helper
def before_any(V: Any, K: Any) -> Any:
    """[0 | I] [K, V + K]: what a segment is applied to before its first state is known."""
    columns = np.zeros((K, V + K))
    for x in range(K):
        columns[x, V + x] = 1.0
    return columns


@helper
def with_no_values(v: Any, K: Any) -> Any:
    """[v | 0] [n, V + K]."""
    wide = np.zeros((v.shape[0], v.shape[1] + K))
    for i in range(v.shape[0]):
        for j in range(v.shape[1]):
            wide[i, j] = v[i, j]
    return wide


@helper
def joined(columns: Any, h: Any, noise: Any) -> Any:
    """M h + h_s [K, V] of a segment's `columns` [h_s | M] and the state h before it."""
    V = h.shape[1]
    return accumulate(copied(columns[:, V:]), h, copied(columns[:, :V]), False, noise, Site.JOIN_DOT)


@helper
def _folded(q: Any, k: Any, G: Any, beta: Any, scale: Any, noise: Any) -> Any:
    """B [n, n] and W [n, K]: all of a chunk that needs no state."""
    n, kt, ones = len(k), transposed(k), np.ones(len(k))
    between = _decays_by_blocks(G, noise)
    A = masked(product(k, kt, False, noise, Site.KK_DOT), between, beta, 1, noise, Site.KK)
    T = _inverse_by_doubling(A, noise)

    to_end = np.ones(n)
    for i in range(n - 1):
        to_end[i] = rounded(decay_of(G[-1] - G[i], noise), noise, Site.GATE_EXP)
    tail = scaled(T, to_end)
    round_below(tail, 0, noise, Site.FOLDED_TAIL)
    tail[-1, -1] = 1.0
    unit_keys = round_all(copied(k), noise, Site.OPERAND_K)
    W = scaled(product(transposed(tail), unit_keys, False, noise, Site.FOLDED_W_DOT), beta)

    plain = copied(q)
    if scale != 0.0:
        for i in range(n):
            for x in range(q.shape[1]):
                plain[i, x] /= scale
    weights = masked(product(plain, kt, False, noise, Site.QK_DOT), between, ones, 0, noise, Site.QK)
    round_below(T, 1, noise, Site.FOLDED_X)
    B = product(weights, T, True, noise, Site.FOLDED_B_DOT)
    for i in range(n):
        for j in range(i + 1):
            B[i, j] *= scale * beta[j]
    round_below(B, 0, noise, Site.HANDED_B)
    return B, round_all(W, noise, Site.HANDED_W)


@helper
def _decays_by_blocks(G: Any, noise: Any) -> Any:
    """e^{G_i-G_j} for j ≤ i, else 0; from two factors where i and j are in different blocks. e^0 does not round."""
    n, of_columns = len(G), np.ones(len(G))
    between = np.zeros((n, n))
    for first in range(0, n, BLOCK):
        for j in range(first - 1):
            of_columns[j] = rounded(decay_of(G[first - 1] - G[j], noise), noise, Site.GATE_EXP)
        for i in range(first, min(first + BLOCK, n)):
            if first > 0:
                of_row = rounded(decay_of(G[i] - G[first - 1], noise), noise, Site.GATE_EXP)
                for j in range(first):
                    between[i, j] = of_row * of_columns[j]
            for j in range(first, i):
                between[i, j] = rounded(decay_of(G[i] - G[j], noise), noise, Site.GATE_EXP)
            between[i, i] = 1.0
    return between


@helper
def _inverse_by_doubling(A: Any, noise: Any) -> Any:
    """(I + A)⁻¹ for strictly lower A, all blocks of a size before any of twice the size."""
    n, size = len(A), 2
    T = np.eye(n)
    for i in range(1, n, 2):
        T[i, i - 1] = -A[i, i - 1]
    while size < n:
        operand = copied(T)
        round_below(operand, 1, noise, Site.INVERSE_OPERAND)
        for start in range(0, n - size, 2 * size):
            middle, end = start + size, min(start + 2 * size, n)
            left = round_all(copied(A[middle:end, start:middle]), noise, Site.INVERSE_OPERAND)
            left = product(copied(operand[middle:end, middle:end]), left, True, noise, Site.INVERSE_DOT)
            round_all(left, noise, Site.INVERSE_OPERAND)
            right = copied(operand[start:middle, start:middle])
            T[middle:end, start:middle] = product(left, right, False, noise, Site.INVERSE_DOT)
            for i in range(middle, end):
                for j in range(start, middle):
                    T[i, j] = -T[i, j]
        size *= 2
    return T


@helper
def _fresh(v: Any, held: Any, noise: Any) -> Any:
    """v - held as an operand."""
    fresh = v - held
    if not silent(noise, Site.FRESH):
        u, eta, start = noise[0][Site.FRESH, 0], noise[0][Site.FRESH, 1], stream(noise, Site.FRESH)
        for i in range(len(v)):
            for j in range(v.shape[1]):
                if held[i, j] != 0.0:
                    fresh[i, j] = jolted(fresh[i, j], u, eta, start)
    return fresh
