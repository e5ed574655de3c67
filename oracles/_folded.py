"""The delta rule in chunks that are folded before the state is known: the WY form of `chunked`, bracketed otherwise.

With T, G and U as there, u = T (β v) and w = T (β e^G k) give U = T diag(β) (v - e^G k h_0ᵀ). Let

    X = T diag(β),   v' = v - e^G k h_0ᵀ,   so  U = X v'.

Inserted into o = e^G q h_0ᵀ + tril(q kᵀ e^{G_i-G_j}) U and h_n = e^{G_n} h_0 + Uᵀ (k e^{G_n-G}), the products in front
of v' need no state:

    B = tril(q kᵀ e^{G_i-G_j}) X,               o = e^G q h_0ᵀ + B v',
    W = (diag(e^{G_n-G}) X)ᵀ k,                 h_n = e^{G_n} h_0 + v'ᵀ W.

T is built from blocks of 2, 4, 8, … tokens. For A = [A₁₁ 0; A₂₁ A₂₂] and the inverses X₁₁ and X₂₂ of I + A₁₁ and
I + A₂₂, the block below is X₂₁ = -(X₂₂ A₂₁) X₁₁: multiplying out (I + A) X = I gives A₂₁ X₁₁ + (I + A₂₂) X₂₁ = 0. Of
two tokens it is -A₂₁ itself.

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
    decays,
    masked,
    product,
    round_all,
    round_below,
    scaled,
    snapshot,
    transposed,
)
from ._noise import jolted, silent, stream
from .sites import Site


@helper
def folded_chunk(q: Any, k: Any, v: Any, g: Any, beta: Any, h: Any, noise: Any) -> Any:
    """Output [n, V] of one chunk; `h` [K, V] is the state before it and, on return, after it."""
    G = cumulative(g, noise)
    from_start, to_end, between = decays(G, noise)
    B, W = _folded(q, k, between, to_end, beta, noise)

    operand = snapshot(h, noise)
    held = scaled(product(k, operand, False, noise, Site.KH_DOT), from_start)
    fresh = _fresh(v, round_all(held, noise, Site.KH), noise)
    o = scaled(product(q, operand, False, noise, Site.QH_DOT), from_start)
    accumulate(B, fresh, round_all(o, noise, Site.QH), True, noise, Site.FRESH_O_DOT)

    for x in range(len(h)):
        for y in range(h.shape[1]):
            h[x, y] *= from_start[-1]
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
def _folded(q: Any, k: Any, between: Any, to_end: Any, beta: Any, noise: Any) -> Any:
    """B [n, n] and W [n, K]: all of a chunk that needs no state."""
    narrow_q, narrow_k = round_all(copied(q), noise, Site.OPERAND_Q), round_all(copied(k), noise, Site.OPERAND_K)
    kt, ones = transposed(narrow_k), np.ones(len(k))
    A = masked(product(narrow_k, kt, False, noise, Site.KK_DOT), between, beta, 1, noise, Site.KK)
    X = _inverse_by_doubling(A, noise)
    for i in range(len(X)):
        for j in range(i + 1):
            X[i, j] *= beta[j]
    tail = scaled(X, to_end)
    round_below(tail, 0, noise, Site.FOLDED_TAIL)
    W = product(transposed(tail), narrow_k, False, noise, Site.FOLDED_W_DOT)

    weights = masked(product(narrow_q, kt, False, noise, Site.QK_DOT), between, ones, 0, noise, Site.QK)
    round_below(X, 0, noise, Site.FOLDED_X)
    B = product(weights, X, True, noise, Site.FOLDED_B_DOT)
    round_below(B, 0, noise, Site.HANDED_B)
    return B, round_all(W, noise, Site.HANDED_W)


@helper
def _inverse_by_doubling(A: Any, noise: Any) -> Any:
    """(I + A)⁻¹ for strictly lower A, all blocks of a size before any of twice the size."""
    n, size = len(A), 2
    X = np.eye(n)
    for i in range(1, n, 2):
        X[i, i - 1] = -A[i, i - 1]
    while size < n:
        operand = copied(X)
        round_below(operand, 1, noise, Site.INVERSE_OPERAND)
        for start in range(0, n - size, 2 * size):
            middle, end = start + size, min(start + 2 * size, n)
            left = round_all(copied(A[middle:end, start:middle]), noise, Site.INVERSE_OPERAND)
            left = product(copied(operand[middle:end, middle:end]), left, True, noise, Site.INVERSE_DOT)
            round_all(left, noise, Site.INVERSE_OPERAND)
            right = copied(operand[start:middle, start:middle])
            X[middle:end, start:middle] = product(left, right, False, noise, Site.INVERSE_DOT)
            for i in range(middle, end):
                for j in range(start, middle):
                    X[i, j] = -X[i, j]
        size *= 2
    return X


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
