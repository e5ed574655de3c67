"""Timing without a graph: only what was queued before the device woke counts, and a table says how it was timed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from gdn_verify.bench import queued
from gdn_verify.bench.clock import Captured, Launches
from gdn_verify.bench.queued import GRAPH, QUEUE, GraphOrQueue, QueueClock

needs_card = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA or ROCm card")
WORK, CYCLE = 5.0, 1e-6
"""Milliseconds of a launch's work, and of a cycle slept."""


class Device:
    """Sleeps as long as it is told, then works off what was queued; the host takes `host` milliseconds a launch."""

    def __init__(self, host: float, waits: bool = False) -> None:
        self.host, self.waits, self.now, self.done = host, waits, 0.0, 0.0
        self.sleeps: list[int] = []

    def sleep(self, cycles: int) -> None:
        self.sleeps.append(cycles)
        self.done = max(self.done, self.now) + cycles * CYCLE

    def launch(self) -> None:
        self.now = max(self.now + self.host, self.done if self.waits else 0.0)
        self.done = max(self.done, self.now) + WORK

    def synchronize(self) -> None:
        self.now = self.done

    def event(self, enable_timing: bool) -> Any:
        device = self

        class Event:
            def record(self) -> None:
                self.at = max(device.done, device.now)

            def query(self) -> bool:
                return device.now >= self.at

            def elapsed_time(self, later: Event) -> float:
                return later.at - self.at

        return Event()


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[[Device], Device]:
    """Makes a device torch's."""

    def put(device: Device) -> Device:
        monkeypatch.setattr(torch.cuda, "Event", device.event)
        monkeypatch.setattr(torch.cuda, "_sleep", device.sleep)
        monkeypatch.setattr(torch.cuda, "synchronize", device.synchronize)
        monkeypatch.setattr(queued, "run_aside", lambda launches: [launch() for launch in launches])
        return device

    return put


def test_the_hosts_time_is_hidden(install: Callable[[Device], Device]) -> None:
    """A host slower than the device is queued behind ever longer sleeps, and the device's work alone is counted."""
    device = install(Device(host=7.0))
    captured = QueueClock().capture([device.launch] * 3)
    assert QueueClock().burst(captured, 2) == pytest.approx([WORK * 1e3] * 2)
    assert (captured.layers, captured.launches, captured.how) == (3, None, QUEUE)
    assert device.sleeps[-1] * CYCLE > 3 * 7.0 > device.sleeps[0] * CYCLE


def test_a_launch_that_waits_for_the_device_has_no_time(install: Callable[[Device], Device]) -> None:
    """No sleep is long enough to hide it."""
    device = install(Device(host=0.1, waits=True))
    with pytest.raises(RuntimeError, match="the host waits for the device"):
        QueueClock().capture([device.launch])


def test_a_graph_comes_first_and_a_refused_one_is_told(
    install: Callable[[Device], Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`how` of a capture is the graph, or the queue with the graph's error."""
    device, clock = install(Device(host=0.1)), GraphOrQueue()
    monkeypatch.setattr(clock.graph, "capture", lambda launches: Captured(lambda: None, len(launches), 2.0))
    assert clock.capture([device.launch]).how == GRAPH

    def refuse(launches: Launches) -> Captured:
        raise ValueError("not in a capture\nat all")

    monkeypatch.setattr(clock.graph, "capture", refuse)
    captured = clock.capture([device.launch])
    assert captured.how == "queue: no graph: ValueError: not in a capture"
    assert clock.burst(captured, 1) == pytest.approx([WORK * 1e3])


@needs_card
def test_the_queue_agrees_with_a_graph() -> None:
    """On the same launches, within a third: a queue has gaps between kernels that a graph has not."""
    x = torch.randn(4096, 4096, device="cuda")
    launches = [lambda: x @ x] * 4
    clock = GraphOrQueue()
    by_graph = clock.graph.burst(clock.graph.capture(launches), 5)
    by_queue = clock.queue.burst(clock.queue.capture(launches), 5)
    assert min(by_queue) == pytest.approx(min(by_graph), rel=0.33)
