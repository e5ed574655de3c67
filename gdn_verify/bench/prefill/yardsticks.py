"""What no prefill can beat: a pass that reads every input once and writes every output once, and computes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import triton
import triton.language as tl

from gdn_verify.bench.contender import PrefillInputs
from gdn_verify.bench.record import NULL, TOUCH
from gdn_verify.bench.yardsticks import Yardstick, null


@triton.jit
def pass_kernel(q, k, v, g, beta, out, pool, table, keys, values, gates, SLOT: tl.constexpr, FRESH: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]  # fmt: skip  # noqa: E501
    """v into out, negated states, and q, k, g and beta looked at; BLOCK numbers a program.

    Negation keeps the numbers' size over any number of replays. What is looked at is stored where its sum is a number
    that it never is, which no compiler can know.
    """
    program = tl.program_id(0)
    of_values, of_keys, of_gates = tl.cdiv(values, BLOCK), tl.cdiv(keys, BLOCK), tl.cdiv(gates, BLOCK)
    lanes = tl.arange(0, BLOCK)
    if program < of_values:
        at = program.to(tl.int64) * BLOCK + lanes
        tl.store(out + at, tl.load(v + at, at < values), at < values)
    elif program < of_values + of_keys:
        at = (program - of_values).to(tl.int64) * BLOCK + lanes
        seen = tl.load(q + at, at < keys, 0.0).to(tl.float32) + tl.load(k + at, at < keys, 0.0).to(tl.float32)
        tl.store(out + at, seen, (at < 1) & (tl.sum(seen) == 1.0e30))
    elif program < of_values + of_keys + of_gates:
        at = (program - of_values - of_keys).to(tl.int64) * BLOCK + lanes
        seen = tl.load(g + at, at < gates, 0.0) + tl.load(beta + at, at < gates, 0.0)
        tl.store(out + at, seen, (at < 1) & (tl.sum(seen) == 1.0e30))
    else:
        place = program - of_values - of_keys - of_gates
        slot = tl.load(table + place // (SLOT // BLOCK)).to(tl.int64)
        at = slot * SLOT + place % (SLOT // BLOCK) * BLOCK + lanes
        if FRESH:
            tl.store(pool + at, tl.full((BLOCK,), 0.5, tl.float32))
        else:
            tl.store(pool + at, -tl.load(pool + at))


def yardsticks() -> Iterator[Yardstick]:
    """The null kernel, and three cuts of the pass; the fastest of these is `touch`."""
    yield Yardstick(NULL, null)
    for block, warps in ((8192, 8), (4096, 4), (2048, 4)):
        yield Yardstick(f"{TOUCH} {block}", _touch(block, warps))


def _touch(block: int, warps: int) -> Callable[[PrefillInputs], Callable[[], None]]:
    def prepare(inputs: PrefillInputs) -> Callable[[], None]:
        slot = inputs.pool[0].numel()
        size = min(block, slot & -slot)  # a power of two that divides a slot
        numbers = inputs.k.numel(), inputs.v.numel(), inputs.g.numel()
        programs = sum(triton.cdiv(number, size) for number in numbers) + inputs.setting.rows * (slot // size)
        read = inputs.q, inputs.k, inputs.v, inputs.g, inputs.beta
        operands = (*read, inputs.out, inputs.pool, inputs.state_indices, *numbers, slot, inputs.setting.fresh, size)
        return lambda: pass_kernel[(programs,)](*operands, num_warps=warps)

    return prepare
