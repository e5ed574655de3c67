"""One setting after the other: every contender judged, and those that agree timed side by side."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

import gdn_verify
from gdn_verify.bench import sizes
from gdn_verify.bench.clock import Captured, Clock, Launches, host_times
from gdn_verify.bench.contender import AnyInputs, Contender, Setting
from gdn_verify.bench.inputs import refill
from gdn_verify.bench.record import NULL, Record, Verdict
from gdn_verify.bench.task import DECODE, Layout, Task
from gdn_verify.bench.yardsticks import Yardstick
from gdn_verify.cases.contract import ConvLayout, StateOrder

SecondOpinion = Callable[[Contender, Setting], str]
"""What else is wrong with a contender at a setting, "" if nothing."""


@dataclass(frozen=True)
class Bench:
    """Where and how a run measures: each contender gets `burst` replays in a row, in each of `rounds` over all."""

    clock: Clock
    device: str
    cache_bytes: int
    free_bytes: Callable[[], int]
    layers: int = sizes.LAYERS
    rounds: int = 7
    burst: int = 3
    second_opinion: SecondOpinion = lambda contender, setting: ""
    task: Task = DECODE

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.device != "cpu":
            torch.cuda.synchronize()


@dataclass
class Outcome:
    """Records so far, and the settings that could not be measured."""

    records: list[Record] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)


def measure(
    contenders: Sequence[Contender],
    settings: Iterable[Setting],
    bench: Bench,
    progress: Callable[[str], None],
    keep: Callable[[Outcome], None] = lambda outcome: None,
) -> Outcome:
    """Judge and time everything; what stops one setting is noted, and the next one goes on.

    `progress` hears what is about to begin. `keep` sees all that was left so far after every setting: a run may take
    an hour, and what kills it must not take the settings before with it.
    """
    outcome = Outcome()
    for setting in settings:
        try:
            outcome.records += _measure_one(contenders, setting, bench, progress)
        except Exception as error:
            outcome.stopped.append(f"{setting}: {_words(error)}")
        keep(outcome)
        gc.collect()
        if bench.device != "cpu":
            torch.cuda.empty_cache()
    return outcome


def _words(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}"


def _measure_one(
    contenders: Sequence[Contender], setting: Setting, bench: Bench, progress: Callable[[str], None]
) -> list[Record]:
    judged = []
    for contender in contenders:
        progress(f"{setting}: judging {contender.name}")
        judged.append(_judged(contender, setting, bench))
    progress(f"{setting}: timing those that agree")
    right = [
        (contender, record)
        for contender, record in zip(contenders, judged, strict=True)
        if record.verdict is Verdict.AGREES
    ]
    stacks = _Stacks(setting, bench, [contender for contender, _ in right])
    entries = [_Entry(_blank(what, setting, bench.task), what, stacks.any(), bench) for what in bench.task.yardsticks()]
    failed = [record for record in judged if record.verdict is not Verdict.AGREES]
    for contender, record in right:
        try:
            entries.append(_Entry(record, contender, stacks.of(contender), bench))
        except Exception as error:
            failed.append(replace(record, verdict=Verdict.RAISED, words=f"captured: {_words(error)}"))
    _take_turns(entries, bench)
    return [*(entry.finished() for entry in entries), *failed]


def _blank(what: Contender | Yardstick, setting: Setting, task: Task) -> Record:
    """The record of what is to be measured, without a result."""
    of = _problem(setting)
    if isinstance(what, Yardstick):
        moved = 0 if what.name == NULL else task.touched(setting)
        return Record(what.name, gdn_verify.__version__, "", **of, verdict=Verdict.YARDSTICK, floor_bytes=moved)
    moved = sizes.floor_bytes(setting, what.span)
    return Record(what.name, what.version, str(what.span), **of, verdict=Verdict.AGREES, floor_bytes=moved)


def _problem(setting: Setting) -> dict[str, Any]:
    """A setting as a record has it."""
    g = setting.geometry
    made = {"H": g.H, "HV": g.HV, "K": g.K, "V": g.V, "S": g.S, "rows": setting.rows, "state": str(setting.state)}
    if setting.lengths:
        made |= {"S": 0, "tokens": setting.tokens, "lengths": setting.label, "fresh": setting.fresh}
    return made


def _judged(contender: Contender, setting: Setting, bench: Bench) -> Record:
    blank = _blank(contender, setting, bench.task)
    if reason := contender.refuses(setting):
        return replace(blank, verdict=Verdict.REFUSED, words=reason)
    try:
        found = bench.task.judge(contender, setting, bench.device)
        words = bench.second_opinion(contender, setting) if found.agrees else found.words
    except Exception as error:
        return replace(blank, verdict=Verdict.RAISED, words=_words(error))
    verdict = Verdict.AGREES if found.agrees and not words else Verdict.DISAGREES
    seen = replace(blank, ratio=found.ratio, limit=found.limit, judged_heads=found.heads)
    return replace(seen, verdict=verdict, words=words or found.words)


class _Stacks:
    """Layers to launch, one stack for each layout that a contender asks for."""

    def __init__(self, setting: Setting, bench: Bench, contenders: Sequence[Contender]) -> None:
        layouts = list(dict.fromkeys(map(_layout, contenders))) or [(StateOrder.VK, ConvLayout.D_CONTIGUOUS)]
        dense = sum(not contender.in_place for contender in contenders)  # each with its states before and after
        (one,) = bench.task.stack(setting, bench.device, 1, layouts[0])
        stored = sizes.stored_bytes(one) * (len(layouts) + 2 * dense)
        del one
        layers = sizes.layers(setting, bench.cache_bytes, bench.free_bytes(), stored, bench.layers)
        self.stacks = {layout: bench.task.stack(setting, bench.device, layers, layout) for layout in layouts}

    def of(self, contender: Contender) -> Sequence[AnyInputs]:
        return self.stacks[_layout(contender)]

    def any(self) -> Sequence[AnyInputs]:
        return next(iter(self.stacks.values()))


def _layout(contender: Contender) -> Layout:
    return contender.state_order, contender.conv_layout


class _Entry:
    """What is timed at a setting: a captured stack, and the samples so far."""

    def __init__(self, record: Record, what: Contender | Yardstick, stack: Sequence[AnyInputs], bench: Bench) -> None:
        self.record, self.stack, self.bench = record, stack, bench
        launches: Launches = [what.prepare(inputs) for inputs in stack]
        self.captured: Captured = bench.clock.capture(launches)
        self.host_us = host_times(launches, bench.rounds, bench.synchronize)
        self.device_us: list[float] = []

    def take_a_turn(self) -> None:
        for inputs in self.stack:
            refill(inputs)
        self.device_us += self.bench.clock.burst(self.captured, self.bench.burst)

    def finished(self) -> Record:
        seen = replace(
            self.record, layers=self.captured.layers, launches=self.captured.launches, clock=self.captured.how
        )
        return replace(seen, device_us=tuple(self.device_us), host_us=tuple(self.host_us))


def _take_turns(entries: Sequence[_Entry], bench: Bench) -> None:
    """All in every round, each round begun by another: a clock that drifts does so for all alike."""
    for turn in range(bench.rounds):
        start = turn % len(entries)
        for entry in (*entries[start:], *entries[:start]):
            entry.take_a_turn()
