"""A run from beginning to end: where it runs, who takes part, what it leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import torch

import gdn_verify
from gdn_verify.bench import machine
from gdn_verify.bench.clock import GraphClock, Stopwatch
from gdn_verify.bench.contender import Contender, Missing, Setting
from gdn_verify.bench.field import gather, gather_prefill
from gdn_verify.bench.measure import Bench, Outcome, measure
from gdn_verify.bench.opinion import noise_budget
from gdn_verify.bench.queued import GraphOrQueue
from gdn_verify.bench.record import Run
from gdn_verify.bench.task import DECODE, Task
from gdn_verify.hosts import HOSTS


class NobodyError(ValueError):
    """No contender is left to measure; the message says who there is."""


def here(rounds: int, dry_run: bool, task: Task = DECODE) -> Bench:
    """This machine's card, or for a dry run its processor: one layer, one replay a round, no cold caches."""
    if dry_run:
        free = lambda: machine.free_bytes(True)  # noqa: E731
        return Bench(Stopwatch(), "cpu", 0, free, layers=1, rounds=rounds, burst=1, task=task)
    cache, clock = machine.describe(False).cache_bytes, GraphClock() if task is DECODE else GraphOrQueue()
    return Bench(clock, "cuda", cache, lambda: machine.free_bytes(False), task.layers, rounds, task=task)


def with_second_opinion(bench: Bench) -> Bench:
    """The same, which also asks the gate about contenders that are registered paths."""
    card = "rocm" if torch.version.hip else "cuda"
    return replace(bench, second_opinion=noise_budget(HOSTS["interpreter" if bench.device == "cpu" else card]))


def choose(settings: Sequence[Setting], only: Sequence[str], every_configuration: bool) -> list[Contender | Missing]:
    """Everybody, or those with one of the words of `only` in their names. Raises NobodyError where none has."""
    return _left(list(gather(settings, every_configuration)), only)


def choose_prefill(only: Sequence[str]) -> list[Contender | Missing]:
    """The same for a chunked prefill."""
    return _left(list(gather_prefill()), only)


def _left(everybody: list[Contender | Missing], only: Sequence[str]) -> list[Contender | Missing]:
    chosen = [one for one in everybody if not only or any(word in one.name for word in only)]
    if not any(isinstance(one, Contender) for one in chosen):
        known = ", ".join(one.name if isinstance(one, Contender) else str(one) for one in everybody)
        raise NobodyError(f"only={','.join(only)!r} leaves no contender; there are {known}")
    return chosen


def run(
    field: Sequence[Contender | Missing],
    settings: Sequence[Setting],
    bench: Bench,
    progress: Callable[[str], None],
    keep: Callable[[Run], None] = lambda run: None,
) -> Run:
    """Measure, and say on what, when and by which clock. `keep` gets the run so far after every setting."""
    contenders = [one for one in field if isinstance(one, Contender)]
    blank = Run(
        machine=machine.describe(bench.device == "cpu"),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        clock=bench.clock.name,
        means_something=bench.clock.means_something,
        gdn_verify=gdn_verify.__version__,
        records=(),
        missing=tuple(str(one) for one in field if isinstance(one, Missing)),
    )

    def so_far(outcome: Outcome) -> Run:
        return replace(blank, records=tuple(outcome.records), stopped=tuple(outcome.stopped))

    return so_far(measure(contenders, settings, bench, progress, lambda outcome: keep(so_far(outcome))))
