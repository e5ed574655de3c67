"""The delta rule in chunks (the WY form), in float64: another algorithm for the same recurrence.

Derivation, for one value head and one chunk of n tokens that starts in state h_0 (V×K). Write a_i = e^{g_i},
G_i = g_1 + … + g_i, and u_i = β_i (v_i - a_i h_{i-1} k_i), so that the recurrence is h_i = a_i h_{i-1} + u_i k_iᵀ.
Unrolled,

    h_i = e^{G_i} h_0 + Σ_{j≤i} e^{G_i-G_j} u_j k_jᵀ.                                              (1)

Since a_i e^{G_{i-1}} = e^{G_i}, inserting (1) at i-1 into u_i gives

    u_i = β_i v_i - β_i e^{G_i} h_0 k_i - Σ_{j<i} β_i e^{G_i-G_j} (k_j·k_i) u_j,                    (2)

with A_ij = β_i (k_i·k_j) e^{G_i-G_j} for j < i, else 0, and rows u_i of a matrix U:

    (I + A) U = β v - (β e^G k) h_0ᵀ,  so  U = u - w h_0ᵀ,  u = T (β v),  w = T (β e^G k),  T = (I + A)⁻¹.

T exists: I + A is unit lower triangular. The output is (1) applied to q_i, and the next state (1) at i = n:

    o = e^G (q h_0ᵀ) + tril(q kᵀ e^{G_i-G_j}) U,     h_n = e^{G_n} h_0 + Uᵀ (k e^{G_n-G}).

Every exponent is a difference G_i - G_j with j ≤ i, hence not positive: nothing overflows. The state is kept
as K×V here, and e^{G_n-G} multiplies U (v_new) as kernels have it.
"""

from __future__ import annotations

from math import exp
from typing import Any

import numpy as np

from ._checks import noise_source
from ._compiled import helper, kernel, run_tasks
from ._noise import jolted, jolted_on_grid, noise_of, rounded, silent, stream, walked
from .sequential import delta_arguments
from .sites import Site

LEAST_GATE = -800.0  # e^-800 is zero in float64; a lower gate changes nothing but makes -inf - -inf of G


def delta_rule_chunked(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    g: np.ndarray,
    beta: np.ndarray,
    state: np.ndarray,
    query_start_loc: np.ndarray,
    chunk: int = 64,
    sites: np.ndarray | None = None,
    seed: int = 0,
    runs: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Outputs and final states of the delta rule, computed `chunk` tokens at a time.

    Arguments and results are those of `sequential.delta_rule`, except that states inside a row are not
    offered. Without sites both agree up to float64 rounding; with sites this one rounds where a
    chunk kernel rounds. Raises ValueError likewise.
    """
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}, expected at least 1")
    sites, seed = noise_source(sites, seed, runs)
    q, k, v, g, beta, state, starts = delta_arguments(q, k, v, g, beta, state, query_start_loc, runs)
    (tokens, heads, V), K, rows = v.shape[1:], q.shape[-1], len(starts) - 1
    o, h = np.zeros((runs, tokens, heads, V)), np.zeros((runs, rows, heads, V, K))
    tasks, work = runs * rows * heads, runs * tokens * heads * (3 * K * V + 3 * chunk * (K + V))
    run_tasks(_row, tasks, work, q, k, v, g, beta, state, starts, int(chunk), sites, seed, o, h)
    return o, h


@kernel
def _row(
    first: Any, last: Any, q: Any, k: Any, v: Any, g: Any, beta: Any, state: Any, starts: Any, chunk: Any,
    sites: Any, seed: Any, o: Any, h: Any,
) -> None:  # fmt: skip
    """One task: one value head of one row of one run."""
    rows, heads, key_heads = len(starts) - 1, v.shape[2], q.shape[2]
    for task in range(first, last):
        run, row, head = task // (rows * heads), task // heads % rows, task % heads
        key_head = head // (heads // key_heads)
        noise = noise_of(run, sites, seed)
        in_q, in_k, in_v = min(run, len(q) - 1), min(run, len(k) - 1), min(run, len(v) - 1)
        in_g, in_beta = min(run, len(g) - 1), min(run, len(beta) - 1)
        before = state[min(run, len(state) - 1), row, head]
        if starts[row] == starts[row + 1]:
            h[run, row, head] = before
            continue
        current = _transposed(before)
        for t in range(starts[row], starts[row + 1], chunk):
            end = min(t + chunk, starts[row + 1])
            o[run, t:end, head] = _chunk(
                _copied(q[in_q, t:end, key_head]), _copied(k[in_k, t:end, key_head]),
                _copied(v[in_v, t:end, head]), g[in_g, t:end, head], beta[in_beta, t:end, head],
                current, noise,
            )  # fmt: skip
        _round(current, noise, Site.STORE)
        h[run, row, head] = current.T


@helper
def _chunk(q: Any, k: Any, v: Any, g: Any, beta: Any, h: Any, noise: Any) -> Any:
    """Output [n, V] of one chunk; `h` [K, V] is the state before it and, on return, after it."""
    G = _cumulative(g, noise)
    ones, from_start, to_end = np.ones(len(G)), np.empty_like(G), np.empty_like(G)
    for i in range(len(G)):
        from_start[i], to_end[i] = _decay(G[i], noise), _decay(G[-1] - G[i], noise)
    _round(from_start, noise, Site.GATE_EXP)
    _round(to_end, noise, Site.GATE_EXP)
    between = _between(G, noise)
    kt = _transposed(k)
    snapshot = _snapshot(h, noise)

    kk = _product(k, kt, False, noise, Site.KK_DOT)
    A = _masked(kk, between, beta, 1, noise, Site.KK)
    beta_v = _round(_scaled(v, beta), noise, Site.BETA_V)
    beta_k = _round(_scaled(_scaled(k, beta), from_start), noise, Site.BETA_K)
    if silent(noise, Site.SOLVE_DOT):
        T = _inverse(A, noise)
        u, w = _product(T, beta_v, True, noise, Site.U_DOT), _product(T, beta_k, True, noise, Site.W_DOT)
    else:
        u, w = _solved(A, beta_v, noise), _solved(A, beta_k, noise)
    _round(u, noise, Site.U_CHUNK)
    _round(w, noise, Site.W)
    v_new = _plus(u, -1.0, _product(w, snapshot, False, noise, Site.WH_DOT))
    tail = _round(_scaled(v_new, to_end), noise, Site.V_TAIL)
    _round(v_new, noise, Site.V_NEW)

    qk = _product(q, kt, False, noise, Site.QK_DOT)
    weights = _masked(qk, between, ones, 0, noise, Site.QK)
    o = _scaled(_product(q, snapshot, False, noise, Site.QH_DOT), from_start)
    _plus(o, 1.0, _product(weights, v_new, True, noise, Site.PV_DOT))

    for x in range(len(h)):
        for y in range(h.shape[1]):
            h[x, y] *= from_start[-1]
    _round(h, noise, Site.STATE_DECAY)
    _plus(h, 1.0, _product(kt, tail, False, noise, Site.KV_DOT))
    _round(h, noise, Site.STATE_UPDATE)
    return _round(o, noise, Site.OUT)


@helper
def _cumulative(g: Any, noise: Any) -> Any:
    """G_i = g_1 + … + g_i: partial sums hand their roundings on, and each G_i is rounded again as an exponent."""
    G, total = np.empty_like(g), 0.0
    for i in range(len(g)):
        total = rounded(total + max(g[i], LEAST_GATE), noise, Site.CUMGATE)
        G[i] = total
    return _round(G, noise, Site.CUMGATE)


@helper
def _decay(exponent: Any, noise: Any) -> Any:
    """exp of a difference that rounds, each by itself: decays need not multiply up as those of one G do."""
    return exp(rounded(exponent, noise, Site.DECAY_EXPONENT))


@helper
def _between(G: Any, noise: Any) -> Any:
    """e^{G_i-G_j} for j ≤ i, else 0. The diagonal is 1 in every type and does not round."""
    between = np.zeros((len(G), len(G)))
    for i in range(len(G)):
        for j in range(i):
            between[i, j] = _decay(G[i] - G[j], noise)
    _round_below(between, 1, noise, Site.GATE_EXP)
    for i in range(len(G)):
        between[i, i] = 1.0
    return between


@helper
def _masked(products: Any, between: Any, factor: Any, below: Any, noise: Any, site: Any) -> Any:
    """factor_i · products_ij · e^{G_i-G_j} for j ≤ i - below, else 0."""
    masked = np.zeros_like(products)
    for i in range(len(products)):
        for j in range(i + 1 - below):
            masked[i, j] = factor[i] * products[i, j] * between[i, j]
    _round_below(masked, below, noise, site)
    return masked


@helper
def _inverse(A: Any, noise: Any) -> Any:
    """(I + A)⁻¹ for strictly lower A by forward substitution: T_i = e_i - Σ_{l<i} A_il T_l."""
    T, squares, start = np.zeros_like(A), np.zeros(len(A)), stream(noise, Site.INVERSE_DOT)
    for i in range(len(A)):
        _sum_rows(A, i, i, T, T[i, :i], squares, noise, Site.INVERSE_DOT, start)
        for j in range(i):
            T[i, j] = -T[i, j]
        T[i, i] = 1.0
    _round_below(T, 1, noise, Site.INVERSE)
    return T


@helper
def _solved(A: Any, right: Any, noise: Any) -> Any:
    """x of (I + A) x = right for strictly lower A, row after row: x_i = right_i - Σ_{l<i} A_il x_l."""
    x, sums, squares = _copied(right), np.empty(right.shape[1]), np.empty(right.shape[1])
    start = stream(noise, Site.SOLVE_DOT)
    for i in range(1, len(A)):
        _sum_rows(A, i, i, x, sums, squares, noise, Site.SOLVE_DOT, start)
        for j in range(len(sums)):
            x[i, j] -= sums[j]
    return x


@helper
def _product(a: Any, b: Any, lower: Any, noise: Any, site: Any) -> Any:
    """a @ b with the roundings of its accumulation; `lower` skips what a zero above a's diagonal gives.

    A skipped step is also no rounding, so the first rows of a triangular product carry less noise.
    """
    out, squares, start = np.empty((len(a), b.shape[1])), np.empty(b.shape[1]), stream(noise, site)
    for i in range(len(a)):
        _sum_rows(a, i, i + 1 if lower else a.shape[1], b, out[i], squares, noise, site, start)
    return out


@helper
def _sum_rows(a: Any, i: Any, steps: Any, b: Any, row: Any, squares: Any, noise: Any, site: Any, start: Any) -> None:
    """row ← Σ_{l<steps} a_il b_l with the roundings of the sum; `squares` is scratch."""
    row[:] = 0.0
    if silent(noise, site):
        for l in range(steps):
            factor = a[i, l]
            for j in range(len(row)):
                row[j] += factor * b[l, j]
        return
    squares[:] = 0.0
    for l in range(steps):
        factor = a[i, l]
        for j in range(len(row)):
            product = factor * b[l, j]
            row[j] += product
            squares[j] += product * product + row[j] * row[j]
    u, eta = noise[0][site, 0], noise[0][site, 1]
    for j in range(len(row)):
        row[j] = walked(row[j], squares[j], u, eta, start)


@helper
def _transposed(x: Any) -> Any:
    out = np.empty((x.shape[1], x.shape[0]))
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            out[j, i] = x[i, j]
    return out


@helper
def _copied(x: Any) -> Any:
    out = np.empty(x.shape)
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            out[i, j] = x[i, j]
    return out


@helper
def _scaled(x: Any, factor: Any) -> Any:
    """Row i of `x` times factor_i, as a new array."""
    out = np.empty_like(x)
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            out[i, j] = x[i, j] * factor[i]
    return out


@helper
def _plus(x: Any, sign: Any, y: Any) -> Any:
    """x + sign y, in place of x."""
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            x[i, j] += sign * y[i, j]
    return x


@helper
def _round(x: Any, noise: Any, site: Any) -> Any:
    """`x` after the rounding of `site`, in place."""
    if not silent(noise, site):
        flat, u, eta = x.reshape(-1), noise[0][site, 0], noise[0][site, 1]
        start = stream(noise, site)
        for i in range(len(flat)):
            flat[i] = jolted(flat[i], u, eta, start)
    return x


@helper
def _snapshot(h: Any, noise: Any) -> Any:
    """A copy of the state as an operand."""
    copy = _copied(h)
    if not silent(noise, Site.H_SNAPSHOT):
        u, eta = noise[0][Site.H_SNAPSHOT, 0], noise[0][Site.H_SNAPSHOT, 1]
        start, flat = stream(noise, Site.H_SNAPSHOT), copy.reshape(-1)
        for i in range(len(flat)):
            flat[i] = jolted_on_grid(flat[i], u, eta, start)
    return copy


@helper
def _round_below(x: Any, below: Any, noise: Any, site: Any) -> None:
    """Square `x` after the rounding of `site` where j ≤ i - below, in place; the rest is exact."""
    if silent(noise, site):
        return
    u, eta, start = noise[0][site, 0], noise[0][site, 1], stream(noise, site)
    for i in range(len(x)):
        for j in range(i + 1 - below):
            x[i, j] = jolted(x[i, j], u, eta, start)
