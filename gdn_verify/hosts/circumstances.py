"""What may be around a launch and must not matter: earlier tensors, other streams, empty caches, other launches."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

T = TypeVar("T")
AHEAD = 1_000_000
"""Cycles that a stream is busy before its launch: long enough that a launch on another stream would be early."""
USED = [2**n for n in range(9, 27)]
"""Bytes of the tensors whose memory is left behind: the sizes between which torch's allocator rounds up."""


@dataclass(frozen=True)
class Circumstance:
    """`name` follows "launched again"; the launch is made `times` times, and `beside` of them at once.

    `around` surrounds each turn. With `streams` every launch of a turn has a stream of its own, which is busy at first.
    """

    name: str
    times: int = 1
    beside: int = 1
    around: Callable[[], AbstractContextManager[object]] = nullcontext
    streams: bool = False

    def perform(self, launches: Sequence[Callable[[], T]]) -> list[T]:
        """One turn: what each launch returned. They are queued, and may not have ended."""
        with self.around():
            return [self._on_its_stream(launch) if self.streams else launch() for launch in launches]

    def _on_its_stream(self, launch: Callable[[], T]) -> T:
        import torch

        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            torch.cuda._sleep(AHEAD)
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
def used_memory() -> Iterator[None]:
    """What torch's allocator hands out next on a card was a tensor of NaN, or of -1."""
    import torch

    left = [torch.full((size,), 0xFF, dtype=torch.uint8, device="cuda") for size in USED for _ in range(4)]
    del left
    yield


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
    from triton.runtime.jit import JITFunction

    for thing in gc.get_objects():
        if isinstance(thing, JITFunction):
            thing.device_caches.clear()
        elif isinstance(thing, Autotuner):
            thing.cache.clear()


PROCESSOR = (Circumstance("", times=2), Circumstance("in scratch memory full of NaN", around=filled_scratch))
"""A processor runs the same program again: what chance decides is on a card."""
CARD = (
    Circumstance("", times=100),
    Circumstance("on another stream", times=3, streams=True),
    Circumstance("beside three others, each on its stream", times=5, beside=4, streams=True),
    Circumstance("in memory that other tensors left", times=3, around=used_memory),
    Circumstance("from empty caches", times=2, around=empty_caches),
)
