"""What is timed: replays behind an uncounted one, per layer; launches as the driver counts them; work that is real."""

from __future__ import annotations

import ctypes
import gc
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import benched
import pytest
import torch

from gdn_verify.bench import clock, graph_nodes
from gdn_verify.bench.clock import Captured, GraphClock, host_times
from gdn_verify.bench.contender import Results
from gdn_verify.bench.graph_nodes import count_launches
from gdn_verify.bench.inputs import draw

needs_card = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA or ROCm card")
KERNEL, COPY, FILL, EMPTY = 0, 1, 2, 5


class Timeline:
    """A device on which every replay takes twice as long as the one before, and events read its clock."""

    def __init__(self) -> None:
        self.now, self.step, self.replays = 0.0, 1.0, 0

    def replay(self) -> None:
        self.replays += 1
        self.now += self.step
        self.step *= 2

    def event(self, enable_timing: bool) -> Any:
        timeline = self

        class Event:
            def record(self) -> None:
                self.at = timeline.now

            def elapsed_time(self, later: Event) -> float:
                return later.at - self.at

        return Event()


def test_a_burst_leaves_out_its_first_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Milliseconds of a stack become microseconds of a layer."""
    timeline = Timeline()
    monkeypatch.setattr(torch.cuda, "Event", timeline.event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    samples = GraphClock().burst(Captured(timeline.replay, 4, None), 3)
    assert samples == [2 * 1e3 / 4, 4 * 1e3 / 4, 8 * 1e3 / 4]
    assert timeline.replays == 4


def driver(types: list[int], status: int = 0) -> tuple[Callable[..., int], Callable[..., int]]:
    """A driver's two functions, over a graph of nodes of these types."""

    def get_nodes(graph: Any, nodes: Any, count: Any) -> int:
        if nodes is None:
            count._obj.value = len(types)
        else:
            nodes[:] = [node + 1 for node in range(len(types))]
        return status

    def get_type(node: ctypes.c_void_p, found: Any) -> int:
        found._obj.value = types[(node.value or 0) - 1]
        return 0

    return get_nodes, get_type


def test_kernels_copies_and_fills_are_launches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes that only order others are not."""
    monkeypatch.setattr(graph_nodes, "_driver", lambda: driver([KERNEL, EMPTY, KERNEL, COPY, FILL]))
    assert count_launches(1) == 4


def test_a_driver_that_cannot_say_is_unknown_and_not_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error status, or no such library."""
    monkeypatch.setattr(graph_nodes, "_driver", lambda: driver([KERNEL], status=1))
    assert count_launches(1) is None

    def absent() -> tuple[Callable[..., int], Callable[..., int]]:
        raise OSError("no driver")

    monkeypatch.setattr(graph_nodes, "_driver", absent)
    assert count_launches(1) is None


def test_host_time_is_a_launch_and_not_its_work() -> None:
    """Each sample is over one layer, and the device is waited for outside of it."""
    events: list[str] = []
    samples = host_times([lambda: events.append("launch")] * 5, 2, lambda: events.append("wait"))
    assert len(samples) == 2
    assert all(0 < sample < 1e5 for sample in samples)
    assert events == ["wait", *["launch"] * 5, "wait", *["launch"] * 5, "wait"]


def test_what_a_launch_holds_lives_as_long_as_its_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """A contender's own copies are inputs of every replay: let go, they would be other tensors' memory by then."""

    class Graph:
        replay = instantiate = raw_cuda_graph = lambda self: 0

    monkeypatch.setattr(clock, "run_aside", lambda launches: None)
    monkeypatch.setattr(clock, "count_launches", lambda graph: 1)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda keep_graph: Graph())
    monkeypatch.setattr(torch.cuda, "graph", lambda graph: nullcontext())

    def prepare() -> tuple[Callable[[], object], weakref.ref[torch.Tensor]]:
        own = torch.ones(3)
        return (lambda: own.sum()), weakref.ref(own)

    launch, held = prepare()
    captured = GraphClock().capture([launch])
    del launch
    gc.collect()
    assert held() is not None
    del captured
    gc.collect()
    assert held() is None


@needs_card
def test_a_graph_is_captured_counted_and_replayed() -> None:
    """Two kernels a layer, each replay on the same memory."""
    layers = [torch.zeros(8, device="cuda") for _ in range(3)]
    captured = GraphClock().capture([lambda x=x: x.add_(1).add_(1) for x in layers])
    assert (captured.layers, captured.launches) == (3, 2.0)
    before = layers[0].clone()
    assert len(GraphClock().burst(captured, 2)) == 2
    assert torch.equal(layers[0], before + 6)


@needs_card
def test_work_outside_the_capture_is_refused() -> None:
    """A contender whose results are not written by the replay would seem to take no time."""
    inputs = draw(benched.setting(), "cuda", 1, *benched.CORNERS[0])
    with pytest.raises(RuntimeError, match="leaves outputs unwritten"):
        GraphClock().capture([lambda: Results(inputs.out)])
