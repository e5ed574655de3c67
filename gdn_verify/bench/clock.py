"""Device time of a stack of layers: a captured graph between events; or a stopwatch, to try the flow without a card."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import torch

from gdn_verify.bench.contender import Results
from gdn_verify.bench.graph_nodes import count_launches

Launches = Sequence[Callable[[], object]]


@dataclass(frozen=True)
class Captured:
    """A stack of layers, one launch after the other: `replay()` runs all `layers` of them.

    `launches` is how many kernels, copies and fills a layer makes, None where the graph would not tell. `kept` is what
    a replay reads and writes beside the inputs: the launches, with the tensors that they hold, and their results. A
    graph knows addresses only; whatever is let go is another tensor's memory by the next replay. `how` says how it is
    timed where a clock has more than one way.
    """

    replay: Callable[[], object]
    layers: int
    launches: float | None
    kept: Sequence[object] = ()
    how: str = ""


class Clock(Protocol):
    """How a stack is captured and timed. `means_something` is False for a stand-in."""

    name: str
    means_something: bool

    def capture(self, launches: Launches) -> Captured:
        """The stack, ready to be replayed; every launch has run once."""

    def burst(self, captured: Captured, count: int) -> list[float]:
        """Microseconds a layer of `count` replays, after one that is not counted."""


class GraphClock:
    """CUDA and HIP graphs between device events."""

    name = "graph"
    means_something = True

    def capture(self, launches: Launches) -> Captured:
        """A graph of the launches; all results are kept, so that no layer's outputs share memory with another's."""
        run_aside(launches)
        graph = torch.cuda.CUDAGraph(keep_graph=True)
        with torch.cuda.graph(graph):
            results = [launch() for launch in launches]
        graph.instantiate()
        _prove(graph, results)
        found = count_launches(graph.raw_cuda_graph())
        return Captured(
            graph.replay, len(launches), None if found is None else found / len(launches), (launches, results)
        )

    def burst(self, captured: Captured, count: int) -> list[float]:
        """The uncounted replay also keeps the device busy while the host queues the others behind it."""
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
        captured.replay()
        for mark in marks[:-1]:
            mark.record()
            captured.replay()
        marks[-1].record()
        torch.cuda.synchronize()
        return [start.elapsed_time(stop) * 1e3 / captured.layers for start, stop in pairwise(marks)]


def run_aside(launches: Launches) -> None:
    """Once outside the graph, on another stream: kernels compile, and libraries make their workspaces."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for launch in launches:
            launch()
    torch.cuda.current_stream().wait_stream(aside)
    torch.cuda.synchronize()


def _prove(graph: torch.cuda.CUDAGraph, results: Sequence[object]) -> None:
    """Raises RuntimeError unless a replay writes every output: work outside the capture would cost nothing."""
    outputs = [result.out for result in results if isinstance(result, Results)]
    for out in outputs:
        out.fill_(torch.nan)
    graph.replay()
    if not all(bool(out.isfinite().all()) for out in outputs):
        raise RuntimeError("a replay of the graph leaves outputs unwritten: not all of the work was captured")


class Stopwatch:
    """The host's clock around launches in Triton's interpreter: shows that the flow works, and nothing else."""

    name = "stopwatch"
    means_something = False

    def capture(self, launches: Launches) -> Captured:
        """Counts the interpreted kernels of a layer; torch operations are not launches here."""
        from gdn_verify.emulator import interpreter

        with interpreter.launches() as ran:
            for launch in launches:
                launch()
        return Captured(lambda: [launch() for launch in launches], len(launches), len(ran) / len(launches))

    def burst(self, captured: Captured, count: int) -> list[float]:
        """Wall time; warm caches and all."""
        return [_elapsed(captured.replay) / captured.layers for _ in range(count)]


_HOST_LAYERS = 32
"""Fewer launches than a queue holds, so that the host never waits for the device."""


def host_times(launches: Launches, repeats: int, synchronize: Callable[[], Any]) -> list[float]:
    """Microseconds that the host spends on one launch, without waiting for the device."""
    some, samples = launches[:_HOST_LAYERS], []
    for _ in range(repeats):
        synchronize()
        samples.append(_elapsed(lambda: [launch() for launch in some]) / len(some))
    synchronize()
    return samples


def _elapsed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1e6
