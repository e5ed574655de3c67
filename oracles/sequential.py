"""The delta rule token by token: the specification (contract, equation 4), in float64.

The recurrence of one value head never mixes value columns, so LANES columns are advanced together: their
state is a tile [K, LANES] that stays in a near cache for the whole row. Sums run over K in order, one
lane beside the other; results are therefore the same on every machine up to its exp.
"""

from __future__ import annotations

from math import exp
from typing import Any

import numpy as np

from ._checks import multiple, noise_source, per_run, row_starts
from ._compiled import helper, kernel, run_tasks
from ._matrices import add_products, walk_products
from ._noise import SIGNIFICAND, jolted_slowly, noise_of, rounded, rounded_slowly, silent, steady_bits, stream, walked
from .sites import Site

LANES = 64  # fewer would read q and k from memory more often


def delta_rule(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    g: np.ndarray,
    beta: np.ndarray,
    state: np.ndarray,
    query_start_loc: np.ndarray,
    sites: np.ndarray | None = None,
    seed: int = 0,
    runs: int = 1,
    every_token: bool = False,
    first: int = 0,
    kept: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Outputs and states of the recurrence h ← e^g h; u = β (v - h k̂); h ← h + u k̂ᵀ; o = h q̂.

    Arguments, all floating point, with a leading axis of 1 (shared) or `runs`:
        q, k: normalised and scaled, [1|R, T, H, K].
        v: [1|R, T, HV, V]; value head j reads key head j // (HV / H).
        g, beta: log decay and β, [1|R, T, HV].
        state: [1|R, N, HV, V, K], zeros for a row without one.
        query_start_loc: rows within the T packed tokens, [N+1].
        sites, seed, runs, first: (u, eta) per `Site` [len(Site), 2]; runs are numbered from `first`, run 0 is clean.
        kept: with `every_token`, the tokens whose states are wanted; None for all.

    Returns float64 o [R, T, HV, V], zeros beyond query_start_loc[-1], and h [R, N, HV, V, K] after each
    row (unchanged where the row has no token), or with `every_token` after each kept token [R, len(kept), HV, V, K].

    Raises ValueError naming the argument whose shape or dtype does not fit.
    """
    sites, seed = noise_source(sites, seed, runs)
    q, k, v, g, beta, state, starts = delta_arguments(q, k, v, g, beta, state, query_start_loc, runs)
    (tokens, heads, V), K, rows = v.shape[1:], q.shape[-1], len(starts) - 1
    o = np.zeros((runs, tokens, heads, V))
    place = places(starts, tokens, every_token, kept)
    h = np.zeros((runs, place.max(initial=-1) + 1 if every_token else rows, heads, V, K))
    tasks = runs * rows * heads * (-(-V // LANES))
    work = runs * (tokens + rows) * heads * V * K
    run_tasks(_scan, tasks, work, q, k, v, g, beta, state, starts, sites, seed, first, place, bool(every_token), o, h)
    return o, h


def places(starts: np.ndarray, tokens: int, every_token: bool, kept: np.ndarray | None = None) -> np.ndarray:
    """Per token, int64 [tokens], where in h its state goes; -1 where it is not wanted. Arguments as `delta_rule`."""
    place = np.full(tokens, -1, np.int64)
    if every_token:
        wanted = np.arange(tokens) if kept is None else kept
        place[wanted] = np.arange(len(wanted))
    else:
        filled = starts[1:] > starts[:-1]
        place[starts[1:][filled] - 1] = np.flatnonzero(filled)
    return place


def delta_arguments(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    g: np.ndarray,
    beta: np.ndarray,
    state: np.ndarray,
    query_start_loc: np.ndarray,
    runs: int,
) -> tuple[np.ndarray, ...]:
    """The tensors of the delta stage as float64 and int64 arrays, or ValueError; shapes as `delta_rule`."""
    v = per_run("v", v, runs, -1, -1, -1)
    tokens, heads, V = v.shape[1:]
    q = per_run("q", q, runs, tokens, -1, -1)
    H, K = q.shape[2:]
    multiple("heads of v", heads, "heads of q", H)
    starts = row_starts(query_start_loc, tokens)
    return (
        q,
        per_run("k", k, runs, tokens, H, K),
        v,
        per_run("g", g, runs, tokens, heads),
        per_run("beta", beta, runs, tokens, heads),
        per_run("state", state, runs, len(starts) - 1, heads, V, K),
        starts,
    )


@kernel
def _scan(
    first: Any, last: Any, q: Any, k: Any, v: Any, g: Any, beta: Any, state: Any, starts: Any, sites: Any,
    seed: Any, first_run: Any, place: Any, every_token: Any, o: Any, h: Any,
) -> None:  # fmt: skip
    """One task: the lanes `lane0` … of one value head of one row of one run."""
    rows, heads, V, K = len(starts) - 1, v.shape[2], v.shape[3], q.shape[3]
    lanes_of_head = (V + LANES - 1) // LANES
    for task in range(first, last):
        lane0 = task % lanes_of_head * LANES
        head = task // lanes_of_head % heads
        row = task // (lanes_of_head * heads) % rows
        run = task // (lanes_of_head * heads * rows)
        key_head = head // (heads // q.shape[2])
        lanes = min(LANES, V - lane0)
        noise = noise_of(first_run + run, sites, seed)
        in_q, in_k, in_v = min(run, len(q) - 1), min(run, len(k) - 1), min(run, len(v) - 1)
        in_g, in_beta = min(run, len(g) - 1), min(run, len(beta) - 1)
        before = state[min(run, len(state) - 1), row, head]
        if not every_token and starts[row] == starts[row + 1]:
            h[run, row, head, lane0 : lane0 + lanes] = before[lane0 : lane0 + lanes]

        tile, narrow = _tile(before, lane0, lanes), np.empty((K, lanes))
        hk, u, out, squares = np.empty(lanes), np.empty(lanes), np.empty(lanes), np.empty(lanes)
        for t in range(starts[row], starts[row + 1]):
            k_t, q_t, v_t = k[in_k, t, key_head], q[in_q, t, key_head], v[in_v, t, head]
            exponent = rounded(g[in_g, t, head], noise, Site.DECAY_EXPONENT)
            _decay(tile, rounded_slowly(exp(exponent), noise, Site.DECAY))
            _round_tile(tile, noise, Site.STATE_DECAY, True)

            operand = _snapshot(tile, narrow, noise)
            _dot(operand, k_t, hk, squares, noise, Site.HK_DOT)
            for lane in range(lanes):
                u[lane] = beta[in_beta, t, head] * (v_t[lane0 + lane] - hk[lane])
                u[lane] = rounded(u[lane], noise, Site.U)
            _update(tile, u, k_t)
            _round_tile(tile, noise, Site.STATE_UPDATE, True)

            operand = _snapshot(tile, narrow, noise)
            _dot(operand, q_t, out, squares, noise, Site.Q_DOT)
            for lane in range(lanes):
                o[run, t, head, lane0 + lane] = rounded(out[lane], noise, Site.OUT)
            if place[t] >= 0:
                _store(tile, narrow, h[run, place[t], head], noise, lane0)


@helper
def _tile(state: Any, lane0: Any, lanes: Any) -> Any:
    """Lanes of state [V, K] as a tile [K, lanes]."""
    tile = np.empty((state.shape[1], lanes))
    for lane in range(lanes):
        for x in range(len(tile)):
            tile[x, lane] = state[lane0 + lane, x]
    return tile


@helper
def _store(tile: Any, narrow: Any, h: Any, noise: Any, lane0: Any) -> None:
    """The tile, rounded to the pool's type, into h [V, K]; the tile itself goes on unrounded."""
    _copy(tile, narrow)
    _round_tile(narrow, noise, Site.STORE, False)
    for lane in range(tile.shape[1]):
        for x in range(len(tile)):
            h[lane0 + lane, x] = narrow[x, lane]


@helper
def _copy(tile: Any, copy: Any) -> None:
    for x in range(len(tile)):
        for lane in range(tile.shape[1]):
            copy[x, lane] = tile[x, lane]


@helper
def _decay(tile: Any, decay: Any) -> None:
    flat = tile.reshape(-1)
    for i in range(len(flat)):
        flat[i] *= decay


@helper
def _update(tile: Any, u: Any, k_t: Any) -> None:
    for x in range(len(tile)):
        key, row = k_t[x], tile[x]
        for lane in range(tile.shape[1]):
            row[lane] += u[lane] * key


@helper
def _round_tile(tile: Any, noise: Any, site: Any, drifts: Any) -> None:
    """The tile after the rounding of `site`, in place; `drifts` where a value comes back a little changed."""
    if silent(noise, site):
        return
    u, eta, start = noise[0][site, 0], noise[0][site, 1], stream(noise, site)
    steady = steady_bits(u) if drifts else SIGNIFICAND
    for x in range(len(tile)):
        for lane in range(tile.shape[1]):
            tile[x, lane] = jolted_slowly(tile[x, lane], u, eta, start, steady)


@helper
def _snapshot(tile: Any, narrow: Any, noise: Any) -> Any:
    """The tile as an operand: itself, or a rounded copy in `narrow`."""
    if silent(noise, Site.SNAPSHOT):
        return tile
    _copy(tile, narrow)
    _round_tile(narrow, noise, Site.SNAPSHOT, False)
    return narrow


@helper
def _dot(tile: Any, vector: Any, out: Any, squares: Any, noise: Any, site: Any) -> None:
    """out[lane] = Σ_x tile[x, lane] vector[x], with the roundings of an accumulation."""
    out[:] = 0.0
    if silent(noise, site):
        add_products(vector, tile, out)
        return
    squares[:] = 0.0
    walk_products(vector, tile, out, squares)
    u, eta, start = noise[0][site, 0], noise[0][site, 1], stream(noise, site)
    for lane in range(tile.shape[1]):
        out[lane] = walked(out[lane], squares[lane], u, eta, start)
