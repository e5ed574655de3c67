"""The stages around the delta rule: unpack, conv, gates, q/k norm and gated norm, in float64.

Arrays are C-contiguous float64 with a leading axis of runs: 1 where the runs share the input, else R. Run 0
is clean; run r > 0 perturbs every rounding site of `sites` (see `Site`), as Monte Carlo arithmetic does. R runs
are those from `first` on. The same `seed` gives the same bits for a run, whatever R, `first` and the number of
threads are. `sites` None is exact.
"""

from __future__ import annotations

from math import exp, sqrt
from typing import Any

import numpy as np

from ._activation import sigmoid, sigmoids, softplus
from ._checks import floats, noise_source, per_run
from ._compiled import kernel, run_tasks
from ._conv import causal_conv, conv_history, next_conv_state
from ._matrices import round_all
from ._noise import noise_of, rounded, summed
from ._packing import Packing, pack, unpack
from .sites import Site, quiet_sites

__all__ = [
    "Packing",
    "Site",
    "causal_conv",
    "conv_history",
    "gated_norm",
    "gates",
    "next_conv_state",
    "pack",
    "qk_norm",
    "quiet_sites",
    "unpack",
]

EXP_STEPS = 20  # scalar steps that an exp or a log counts for


def gates(
    a: np.ndarray,
    b: np.ndarray,
    A_log: np.ndarray,
    dt_bias: np.ndarray,
    sites: np.ndarray | None = None,
    seed: int = 0,
    runs: int = 1,
    beta_scale: float = 1.0,
    softplus_threshold: float = 20.0,
    first: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """g = -exp(A_log) · softplus(a + dt_bias) and β = beta_scale · sigmoid(b) (contract, equation 2).

    a, b [1|R, T, HV]; A_log, dt_bias [HV]. softplus(x) = x above the threshold. Returns the log decay g and
    β, float64 [R, T, HV]. Raises ValueError naming the argument whose shape or dtype does not fit.
    """
    sites, seed = noise_source(sites, seed, runs)
    a = per_run("a", a, runs, -1, -1)
    b = per_run("b", b, runs, *a.shape[1:])
    A_log, dt_bias = floats("A_log", A_log, a.shape[2]), floats("dt_bias", dt_bias, a.shape[2])
    g, beta = np.zeros((2, runs, *a.shape[1:]))
    options = float(beta_scale), float(softplus_threshold)
    tasks = runs * a.shape[1]
    run_tasks(_gates, tasks, 4 * EXP_STEPS * g.size, a, b, A_log, dt_bias, *options, sites, seed, first, g, beta)
    return g, beta


@kernel
def _gates(
    first: Any, last: Any, a: Any, b: Any, A_log: Any, dt_bias: Any, beta_scale: Any, threshold: Any,
    sites: Any, seed: Any, first_run: Any, g: Any, beta: Any,
) -> None:  # fmt: skip
    """One task: one token of one run."""
    tokens, heads = a.shape[1:]
    for task in range(first, last):
        run, t = task // tokens, task % tokens
        in_a, in_b = min(run, len(a) - 1), min(run, len(b) - 1)
        noise = noise_of(first_run + run, sites, seed)
        for head in range(heads):
            x = rounded(a[in_a, t, head] + dt_bias[head], noise, Site.GATE_SUM)
            decay = -exp(A_log[head]) * softplus(x, threshold, noise)
            g[run, t, head] = rounded(decay, noise, Site.GATE)
            share = beta_scale * sigmoid(b[in_b, t, head], noise, Site.BETA_SIGMOID)
            beta[run, t, head] = rounded(share, noise, Site.BETA)


def qk_norm(
    q: np.ndarray,
    k: np.ndarray,
    scale: float,
    eps: float = 1e-6,
    normalise: bool = True,
    sites: np.ndarray | None = None,
    seed: int = 0,
    runs: int = 1,
    first: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """q̂ = q / sqrt(Σq² + eps) · scale and k̂ = k / sqrt(Σk² + eps) (contract, equation 3).

    q, k [1|R, T, H, K]. Without `normalise` they are unit vectors already: q̂ = q · scale, k̂ = k. Returns
    q̂, k̂, float64 [R, T, H, K]. Raises ValueError naming the argument whose shape or dtype does not fit.
    """
    sites, seed = noise_source(sites, seed, runs)
    q = per_run("q", q, runs, -1, -1, -1)
    k = per_run("k", k, runs, *q.shape[1:])
    out = np.zeros((2, runs, *q.shape[1:]))
    tasks = runs * q.shape[1] * q.shape[2]
    for x, factor, unit in ((q, float(scale), out[0]), (k, 1.0, out[1])):
        options = factor, float(eps), bool(normalise)
        run_tasks(_unit, tasks, 8 * unit.size, x, *options, sites, seed, first, unit)
    return out[0], out[1]


@kernel
def _unit(
    first: Any, last: Any, x: Any, factor: Any, eps: Any, normalise: Any, sites: Any, seed: Any,
    first_run: Any, out: Any,
) -> None:  # fmt: skip
    """One task: one vector of one run."""
    tokens, heads, K = x.shape[1:]
    for task in range(first, last):
        run, index = task // (tokens * heads), task % (tokens * heads)
        vector = x[min(run, len(x) - 1), index // heads, index % heads]
        unit = out[run, index // heads, index % heads]
        noise = noise_of(first_run + run, sites, seed)
        if not normalise and factor == 1.0:  # nothing is computed, so nothing rounds
            unit[:] = vector
            continue
        length = 1.0
        if normalise:
            total, squares = 0.0, 0.0
            for i in range(K):
                product = vector[i] * vector[i]
                total += product
                squares += product * product + total * total
            length = rounded(sqrt(summed(total, squares, noise, Site.QK_SUM) + eps), noise, Site.LENGTH)
        for i in range(K):
            unit[i] = vector[i] / length * factor
        round_all(unit, noise, Site.QK_NORM)


def gated_norm(
    o: np.ndarray,
    z: np.ndarray,
    weight: np.ndarray,
    eps: float,
    act: str,
    sites: np.ndarray | None = None,
    seed: int = 0,
    runs: int = 1,
    first: int = 0,
) -> np.ndarray:
    """out = o · rsqrt(mean(o²) + eps) · weight · act(z) (contract, equation 5).

    o, z [1|R, T, HV, V]; weight [V], shared by the heads; act "silu" or "sigmoid". Returns
    float64 [R, T, HV, V]. Raises ValueError naming the argument whose shape, dtype or value does not fit.
    """
    if act not in ("silu", "sigmoid"):
        raise ValueError(f"act is {act!r}, expected 'silu' or 'sigmoid'")
    sites, seed = noise_source(sites, seed, runs)
    o = per_run("o", o, runs, -1, -1, -1)
    z = per_run("z", z, runs, *o.shape[1:])
    weight = floats("weight", weight, o.shape[3])
    out = np.zeros((runs, *o.shape[1:]))
    tasks = runs * o.shape[1] * o.shape[2]
    work = EXP_STEPS * out.size
    run_tasks(_gated_norm, tasks, work, o, z, weight, float(eps), act == "silu", sites, seed, first, out)
    return out


@kernel
def _gated_norm(
    first: Any, last: Any, o: Any, z: Any, weight: Any, eps: Any, silu: Any, sites: Any, seed: Any,
    first_run: Any, out: Any,
) -> None:  # fmt: skip
    """One task: one token's head of one run."""
    tokens, heads, V = o.shape[1:]
    gate = np.empty(V)
    for task in range(first, last):
        run, group = task // (tokens * heads), task % (tokens * heads)
        t, head = group // heads, group % heads
        in_o, in_z = min(run, len(o) - 1), min(run, len(z) - 1)
        noise = noise_of(first_run + run, sites, seed)
        total, squares = 0.0, 0.0
        for i in range(V):
            product = o[in_o, t, head, i] * o[in_o, t, head, i]
            total += product
            squares += product * product + total * total
        mean = summed(total, squares, noise, Site.NORM_SUM) / V
        scale = rounded(1.0 / sqrt(mean + eps), noise, Site.NORM_SCALE)
        result = out[run, t, head]
        for i in range(V):
            result[i] = o[in_o, t, head, i] * scale * weight[i]
        round_all(result, noise, Site.NORM_VALUE)
        sigmoids(z[in_z, t, head], gate, noise, Site.NORM_GATE)
        for i in range(V):
            result[i] *= gate[i] * z[in_z, t, head, i] if silu else gate[i]
        round_all(result, noise, Site.NORM_OUT)
