"""Device time of what no graph captures: launches queued while the device sleeps, so that the host's time is hidden."""

from __future__ import annotations

from dataclasses import replace

import torch

from gdn_verify.bench.clock import Captured, GraphClock, Launches, run_aside

GRAPH, QUEUE = "graph", "queue"
_CYCLES = 2_000_000
"""About a millisecond of sleep to begin with."""
_DOUBLINGS = 11
"""A few seconds; a host that needs more waits for the device."""


class QueueClock:
    """Events around launches that were all queued behind a sleeping kernel."""

    name = QUEUE
    means_something = True

    def capture(self, launches: Launches) -> Captured:
        """Nothing is captured: a replay launches anew. Raises RuntimeError where a launch waits for the device."""
        run_aside(launches)
        captured = Captured(lambda: [launch() for launch in launches], len(launches), None, (launches,), QUEUE)
        self.burst(captured, 1)
        return captured

    def burst(self, captured: Captured, count: int) -> list[float]:
        """Each replay behind a sleep of its own."""
        return [_hidden(captured) * 1e3 / captured.layers for _ in range(count)]


def _hidden(captured: Captured) -> float:
    """Milliseconds of one replay whose every launch was queued before the device came to the first."""
    for doubling in range(_DOUBLINGS):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(_CYCLES << doubling)
        start.record()
        kept = captured.replay()
        stop.record()
        late = start.query()
        torch.cuda.synchronize()
        del kept
        if not late:
            return start.elapsed_time(stop)
    raise RuntimeError("launches are not queued while the device sleeps: the host waits for the device")


class GraphOrQueue:
    """A graph where a contender can be captured, the queue where it cannot."""

    name = GRAPH
    means_something = True

    def __init__(self) -> None:
        self.graph, self.queue = GraphClock(), QueueClock()

    def capture(self, launches: Launches) -> Captured:
        """The stack, which says how it will be timed, and why not by a graph."""
        try:
            return replace(self.graph.capture(launches), how=GRAPH)
        except Exception as error:
            first = (str(error).strip().splitlines() or [""])[0]
            why = f"{QUEUE}: no graph: {type(error).__name__}: {first}"
        torch.cuda.synchronize()
        return replace(self.queue.capture(launches), how=why)

    def burst(self, captured: Captured, count: int) -> list[float]:
        """By the clock that captured it."""
        clock = self.graph if captured.how == GRAPH else self.queue
        return clock.burst(captured, count)
