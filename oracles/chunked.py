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

from typing import Any

import numpy as np

from ._checks import noise_source
from ._compiled import helper, kernel, run_tasks
from ._folded import before_any, folded_chunk, joined, with_no_values
from ._matrices import (
    copied,
    cumulative,
    decays,
    masked,
    plus,
    product,
    round_all,
    round_below,
    scaled,
    snapshot,
    sum_rows,
    transposed,
)
from ._noise import noise_of, silent, stream
from .sequential import delta_arguments
from .sites import Site


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
    folded: bool = False,
    segment: int = 0,
    scale: float = 1.0,
    first: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Outputs and final states of the delta rule, computed `chunk` tokens at a time.

    Arguments and results are those of `sequential.delta_rule`, except that states inside a row are not
    offered. Without sites both agree up to float64 rounding; with sites this one rounds where a
    chunk kernel rounds, with `folded` one that brackets its products as `_folded` does, and with `segment` one that
    joins segments of so many tokens, a multiple of `chunk`; 0 for whole rows. `scale` is what q has been multiplied by:
    `folded` takes it out of narrow operands. Raises ValueError likewise.
    """
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}, expected at least 1")
    if segment < 0 or segment % chunk or (segment and not folded):
        raise ValueError(f"segment is {segment}, expected a multiple of chunk={chunk}, 0 unless folded")
    sites, seed = noise_source(sites, seed, runs)
    q, k, v, g, beta, state, starts = delta_arguments(q, k, v, g, beta, state, query_start_loc, runs)
    (tokens, heads, V), K, rows = v.shape[1:], q.shape[-1], len(starts) - 1
    o, h = np.zeros((runs, tokens, heads, V)), np.zeros((runs, rows, heads, V, K))
    tasks, work = runs * rows * heads, runs * tokens * heads * (3 * K * V + 3 * chunk * (K + V))
    common, made = (q, k, v, g, beta, state, starts, int(chunk)), (sites, seed, first, o, h)
    if folded:
        run_tasks(_folded_row, tasks, work, *common, int(segment), float(scale), *made)
    else:
        run_tasks(_row, tasks, work, *common, *made)
    return o, h


@kernel
def _row(
    first: Any, last: Any, q: Any, k: Any, v: Any, g: Any, beta: Any, state: Any, starts: Any, chunk: Any,
    sites: Any, seed: Any, first_run: Any, o: Any, h: Any,
) -> None:  # fmt: skip
    """One task: one value head of one row of one run."""
    for task in range(first, last):
        run, row, head = _place(task, o, starts)
        noise = noise_of(first_run + run, sites, seed)
        current = transposed(state[min(run, len(state) - 1), row, head])
        for t in range(starts[row], starts[row + 1], chunk):
            end = min(t + chunk, starts[row + 1])
            tokens = _tokens(q, k, v, g, beta, run, head, t, end)
            o[run, t:end, head] = _chunk(*tokens, current, noise)
        _leave(current, h, run, row, head, starts, noise)


@kernel
def _folded_row(
    first: Any, last: Any, q: Any, k: Any, v: Any, g: Any, beta: Any, state: Any, starts: Any, chunk: Any,
    segment: Any, scale: Any, sites: Any, seed: Any, first_run: Any, o: Any, h: Any,
) -> None:  # fmt: skip
    """One task: one value head of one row of one run; the runs, which mostly begin alike, one after the other."""
    initial = np.empty((0, 0))
    for task in range(first, last):
        run, row, head = _place(task, o, starts)
        noise = noise_of(first_run + run, sites, seed)
        if task == first or run == 0 or len(state) > 1:
            initial = transposed(state[min(run, len(state) - 1), row, head])
        current = copied(initial)
        first_state, columns = copied(initial) if segment else initial, before_any(0, 0)
        for t in range(starts[row], starts[row + 1], chunk):
            end = min(t + chunk, starts[row + 1])
            q_t, k_t, v_t, g_t, beta_t = _tokens(q, k, v, g, beta, run, head, t, end)
            if segment and (t - starts[row]) % segment == 0:
                if t > starts[row]:
                    first_state = joined(columns, first_state, noise)
                    current = copied(first_state)
                columns = before_any(v.shape[3], k.shape[3])
            if segment and (t - starts[row]) // segment < (starts[row + 1] - 1 - starts[row]) // segment:
                folded_chunk(q_t, k_t, with_no_values(v_t, k.shape[3]), g_t, beta_t, columns, scale, noise)
            o[run, t:end, head] = folded_chunk(q_t, k_t, v_t, g_t, beta_t, current, scale, noise)
        _leave(current, h, run, row, head, starts, noise)


@helper
def _place(task: Any, o: Any, starts: Any) -> Any:
    """Run, row and value head of a task, runs fastest."""
    runs, heads = len(o), o.shape[2]
    return task % runs, task // (runs * heads), task // runs % heads


@helper
def _tokens(q: Any, k: Any, v: Any, g: Any, beta: Any, run: Any, head: Any, t: Any, end: Any) -> Any:
    """What one chunk reads of one value head; the first five have an axis of runs, 1 where these share the input."""
    key_head = head // (v.shape[2] // q.shape[2])
    return (
        copied(q[min(run, len(q) - 1), t:end, key_head]),
        copied(k[min(run, len(k) - 1), t:end, key_head]),
        copied(v[min(run, len(v) - 1), t:end, head]),
        g[min(run, len(g) - 1), t:end, head],
        beta[min(run, len(beta) - 1), t:end, head],
    )


@helper
def _leave(current: Any, h: Any, run: Any, row: Any, head: Any, starts: Any, noise: Any) -> None:
    """The row's last state in the pool's type; one that no token has touched is left as it is."""
    if starts[row] < starts[row + 1]:
        round_all(current, noise, Site.STORE)
    h[run, row, head] = current.T


@helper
def _chunk(q: Any, k: Any, v: Any, g: Any, beta: Any, h: Any, noise: Any) -> Any:
    """Output [n, V] of one chunk; `h` [K, V] is the state before it and, on return, after it."""
    G = cumulative(g, noise)
    from_start, to_end, between = decays(G, noise)
    kt, ones = transposed(k), np.ones(len(G))
    operand = snapshot(h, noise)

    kk = product(k, kt, False, noise, Site.KK_DOT)
    A = masked(kk, between, beta, 1, noise, Site.KK)
    beta_v = round_all(scaled(v, beta), noise, Site.BETA_V)
    beta_k = round_all(scaled(scaled(k, beta), from_start), noise, Site.BETA_K)
    if silent(noise, Site.SOLVE_DOT):
        T = _inverse(A, noise)
        u, w = product(T, beta_v, True, noise, Site.U_DOT), product(T, beta_k, True, noise, Site.W_DOT)
    else:
        u, w = _solved(A, beta_v, noise), _solved(A, beta_k, noise)
    round_all(u, noise, Site.U_CHUNK)
    round_all(w, noise, Site.W)
    v_new = plus(u, -1.0, product(w, operand, False, noise, Site.WH_DOT))
    tail = round_all(scaled(v_new, to_end), noise, Site.V_TAIL)
    round_all(v_new, noise, Site.V_NEW)

    qk = product(q, kt, False, noise, Site.QK_DOT)
    weights = masked(qk, between, ones, 0, noise, Site.QK)
    o = scaled(product(q, operand, False, noise, Site.QH_DOT), from_start)
    plus(o, 1.0, product(weights, v_new, True, noise, Site.PV_DOT))

    for x in range(len(h)):
        for y in range(h.shape[1]):
            h[x, y] *= from_start[-1]
    round_all(h, noise, Site.STATE_DECAY)
    plus(h, 1.0, product(kt, tail, False, noise, Site.KV_DOT))
    round_all(h, noise, Site.STATE_UPDATE)
    return round_all(o, noise, Site.OUT)


@helper
def _inverse(A: Any, noise: Any) -> Any:
    """(I + A)⁻¹ for strictly lower A by forward substitution: T_i = e_i - Σ_{l<i} A_il T_l."""
    T, squares, start = np.zeros_like(A), np.zeros(len(A)), stream(noise, Site.INVERSE_DOT)
    for i in range(len(A)):
        sum_rows(A, i, i, T, T[i, :i], squares, noise, Site.INVERSE_DOT, start)
        for j in range(i):
            T[i, j] = -T[i, j]
        T[i, i] = 1.0
    round_below(T, 1, noise, Site.INVERSE)
    return T


@helper
def _solved(A: Any, right: Any, noise: Any) -> Any:
    """x of (I + A) x = right for strictly lower A, row after row: x_i = right_i - Σ_{l<i} A_il x_l."""
    x, sums, squares = copied(right), np.empty(right.shape[1]), np.empty(right.shape[1])
    start = stream(noise, Site.SOLVE_DOT)
    for i in range(1, len(A)):
        sum_rows(A, i, i, x, sums, squares, noise, Site.SOLVE_DOT, start)
        for j in range(len(sums)):
            x[i, j] -= sums[j]
    return x
