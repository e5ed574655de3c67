"""Drift: how far a path's output and state are from float64 after 1, 16, 256, 4096 decode steps.

A launch is judged from the bytes that it found, so that what rounding adds up to over many of them is nobody's fault.
It is a fact about a path and the type of its states, and this measures it: one request, a token a launch, the gates
weak enough to remember a few hundred tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.contract import DType, DTypes, Geometry, Group, Span, Stage
from gdn_verify.cases.lineage import Lineage, Root, Segment
from gdn_verify.cases.narrow import first_slot, stored, taken_dtypes, taken_groups
from gdn_verify.cases.presentation import Presentation
from gdn_verify.cases.values import Betas, Fill, Gates, States, Taps, Values, Vectors
from gdn_verify.checks.question import observed
from gdn_verify.feed import feed, initial_pools, pools_after
from gdn_verify.hosts import Host
from gdn_verify.oracles.compose import Array, Problem, clean, evaluate
from gdn_verify.paths import Path
from gdn_verify.truth import Ledger, true_results

STEPS = (1, 16, 256, 4096)
VALUES = Values(
    1, Vectors.NORMAL, Vectors.NORMAL, Fill.NORMAL, Gates.WEAK, Betas.NORMAL, States.NORMAL, Taps.NORMAL, Fill.NORMAL
)


@dataclass(frozen=True)
class Drift:
    """Relative errors of one path after `steps` steps: of the last token's output, and of the worst head's state."""

    path: str
    host: str
    state: DType
    steps: int
    output_error: float
    state_error: float


@dataclass(frozen=True)
class DriftOf:
    """What to measure: a path on a host, the type of its states, and when to look."""

    path: str
    host: str
    state: DType
    steps: tuple[int, ...] = STEPS

    def measured(self, path: Path, host: Host) -> list[Drift]:
        """The answer, in the worker."""
        return measure(path, host, self.state, self.steps)


def questions(paths: Iterable[Path], hosts: Iterable[str], steps: tuple[int, ...] = STEPS) -> list[DriftOf]:
    """Every path with a decode step or a draft, on each of these hosts, with each type of state that it takes."""
    hosts = tuple(hosts)
    return [
        DriftOf(path.name, host, state, steps)
        for path in paths
        if Stage.DELTA in path.capabilities.span and {Group.DECODE, Group.SPEC} & {*taken_groups(path.capabilities)}
        for host in path.hosts
        if host in hosts
        for state in DType
        if state in taken_dtypes(path.capabilities, "state")
    ]


def measure(path: Path, host: Host, state: DType, steps: tuple[int, ...] = STEPS) -> list[Drift]:
    """Take `max(steps)` decode steps from a state that the pool holds, and compare with float64 at each of `steps`."""
    case, shown = course(path, state, max(steps))
    pools = initial_pools(case, path, shown)
    ledger, seen = Ledger(case, path.capabilities.span, pools, shown.first_slot), {}
    every = case.batches[0].rows[0].spec
    for number in range(len(case.batches)):
        fed = feed(case, number, path, shown, pools, host.device)
        outputs = path.run(fed.launch)
        host.synchronize()
        pools = pools_after(fed, outputs.final_state)
        ledger.enter(fed)
        if number + 1 in steps:
            seen[number + 1] = observed(fed, outputs, pools.ssm, every)
    return [
        Drift(path.name, host.name, state, count, *_errors(seen[count], want))
        for count, want in _true(ledger, sorted(seen)).items()
    ]


def _errors(seen: Mapping[str, Array], want: Mapping[str, Array]) -> tuple[float, float]:
    """‖seen - want‖ / ‖want‖ of the output, and of the worst head of the state."""
    name = "out" if "out" in want else "o"
    return _error(seen[name], want[name], None), _error(seen["h"], want["h"], (0, -1, -2))


def course(path: Path, state: DType, steps: int) -> tuple[Case, Presentation]:
    """One request, one token a launch, of the smallest shape near 32 × 32 that the path takes."""
    c = path.capabilities
    sizes = (32, 64, 128, 16, 8, 256)
    K = next(d for d in sizes if c.key_dim.refuses("K", d) is None)
    V = next(d for d in (K, *sizes) if c.value_dim.refuses("V", d) is None)
    drafts = Group.DECODE not in taken_groups(c)
    geometry = Geometry(2, 2 * min(c.ratios, key=lambda r: abs(r - 2)), K, V, num_spec=int(drafts))
    row = Row(1, (0, 1), accepted=1) if drafts else Row(1, (0,))
    case = Case(geometry, _dtypes(path, state), 2, (Batch((row,)),) * steps, VALUES)
    layout = Presentation(
        packing=min(c.packings), state_order=max(c.state_orders), conv_layout=max(c.conv_layouts),
        first_slot=first_slot(path.conventions),
    )  # fmt: skip
    return case, layout


def _dtypes(path: Path, state: DType) -> DTypes:
    """As served: bfloat16 where the path takes it, the gates' parameters in float32, states as asked."""
    c = path.capabilities
    wish = {"activation": DType.BF16, "conv_state": DType.BF16, "weights": DType.BF16}
    chosen = {}
    for name in stored(c.span):
        taken = taken_dtypes(c, name)
        first = wish.get(name, DType.F32)
        chosen[name] = first if first in taken else min(taken)
    chosen["state"] = state
    if alike := [name for name in chosen if name in c.alike]:
        chosen |= dict.fromkeys(alike, state if "state" in alike else chosen[alike[0]])
    return DTypes(**chosen)


def _true(ledger: Ledger, steps: Sequence[int]) -> dict[int, dict[str, Array]]:
    """The truth after each of `steps` steps: o or out of the last token [1, HV, V], h [1, HV, V, K]."""
    lines = [Lineage(Root(0, 0), tuple(Segment(n, 0, 1) for n in range(count))) for count in steps]
    made = true_results(ledger, lines)
    last = np.cumsum(steps) - 1
    o = made["o"][0, last]
    found = {n: {"o": o[i : i + 1], "h": made["h"][0, i : i + 1]} for i, n in enumerate(steps)}
    if Stage.NORM in ledger.span:
        for n in steps:
            found[n]["out"] = _normed(ledger, n, found[n]["o"])
    return found


def _normed(ledger: Ledger, step: int, o: Array) -> Array:
    rounded = ledger.rounded[step - 1]
    tensors = {"o": o, "z": rounded["z"].double().numpy(), "norm_weight": rounded["norm_weight"].double().numpy()}
    starts = np.array([0, 1], np.int64)
    problem = Problem(ledger.case.geometry, ledger.case.options, Span(Stage.NORM, Stage.NORM), starts, tensors)
    return evaluate(problem, clean())["out"][0]


def _error(got: Array, want: Array, axes: tuple[int, ...] | None) -> float:
    distance, size = (np.sqrt(np.square(x).sum(axis=axes)) for x in (got - want, want))
    return float(np.max(distance / size))
