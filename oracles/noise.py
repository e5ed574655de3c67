"""The noise budget: how far honest rounding may move a result away from the oracle, case by case.

A path declares its rounding sites. The float64 oracle runs again and again with every declared site perturbed
(Monte Carlo arithmetic); the spread of these runs, per (token, head) row of o and per (head, v) row of h, is the
budget. A kernel's error over it is its *noise ratio*: no unit, no scale, about 1 for any healthy kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import log, sqrt

import numpy as np

from gdn_verify.cases.contract import DType
from gdn_verify.oracles.compose import Algorithm, Array, Draw, Problem, evaluate
from gdn_verify.oracles.sites import Site, quiet_sites

RUNS = 32
"""Perturbed runs for every launch."""
RUNS_BEFORE_ACCUSATION = 512
"""Perturbed runs before a launch is said to disagree: 32 estimate one scalar's spread too loosely."""
FALSE_ACCUSATION = 1e-9
"""Chance a launch that a Gaussian error of the budget's size passes the threshold in any of its rows."""
_BYTES_OF_A_BLOCK = 1 << 27
"""Runs of about so many bytes share a seed. That numbers the draws: another block gives every case other budgets."""
_BYTES_OF_A_PIECE = 1 << 22
"""Runs of about so many bytes are made at once: they stay in a core's cache, and their memory is used again."""


@dataclass(frozen=True)
class Rounding:
    """What a path rounds: per site the type, and how often it rounds there in a row (a factor on u).

    Sites that are not named are exact. `outputs` gives the storage type of results (o, h, out, conv, …), which
    sets the floor of their budgets. `segment` is how many tokens a segment has where rows are cut, 0 where not.
    """

    sites: tuple[tuple[Site, DType, float], ...]
    outputs: tuple[tuple[str, DType], ...]
    algorithm: Algorithm = Algorithm.SEQUENTIAL
    chunk: int = 64
    segment: int = 0

    @cached_property
    def levels(self) -> Array:
        """(u, η) a site, float64 [len(Site), 2]."""
        return _levels(self.sites)

    def draw(self, seed: int, runs: int, first: int = 0) -> Draw:
        """Perturbed runs of this rounding, numbered from `first`; run 0 is clean."""
        return Draw(self.levels, seed, runs, self.algorithm, self.chunk, self.segment, first)


@lru_cache(maxsize=256)
def _levels(sites: tuple[tuple[Site, DType, float], ...]) -> Array:
    levels = quiet_sites()
    for site, dtype, factor in sites:
        levels[site] = dtype.unit_roundoff * factor, dtype.underflow
    return levels


@dataclass(frozen=True)
class Expected:
    """One result of the oracle and its budget.

    `value` [..., n] float64; `budget` [...] float64: one number a row of n elements, in the value's unit.
    """

    value: Array
    budget: Array

    def ratios(self, observed: Array) -> Array:
        """The noise ratio of each row, [...]; infinite where an observed row is not finite.

        Raises ValueError for another shape: nothing is broadcast.
        """
        if observed.shape != self.value.shape:
            raise ValueError(f"observed has shape {observed.shape}, expected {self.value.shape}")
        with np.errstate(invalid="ignore", over="ignore"):
            error = np.sqrt(np.square(observed - self.value).sum(axis=-1))
        return np.where(np.isfinite(error), error / self.budget, np.inf)


def expect(problem: Problem, rounding: Rounding, *, runs: int = RUNS, seed: int = 1) -> dict[str, Expected]:
    """The clean result and the budget of everything the span computes.

    `runs` perturbed runs are numbered in blocks, each with a seed of its own, and made in smaller pieces. Raises
    FloatingPointError where the oracle itself or a budget is not finite: such a case is outside the contract, and an
    infinite budget would excuse anything.
    """
    values = {n: _finite(n, value[0]) for n, value in rows(evaluate(problem, rounding.draw(seed, 1))).items()}
    squares = {name: np.zeros(value.shape[:-1]) for name, value in values.items()}
    block, piece = (max(1, size // bytes_of_a_run(problem)) for size in (_BYTES_OF_A_BLOCK, _BYTES_OF_A_PIECE))
    for start in range(0, runs, block):
        end = min(start + block, runs)
        sums = {name: _Squares(value) for name, value in values.items()}
        for at in range(start, end, piece):
            draw = rounding.draw(seed + start, min(piece, end - at), first=1 + at - start)
            for name, noisy in rows(evaluate(problem, draw)).items():
                sums[name].add(noisy)
        for name, total in sums.items():
            squares[name] += total.sum()
    return budgets(values, squares, runs, dict(rounding.outputs))


class _Squares:
    """Σ (run - value)² over the runs of a block, per row: the runs one after the other, in whatever pieces they come.

    A budget must not depend on the pieces. For a result of a single row numpy adds up runs and elements in one sum, so
    its deviations, which are few, are kept until the end.
    """

    def __init__(self, value: Array) -> None:
        self._value, self._total = value, np.zeros(value.shape[:-1])
        self._kept: list[Array] = []

    def add(self, noisy: Array) -> None:
        """Count runs [R, …, n], whose array becomes scratch."""
        noisy -= self._value
        if self._total.size == 1:
            self._kept.append(noisy)
            return
        for deviation in noisy:
            self._total += np.einsum("...n,...n->...", deviation, deviation)

    def sum(self) -> Array:
        if not self._kept:
            return self._total
        deviation = np.concatenate(self._kept)
        total: Array = np.einsum("r...n,r...n->...", deviation, deviation)
        return total


def bytes_of_a_run(problem: Problem) -> int:
    """About the memory of one run's results."""
    g, tokens = problem.geometry, int(problem.query_start_loc[-1])
    states = tokens if problem.every_token else len(problem.query_start_loc) - 1
    return 8 * max(1, 2 * tokens * (g.D + g.HV * g.V) + states * g.HV * g.V * g.K)


def _finite(name: str, value: Array) -> Array:
    if not np.isfinite(value).all():
        raise FloatingPointError(f"the oracle's {name} is not finite: the case leaves the contract's domain")
    return value


def rows(values: Mapping[str, Array]) -> dict[str, Array]:
    """Results with rows along the last axis: g and beta are rows of one element."""
    return {name: value[..., None] if name in ("g", "beta") else value for name, value in values.items()}


def budgets(
    values: Mapping[str, Array], squares: Mapping[str, Array], runs: int, outputs: Mapping[str, DType]
) -> dict[str, Expected]:
    """Clean results with their budgets: `squares` sums over the runs each row's squared deviation.

    Raises FloatingPointError where a budget is not finite.
    """
    made = {}
    for name, value in values.items():
        dtype = outputs.get(name, DType.F32)
        ulp = dtype.unit_roundoff * np.sqrt(np.square(value).sum(axis=-1))
        floor = dtype.underflow * sqrt(max(value.shape[-1], 1))
        budget = np.sqrt(squares[name] / runs + ulp**2 + floor**2)
        made[name] = Expected(value, _finite(f"budget of {name}", budget))
    return made


def threshold(count: int) -> float:
    """The largest noise ratio that a launch of `count` rows may show.

    If a row's error were Gaussian with the budget as its standard deviation, the largest of `count` would pass
    √(2 ln(count / p)) with probability below p = FALSE_ACCUSATION: 6.4 for one row, 7.4 for a thousand. Rounding
    errors are bounded, so healthy kernels stay far below; the wrong ones of the power check start at 10.
    """
    return sqrt(2.0 * log(max(count, 1) / FALSE_ACCUSATION))
