"""Autotuning pinned: a configuration by its place in the list, without timing any.

Timing would launch an in-place kernel many times on live state, make the choice depend on the day, and cost a minute
for a chunk kernel's first call. A gate runs the first configuration that a kernel's own pruning leaves; whether *every*
one is right is asked by a sweep, which pins one after the other.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from typing import Any

_place = 0


def pin_autotuning() -> None:
    """Make Triton's autotuner rank configurations by their place in the list. Call before kernels run."""
    from triton.runtime.autotuner import Autotuner

    def rank(self: Any, *args: object, config: object, **meta: object) -> list[float]:
        far = (self.configs.index(config) - _place) % len(self.configs)
        return [float(far)] * 3  # the quantiles that a benchmark would give

    Autotuner._bench = rank


def place_of(kernel: str, count: int) -> int:
    """The pinned configuration of an autotuned kernel that has `count`."""
    return _place % count


def choose(place: int) -> None:
    """Pin the configuration at `place` of every autotuned kernel's list, counted round, from the next launch on."""
    global _place
    if place == _place:
        return
    _place = place
    for tuner in _autotuners():
        tuner.cache.clear()  # of what was chosen before


def most_configurations(kernels: Iterable[str]) -> int:
    """Of the loaded autotuned kernels whose name holds one of `kernels`: the length of the longest list, 0 for none."""
    wanted = tuple(kernels)
    named = (tuner for tuner in _autotuners() if any(name in tuner.base_fn.__name__ for name in wanted))
    return max((len(tuner.configs) for tuner in named), default=0)


def _autotuners() -> Iterator[Any]:
    if find_spec("triton") is None:
        return
    from triton.runtime.autotuner import Autotuner

    yield from (thing for thing in gc.get_objects() if isinstance(thing, Autotuner))
