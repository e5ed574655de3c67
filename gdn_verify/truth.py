"""The truth about requests: in float64 over all their tokens, from the very start, whatever the launches between.

A launch is judged from the bytes that it found, so what it hands on is an input of the next. Here the pools at the end
are held against a recurrence that never stored anything. The distance is the *drift*, a number and no fault: a narrow
pool rounds at every launch. But it has a bound that needs no calibration. One token's step, h ← e^g h (1 - β k̂ k̂ᵀ) + …
with β ≤ 2, never lengthens a difference of states, so a request cannot be farther from its truth than its launches,
each from the bytes it found, were off together. Farther is a state that was not handed over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gdn_verify.cases import problem
from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import Span, Stage
from gdn_verify.cases.lineage import Lineage, Lineages, evolution
from gdn_verify.checks.question import Written, double
from gdn_verify.feed import PARAMETERS, TORCH, Feed, Pools
from gdn_verify.oracles.compose import Array, Problem, Results, clean, evaluate
from gdn_verify.verdict import Check, Finding

SLACK = 1e-6
"""Of a state's size: what float64 itself, summed in other orders, may add to the bound."""


@dataclass
class Ledger:
    """The launches of a case as they come, for the reckoning at its end.

    `rounded` holds the inputs of each launch, `off` for every slot the bound of its state's distance, [HV].
    """

    case: Case
    span: Span
    initial: Pools
    first_slot: int
    rounded: list[Mapping[str, Tensor]] = field(default_factory=list)
    off: dict[int, Array] = field(default_factory=dict)

    def enter(self, feed: Feed) -> None:
        """A launch has run, with or without live rows, its moves made before it."""
        self.rounded.append(feed.rounded)
        for move in feed.batch.moves:
            self.off[move.to] = self._off(move.source)

    def record(self, feed: Feed, stored: Sequence[Written], expected: Array, seen: Array) -> None:
        """It should have stored the states `expected` [N, HV, V, K], and has stored `seen`."""
        errors = _lengths(seen - expected)
        before = {n: self._read(row.read_slot, row.fresh) for n, row in feed.batch.live_rows()}
        for state, error in zip(stored, errors, strict=True):
            self.off[state.slot] = before[state.row] + error

    def _read(self, slot: int | None, fresh: bool) -> Array:
        return np.zeros(self.case.geometry.HV) if fresh or slot is None else self._off(slot)

    def _off(self, slot: int) -> Array:
        return self.off.get(slot, np.zeros(self.case.geometry.HV))

    def reckon(self, after: Pools) -> Reckoning:
        """The end: how far each state is from its request's truth."""
        *_, known = evolution(self.case)
        slots = sorted(slot for slot in known if slot in self.off)
        if not slots or after.ssm is None:
            return Reckoning()
        true = self.states([known[slot] for slot in slots])
        got = double(after.ssm[[slot + self.first_slot for slot in slots]])
        off = np.stack([self.off[slot] for slot in slots])
        return _compare(slots, known, got, true, off)

    def states(self, wanted: Sequence[Lineage]) -> Array:
        """The true state of each lineage, [N, HV, V, K]."""
        return true_results(self, wanted)["h"][0]


@dataclass(frozen=True)
class Reckoning:
    """What the end of a case came to: the largest relative drift of a head's state, and states not handed over."""

    drift: float = 0.0
    findings: tuple[Finding, ...] = ()


def _compare(slots: Sequence[int], known: Lineages, got: Array, true: Array, off: Array) -> Reckoning:
    distance, size = _lengths(got - true), _lengths(true)
    with np.errstate(divide="ignore", invalid="ignore"):
        drift = np.where(size > 0.0, distance / size, 0.0)
    limit = off + SLACK * size
    astray = np.argwhere(~(distance <= limit))
    findings = []
    if len(astray):
        at, head = astray[0]
        slot, tokens = slots[at], known[slots[at]].tokens
        message = (
            f"slot {slot}, value head {head}: the state after {tokens} tokens is {distance[at, head]:.3g} from the "
            f"request's own, of size {size[at, head]:.3g}; its launches were off by {off[at, head]:.3g} together"
        )
        findings.append(Finding(Check.VALUES, "state not handed over", message))
    return Reckoning(float(np.nan_to_num(drift, nan=np.inf).max(initial=0.0)), tuple(findings))


def _lengths(states: Array) -> Array:
    return np.sqrt(np.square(states).sum(axis=(-1, -2)))


def true_results(ledger: Ledger, wanted: Sequence[Lineage]) -> Results:
    """The oracle's results up to the delta stage, each lineage a row, its tokens one after the other."""
    span, first = ledger.span, ledger.span.first
    tensors = _gathered(ledger, wanted)
    lengths = [lineage.tokens for lineage in wanted]
    whole = Problem(
        geometry=ledger.case.geometry,
        options=ledger.case.options,
        span=Span(first if first is Stage.DELTA else Stage.GATES, Stage.DELTA, span.qk_normalised),
        query_start_loc=_starts(lengths),
        tensors=tensors,
        state=np.stack([_root_state(ledger, lineage) for lineage in wanted]),
    )
    if Stage.CONV in span:
        whole = whole.with_tensors(**_convolved(ledger, wanted, whole))
    return evaluate(whole, clean())


def _starts(lengths: Sequence[int]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _gathered(ledger: Ledger, wanted: Sequence[Lineage]) -> dict[str, Array]:
    """Every input of all tokens of the lineages, and the parameters."""
    first = ledger.rounded[0]
    found = {name: double(value) for name, value in first.items() if name in PARAMETERS}
    for name in (name for name in first if name not in PARAMETERS):
        pieces = [ledger.rounded[s.batch][name][s.start : s.start + s.tokens] for line in wanted for s in line.segments]
        found[name] = double(torch.cat([first[name][:0], *pieces]))
    return found


def _root_state(ledger: Ledger, lineage: Lineage) -> Array:
    pool = ledger.initial.ssm
    assert pool is not None
    if lineage.root is None:
        return np.zeros(pool.shape[1:])
    return double(pool[lineage.root.slot + ledger.first_slot])


def _convolved(ledger: Ledger, wanted: Sequence[Lineage], whole: Problem) -> dict[str, Array]:
    """q, k and v of all tokens. A conv state is a copy in the pool's type: each launch begins with rounded inputs."""
    x, stored = whole.tensors["x"], _stored(ledger, whole.tensors["x"])
    segments = [s.tokens for lineage in wanted for s in lineage.segments]
    histories = list(_histories(ledger, wanted, stored))
    part = replace(
        whole,
        span=Span(Stage.CONV, Stage.CONV),
        query_start_loc=_starts(segments),
        history=np.stack(histories) if histories else np.zeros((0, x.shape[1], ledger.case.geometry.W - 1)),
    )
    conv = evaluate(part, clean())["conv"][0]
    q, k, v = problem.split(conv, ledger.case.geometry)
    return {"q": q, "k": k, "v": v}


def _stored(ledger: Ledger, x: Array) -> Array:
    """Inputs as a conv pool keeps them."""
    dtype = TORCH[ledger.case.dtypes.conv_state]
    return double(torch.from_numpy(x).to(torch.float32).to(dtype))


def _histories(ledger: Ledger, wanted: Sequence[Lineage], stored: Array) -> Iterator[Array]:
    """[D, W-1] before each segment: inputs of the segments before it, and what was there at the start."""
    past, at = ledger.case.geometry.W - 1, 0
    for lineage in wanted:
        tape = _root_history(ledger, lineage)
        for segment in lineage.segments:
            yield np.ascontiguousarray(tape[-past:].T)
            tape = np.concatenate([tape, stored[at : at + segment.tokens]])
            at += segment.tokens


def _root_history(ledger: Ledger, lineage: Lineage) -> Array:
    """[W-1, D] in the pool before the first launch; zeros where there was nothing."""
    pool, past = ledger.initial.conv, ledger.case.geometry.W - 1
    assert pool is not None
    root = lineage.root
    if root is None:
        return np.zeros((past, pool.shape[1]))
    return double(pool[root.conv_slot + ledger.first_slot, :, root.column : root.column + past]).T
