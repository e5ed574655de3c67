"""Random problems of the project's own strategies, and how many budgets an emulated kernel is away from the oracle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import real_rounding

from gdn_verify.cases.contract import DType, DTypes, Kind
from gdn_verify.cases.shapes import draw_cases
from gdn_verify.cases.sizes import PREFILL_SMALL, SMALL
from gdn_verify.cases.strategies import cases
from gdn_verify.checks.question import Written, ask, written
from gdn_verify.checks.values import judge
from gdn_verify.feed import feed, initial_pools
from gdn_verify.oracles.compose import Array, Problem
from gdn_verify.oracles.noise import Rounding
from gdn_verify.oracles.rounding import chunked_float32, chunked_tensor_core, folded_chunks, sequential_float32
from gdn_verify.paths import find
from gdn_verify.paths.base import Path

LONG = (Kind.PREFILL, Kind.MIXED)
FOLDED_CHUNK = 32


@dataclass(frozen=True)
class Kernel:
    """A declaration, an emulation that rounds where it says, and the path whose capabilities draw its cases."""

    path: str
    results: tuple[str, ...]
    declared: Callable[[DTypes], Rounding]
    emulated: Callable[[Problem, DTypes], dict[str, Array]]


KERNELS = {
    "sequential_float32": Kernel(
        "fla-recurrent",
        ("o", "h"),
        lambda dtypes: sequential_float32(dtypes, store=DType.F32),
        lambda problem, dtypes: real_rounding.sequential(problem, dtypes, DType.F32),
    ),
    "sequential_float32, whole layer": Kernel(
        "fallback",
        ("conv", "out", "h"),
        sequential_float32,
        lambda problem, dtypes: real_rounding.sequential(problem, dtypes, dtypes.state),
    ),
    "chunked_float32": Kernel(
        "transformers-chunk",
        ("o", "h"),
        lambda dtypes: chunked_float32(dtypes, store=DType.F32),
        lambda problem, dtypes: real_rounding.chunked(problem, dtypes, DType.F32),
    ),
    "chunked_tensor_core": Kernel(
        "fla-chunk",
        ("o", "h"),
        lambda dtypes: chunked_tensor_core(dtypes, store=DType.F32),
        lambda problem, dtypes: real_rounding.chunked(problem, dtypes, dtypes.activation),
    ),
    "folded_chunks": Kernel(
        "chunk-delta",
        ("o", "h"),
        lambda dtypes: folded_chunks(dtypes, chunk=FOLDED_CHUNK, exact=dtypes.activation is DType.F32),
        lambda problem, dtypes: real_rounding.folded(problem, dtypes, FOLDED_CHUNK),
    ),
}


@dataclass(frozen=True)
class Drawn:
    """One launch of a drawn case, as the oracle is asked about it."""

    problem: Problem
    dtypes: DTypes
    stored: list[Written]
    label: str


def draw(path: Path, kind: Kind, count: int, seed: int) -> Iterator[Drawn]:
    """The first launches of `count` cases that `path` takes; those without live rows are left out."""
    size = PREFILL_SMALL if kind in LONG else SMALL
    for case, shown in draw_cases(cases(path.capabilities, path.conventions, kind, size=size), count, seed):
        fed = feed(case, 0, path, shown, initial_pools(case, path, shown), "cpu")
        if len(fed.live_tokens):
            problem = ask(fed, path.capabilities.span)
            yield Drawn(problem, case.dtypes, written(fed, problem.every_token), f"{case}")


def ratio(drawn: Drawn, kernel: Kernel, made: dict[str, Array] | None = None) -> float:
    """The largest noise ratio of what the emulated kernel returns, or of `made` in its place."""
    made = made or kernel.emulated(drawn.problem, drawn.dtypes)
    seen = {name: made[name] for name in kernel.results}
    seen["h"] = seen["h"][[state.index for state in drawn.stored]]
    return judge(drawn.problem, kernel.declared(drawn.dtypes), drawn.stored, seen).worst_ratio


def ratios(name: str, kind: Kind, count: int, seed: int) -> dict[str, float]:
    """Noise ratio by case, of an emulated kernel over drawn cases."""
    kernel = KERNELS[name]
    return {drawn.label: ratio(drawn, kernel) for drawn in draw(find(kernel.path), kind, count, seed)}


def quantiles(found: dict[str, float]) -> str:
    """Median, 90 %, 99 % and the largest, for a table."""
    at = np.quantile(list(found.values()), [0.5, 0.9, 0.99, 1.0])
    return f"{len(found)} cases: " + " · ".join(f"{q:.2f}" for q in at)
