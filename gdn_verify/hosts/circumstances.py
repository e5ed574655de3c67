"""What may be around a launch and must not matter: earlier tensors, other streams, empty caches, other launches."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from gdn_verify.hosts.dispatch import jit_functions

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import torch

T = TypeVar("T")
AHEAD = (2**20, 2**23, 2**26)
"""Cycles for which streams wait before their launches, half a millisecond and on: the first in which a host queues all.

A path that itself waits for the device never lets the host get ahead; the last is for it as good as any.
"""
SMALL = 2**20
"""Bytes up to which torch's allocator serves a request from its small segments, and never from the large ones."""


@dataclass(frozen=True)
class Circumstance:
    """`name` follows "launched again"; the launch is made `times` times, and `beside` of them at once.

    `around` is to surround each launch. With `streams` every launch has a stream of its own, which is busy at first.
    """

    name: str
    times: int = 1
    beside: int = 1
    around: Callable[[], AbstractContextManager[object]] = nullcontext
    streams: bool = False

    def perform(self, launches: Sequence[Callable[[], T]]) -> list[T]:
        """One turn: what each launch returned. They are queued, and may not have ended."""
        return _at_once(launches) if self.streams else [launch() for launch in launches]


def _at_once(launches: Sequence[Callable[[], T]]) -> list[T]:
    """Each launch on a stream of its own, behind one door that opens when all are queued."""
    import torch

    for cycles in AHEAD:
        torch.cuda.synchronize()
        door = torch.cuda.Stream()
        with torch.cuda.stream(door):
            torch.cuda._sleep(cycles)
        opened = door.record_event()
        outputs = [_behind(opened, launch) for launch in launches]
        if not opened.query():
            break  # none has begun: they will run at once
    return outputs


def _behind(opened: torch.cuda.Event, launch: Callable[[], T]) -> T:
    import torch

    stream = torch.cuda.Stream()
    stream.wait_event(opened)
    with torch.cuda.stream(stream):
        return launch()


@contextmanager
def filled_scratch() -> Iterator[None]:
    """Every `torch.empty` on a processor holds NaN, or the largest integer."""
    import torch

    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.use_deterministic_algorithms(True, warn_only=True)  # with it torch fills what it allocates
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])


@contextmanager
def used_memory(byte: int) -> Iterator[None]:
    """What torch's allocator hands out next on a card was a tensor of this byte."""
    import torch

    torch.cuda.synchronize()
    sizes = [*_free_blocks(), SMALL, 2 * SMALL]
    left = [torch.full((size,), byte, dtype=torch.uint8, device="cuda") for size in sizes]
    del left
    yield


def _free_blocks() -> list[int]:
    """Bytes of requests that take up all memory which torch keeps for the current stream, the largest first."""
    import torch

    here = torch.cuda.current_stream().cuda_stream
    sizes = []
    for segment in torch.cuda.memory_snapshot():
        free = [block["size"] for block in segment["blocks"] if block["state"] == "inactive"]
        if segment["stream"] == here and segment["segment_type"] == "small":
            sizes += [min(SMALL, size - start) for size in free for start in range(0, size, SMALL)]
        elif segment["stream"] == here:
            sizes += [size for size in free if size > SMALL]
    return sorted(sizes, reverse=True)


@contextmanager
def empty_caches() -> Iterator[None]:
    """No memory is kept, no Triton kernel is loaded, no autotuner has chosen."""
    import torch

    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    forget_kernels()
    yield


def forget_kernels() -> None:
    """Make every Triton kernel of the process one that was never launched; compiled code is found again on disk."""
    from triton.runtime.autotuner import Autotuner

    for function in jit_functions():
        function.device_caches.clear()
    for thing in gc.get_objects():
        if issubclass(type(thing), Autotuner):
            thing.cache.clear()


PROCESSOR = (Circumstance("", times=2), Circumstance("in scratch memory full of NaN", around=filled_scratch))
"""A processor runs the same program again: what chance decides is on a card."""
# Scratch memory that a launch trusts may have been NaN at first: it must be seen to change with what lies there.
CARD = (
    Circumstance("", times=200),
    Circumstance("on another stream", times=3, streams=True),
    Circumstance("beside three others, each on its stream", times=5, beside=4, streams=True),
    Circumstance("in memory that NaN was left in", around=partial(used_memory, 0xFF)),
    Circumstance("in memory that zeros were left in", around=partial(used_memory, 0)),
    Circumstance("in memory that tiny numbers were left in", around=partial(used_memory, 1)),
    Circumstance("from empty caches", times=2, around=empty_caches),
)
