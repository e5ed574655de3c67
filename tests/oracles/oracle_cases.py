"""Random small cases of the delta stage, a literal recurrence with planted defects, and a local error."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np


class DeltaCase(NamedTuple):
    """Arguments of `delta_rule`, in order, with one shared run."""

    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    g: np.ndarray
    beta: np.ndarray
    state: np.ndarray
    query_start_loc: np.ndarray


GATES: dict[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {
    "none": lambda rng, shape: np.zeros(shape),
    "weak": lambda rng, shape: -0.01 * rng.random(shape),
    "plain": lambda rng, shape: -rng.exponential(1.0, shape),
    "strong": lambda rng, shape: -30.0 * rng.random(shape),
    "spikes": lambda rng, shape: np.where(rng.random(shape) < 0.1, -200.0, -0.1 * rng.random(shape)),
    "mixed": lambda rng, shape: -np.exp(rng.uniform(-12.0, 6.0, shape)),
}


def lengths(rng: np.random.Generator, longest: int) -> list[int]:
    """One to four rows of 0 … `longest` tokens, short and chunk-sized ones often."""
    some = [0, 1, 2, 63, 64, 65, 127, 128, 129, int(rng.integers(longest + 1))]
    return [min(int(rng.choice(some)), longest) for _ in range(rng.integers(1, 5))]


def unit_keys(rng: np.random.Generator, shape: tuple[int, ...], correlation: float) -> np.ndarray:
    """Unit vectors around a common direction: 0 independent, towards 1 nearly the same."""
    x = (1.0 - correlation) * rng.standard_normal(shape) + correlation * rng.standard_normal(shape[-1])
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def delta_case(rng: np.random.Generator, longest: int = 200, gate: str | None = None) -> DeltaCase:
    """Ragged rows, grouped values, K ≠ V, gates of every kind, correlated keys, β up to 2, large states.

    A state is at most 1e4 times the values: what updates cancel of it is lost to any float64 algorithm.
    """
    rows = lengths(rng, longest)
    T, H, r = sum(rows), int(rng.integers(1, 3)), int(rng.choice([1, 2, 3]))
    K, V = (int(x) for x in rng.integers(1, 25, 2))
    gate = gate or str(rng.choice(list(GATES)))
    correlation, size = float(rng.choice([0.0, 0.5, 0.95])), 10.0 ** rng.integers(-3, 3)
    return DeltaCase(
        q=rng.standard_normal((1, T, H, K)) * K**-0.5,
        k=unit_keys(rng, (1, T, H, K), correlation),
        v=rng.standard_normal((1, T, H * r, V)) * size,
        g=GATES[gate](rng, (1, T, H * r)),
        beta=rng.random((1, T, H * r)) * rng.choice([1.0, 2.0]),
        state=rng.standard_normal((1, len(rows), H * r, V, K)) * rng.choice([0.0, size, 1e4 * size]),
        query_start_loc=np.cumsum([0, *rows]),
    )


def literal(case: DeltaCase, defect: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The recurrence in numpy, one line an operation; `defect` names the mistake to make.

    Returns o [1, T, HV, V] and h after each token [1, T, HV, V, K].
    """
    T, HV, V = case.v.shape[1:]
    H, K = case.q.shape[2:]
    heads = np.arange(HV) % H if defect == "head map" else np.arange(HV) // (HV // H)
    o, states = np.zeros((1, T, HV, V)), np.zeros((1, T, HV, V, K))
    for row, (start, end) in enumerate(pairwise(case.query_start_loc)):
        h = case.state[0, row] * (defect != "state ignored")
        for t in range(start, end):
            decay, beta = np.exp(case.g[0, t]), case.beta[0, t, :, None]
            q, k, v = case.q[0, t, heads], case.k[0, t, heads], case.v[0, t]
            before = h
            if defect != "no decay":
                h = h * decay[:, None, None]
            read = before if defect == "read before decay" else h
            u = beta * (v - np.einsum("jvk,jk->jv", read, k) * (defect != "no delta term"))
            read = h
            h = h + u[:, :, None] * k[:, None, :]
            o[0, t] = np.einsum("jvk,jk->jv", read if defect == "output before update" else h, q)
            states[0, t] = h
    return o, states


DEFECTS = ("head map", "state ignored", "no decay", "read before decay", "no delta term", "output before update")


def worst_error(case: DeltaCase, got: np.ndarray, want: np.ndarray, states: np.ndarray) -> float:
    """Largest error of a (token, head) row of o, over ‖q_t‖ ‖h_t‖, which bounds that row of o.

    A local denominator: an error of one small row cannot hide behind a large one elsewhere.
    """
    heads = np.arange(want.shape[2]) // (want.shape[2] // case.q.shape[2])
    scale = np.linalg.norm(case.q[:, :, heads], axis=-1) * np.linalg.norm(states, axis=(-2, -1))
    error = np.linalg.norm(got - want, axis=-1)
    return float(np.max(error / np.maximum(scale, 1e-200), initial=0.0))


def worst_state_error(got: np.ndarray, want: np.ndarray) -> float:
    """Largest error of a state, over its norm."""
    error = np.linalg.norm(got - want, axis=(-2, -1))
    scale = np.linalg.norm(want, axis=(-2, -1))
    return float(np.max(error / np.maximum(scale, 1e-200), initial=0.0))
