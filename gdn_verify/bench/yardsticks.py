"""Kernels that compute nothing, to measure by: an empty launch, and a pass over the states that no decode can beat."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import triton
import triton.language as tl

from gdn_verify.bench.contender import AnyInputs, Inputs
from gdn_verify.bench.record import NULL, TOUCH


@dataclass(frozen=True)
class Yardstick:
    """A kernel to measure by: `prepare(inputs)` gives its launch, as a contender's does."""

    name: str
    prepare: Callable[[Any], Callable[[], None]]


@triton.jit(do_not_specialize=["n"])
def null_kernel(out, n):  # type: ignore[no-untyped-def]
    """Does nothing; the store keeps it from being empty."""
    if n < 0:
        tl.store(out, 0.0)


@triton.jit
def touch_kernel(pool, table, accepted, S: tl.constexpr, SLOT: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Reads the slot of `table` [N, S] that each row reads and writes its S slots, BLOCK numbers a program, negated.

    Negation keeps the numbers' size over any number of replays, and a compiler cannot drop the store.
    """
    program = tl.program_id(0)
    row = program // (SLOT // BLOCK)
    at = program % (SLOT // BLOCK) * BLOCK + tl.arange(0, BLOCK)
    column = 0 if accepted is None else tl.load(accepted + row) - 1
    source = tl.load(table + row * S + column).to(tl.int64)
    values = -tl.load(pool + source * SLOT + at)
    for t in tl.static_range(S):
        slot = tl.load(table + row * S + t).to(tl.int64)
        tl.store(pool + slot * SLOT + at, values)


def yardsticks() -> Iterator[Yardstick]:
    """The null kernel, and three cuts of the pass over the states; the fastest of these is `touch`."""
    yield Yardstick(NULL, null)
    for block, warps in ((16384, 8), (8192, 8), (4096, 4)):
        yield Yardstick(f"{TOUCH} {block}", _touch(block, warps))


def null(inputs: AnyInputs) -> Callable[[], None]:
    """An empty launch of as many programs as there are rows and heads."""
    programs = inputs.setting.rows * inputs.geometry.HV
    return lambda: null_kernel[(programs,)](inputs.out, 0)


def _touch(block: int, warps: int) -> Callable[[Inputs], Callable[[], None]]:
    def prepare(inputs: Inputs) -> Callable[[], None]:
        slot = inputs.pool[0].numel()
        size = min(block, slot & -slot)  # a power of two that divides a slot
        programs = inputs.setting.rows * (slot // size)
        operands = (inputs.pool, inputs.state_indices, inputs.num_accepted_tokens, inputs.geometry.S, slot, size)
        return lambda: touch_kernel[(programs,)](*operands, num_warps=warps)

    return prepare
