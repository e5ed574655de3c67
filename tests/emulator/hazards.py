"""Small kernels that misuse memory in one way each, and what the checker says of a launch. Runs in the worker only."""

from __future__ import annotations

from collections.abc import Callable

import torch
import triton
import triton.language as tl
from triton.runtime import interpreter as stock

from gdn_verify.emulator import launch
from gdn_verify.emulator.access import Access, Known
from gdn_verify.emulator.interpreter import EmulatorError
from gdn_verify.emulator.memory_check import checked
from gdn_verify.emulator.stretch import stretch


def found(launches: Callable[[], object], *known: Known) -> list[Access]:
    """What the checker finds in the launches of a function."""
    with checked(known) as check:
        launches()
    return check.findings()


# -- rows of a pool --------------------------------------------------------------------------------


@triton.jit
def update_rows(pool, ids, out, stride, K: tl.constexpr):
    row = tl.load(ids + tl.program_id(0))
    column = tl.arange(0, K)
    value = tl.load(pool + row * stride + column)
    tl.store(out + tl.program_id(0) * K + column, value * 2)
    tl.store(pool + row * stride + column, value + 1)


def rows(ids: list[int], outputs: int = 3, inside: bool = False, columns: int = 32, far: bool = False) -> list[Access]:
    """Rows of a pool [4, 32] updated in place; `inside` of a larger one, some of the columns, or `far` apart."""
    pool = torch.randn(8, 32)[2:6, :columns] if inside else torch.randn(4, columns)
    pool = stretch(pool) if far else pool
    out = torch.zeros(outputs, 32)
    return found(lambda: update_rows[(len(ids),)](pool, torch.tensor(ids), out, pool.stride(0), 32))


def rows_in_int32() -> list[Access]:
    """Ids of 32 bits, and an offset that is computed in them."""
    pool, out = stretch(torch.randn(4, 32)), torch.zeros(2, 32)
    ids = torch.tensor([1, 3], dtype=torch.int32)
    return found(lambda: update_rows[(2,)](pool, ids, out, pool.stride(0), 32))


def stretched_rows_are_right() -> tuple[list[Access], bool]:
    """In 64 bits slots 2³¹ apart are reached, and torch sees what was stored."""
    pool, out = torch.randn(4, 32), torch.zeros(2, 32)
    before, far = pool.clone(), stretch(pool)
    accesses = found(lambda: update_rows[(2,)](far, torch.tensor([1, 3]), out, far.stride(0), 32))
    return accesses, torch.equal(out, before[[1, 3]] * 2) and torch.equal(pool[[1, 3]], before[[1, 3]] + 1)


def damage_is_kept_out() -> bool:
    """What lies beside a view keeps its bytes when a kernel stores there."""
    memory = torch.zeros(8, 32)
    found(lambda: update_rows[(3,)](memory[2:6], torch.tensor([-1, 4, 0]), torch.zeros(3, 32), 32, 32))
    return bool((memory[:2] == 0).all() and (memory[6:] == 0).all() and (memory[2] == 1).all())


# -- values that nobody wrote ------------------------------------------------------------------------


@triton.jit
def copy(source, target, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(target + at, tl.load(source + at))


def copied(prepare: str) -> list[Access]:
    """A scratch tensor, prepared in some way or none, that a kernel copies."""
    target = torch.zeros(64)

    def prepared() -> None:
        scratch = {
            "empty": lambda: torch.empty(64), "new_empty": lambda: target.new_empty(64),
            "empty_like": lambda: torch.empty_like(target), "zeros": lambda: torch.zeros(64),
            "half by a kernel": lambda: torch.empty(64), "by torch": lambda: torch.empty(64).fill_(1.0),
            "by a kernel": lambda: torch.empty(64), "by torch, later": lambda: torch.empty(64),
        }[prepare]()  # fmt: skip
        if "by a kernel" in prepare:
            copy[(2 if prepare.startswith("half") else 4,)](torch.ones(64), scratch, 16)
        if "later" in prepare:
            copy[(1,)](torch.ones(64), scratch, 16)
            scratch[32:] = 2.0
        copy[(4,)](scratch, target, 16)

    return found(prepared)


def free_slots(ids: list[int]) -> list[Access]:
    """Slots 1 and 2 of four hold nothing, slot 2 is not to be written, slot 3 is anybody's."""
    pool, out = torch.randn(4, 32), torch.zeros(len(ids), 32)

    def slots(*chosen: int) -> torch.Tensor:
        mask = torch.zeros(4, 32, dtype=torch.bool)
        mask[list(chosen)] = True
        return mask

    known = Known("pool", pool, unwritten=slots(1, 2, 3), sealed=slots(2), free=slots(3))
    return found(lambda: update_rows[(len(ids),)](pool, torch.tensor(ids), out, 32, 32), known)


def unwritten(programs: int) -> Access | None:
    """Of an output of 64 elements, what so many programs of 16 leave out but for the last element."""
    out, wanted = torch.zeros(64), torch.ones(64, dtype=torch.bool)
    wanted[-1] = False
    with checked([Known("out", out, unwritten=torch.ones(64, dtype=torch.bool))]) as check:
        copy[(programs,)](torch.ones(64), out, 16)
    return check.unwritten("out", out, wanted)


@triton.jit
def drop_or_use(source, ids, target, B: tl.constexpr, HOW: tl.constexpr):
    """The second half of `source` is undefined."""
    lane = tl.arange(0, B)
    value = tl.load(source + lane)
    if HOW == "dropped":
        result = tl.where(lane < B // 2, value, 0.0)
    elif HOW == "times zero":
        result = value * (lane < B // 2).to(tl.float32)
    elif HOW == "masked":
        result = value
    elif HOW == "rows of a product":
        square = tl.load(source + lane[:, None] * 0 + lane[None, :] % (B // 2))
        result = tl.sum(tl.dot(square, tl.trans(square)), 1)
    elif HOW == "moved":
        half = tl.reshape(value, [2, B // 2])
        result = tl.reshape(tl.join(half, half), [2 * B])[None, :]
        result = tl.sum(tl.where(tl.arange(0, 2 * B)[None, :] < B, result, 0.0), 0) * 0 + 1.0
        result = tl.sum(tl.where(tl.arange(0, 2 * B) < B, result, 0.0), 0) + lane * 0.0
    elif HOW == "summed":
        result = tl.sum(value, 0) + lane * 0.0
    elif HOW == "an address":
        result = tl.load(ids + value.to(tl.int32)) + value
    elif HOW == "a branch":
        result = lane * 1.0
        if tl.sum(value, 0) > 0:
            result += 1.0
    tl.store(target + lane, result, mask=lane < (B // 2 if HOW == "masked" else B))


def undefined(how: str) -> list[Access]:
    """A block whose second half nobody wrote, put to some use."""
    source, target = torch.ones(32), torch.zeros(32)
    half = torch.arange(32) >= 16
    known = Known("source", source, unwritten=half)
    return found(lambda: drop_or_use[(1,)](source, torch.zeros(64), target, 32, how), known)


@triton.jit
def clear_if_positive(x, out, B: tl.constexpr):
    lane = tl.arange(0, B)
    if tl.sum(tl.load(x + lane), 0) > 0:
        tl.store(x + (lane + 1) % B, tl.zeros([B], tl.float32))


# -- programs against each other ---------------------------------------------------------------------


@triton.jit
def copy_block(source, target, n, B: tl.constexpr, BOUNDED: tl.constexpr):
    read = tl.make_block_ptr(source, (n,), (1,), (0,), (B,), (0,))
    write = tl.make_block_ptr(target, (n,), (1,), (0,), (B,), (0,))
    if BOUNDED:
        tl.store(write, tl.load(read, boundary_check=(0,)), boundary_check=(0,))
    else:
        tl.store(write, tl.load(read))


def block_copied(bounded: bool) -> list[Access]:
    """Five numbers through pointers to blocks of eight."""
    source, target = torch.ones(5), torch.empty(5)
    return found(lambda: copy_block[(1,)](source, target, 5, 8, bounded))


@triton.jit
def shift(x, n, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    value = tl.load(x + at + 1, mask=at + 1 < n, other=0.0)
    tl.store(x + at, value, mask=at < n)


def shifted(programs: int) -> list[Access]:
    """64 elements moved down by one in place."""
    return found(lambda: shift[(programs,)](torch.randn(64), 64, 64 // programs))


@triton.jit
def count(x, total):
    tl.atomic_add(total, tl.load(x + tl.program_id(0)))


@triton.jit
def count_and_look(x, total, seen):
    tl.atomic_add(total, tl.load(x + tl.program_id(0)))
    tl.store(seen + tl.program_id(0), tl.load(total))


def counted(look: bool) -> list[Access]:
    """Programs that add up a number, and look at it without an atomic or not."""
    x, total, seen = torch.ones(5), torch.zeros(1), torch.zeros(5)
    return found(lambda: count_and_look[(5,)](x, total, seen) if look else count[(5,)](x, total))


@triton.jit
def last_sums(x, partial, tickets, out, N: tl.constexpr, B: tl.constexpr, SEM: tl.constexpr, BARRIER: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(partial + at, tl.load(x + at) * 2)
    if BARRIER:
        tl.debug_barrier()
    if tl.atomic_add(tickets, 1, sem=SEM) == N - 1:
        whole = tl.load(partial + tl.arange(0, N * B))
        tl.store(out + tl.arange(0, N * B), whole)


def joined(sem: str, barrier: bool = True) -> list[Access]:
    """The last of four programs gathers what all have stored."""
    x, partial, out = torch.randn(64), torch.zeros(64), torch.zeros(64)
    tickets = torch.zeros(1, dtype=torch.int32)
    return found(lambda: last_sums[(4,)](x, partial, tickets, out, 4, 16, sem, barrier))


@triton.jit
def last_clears(x, tickets, out, N: tl.constexpr, B: tl.constexpr):
    value = tl.load(x + tl.arange(0, B))
    tl.store(out + tl.program_id(0) * B + tl.arange(0, B), value)
    if tl.atomic_add(tickets, 1, sem="relaxed") == N - 1:
        tl.store(x + tl.arange(0, B), value * 0)


def cleared(programs: int) -> list[Access]:
    """The last of four programs overwrites what all have read; of more, the fourth."""
    x, out = torch.randn(16), torch.zeros(16 * programs)
    tickets = torch.zeros(1, dtype=torch.int32)
    return found(lambda: last_clears[(programs,)](x, tickets, out, 4, 16))


def over_two_launches() -> list[Access]:
    """What one launch stored the next one reads and overwrites."""
    x = torch.randn(64)

    def launches() -> None:
        copy[(4,)](torch.ones(64), x, 16)
        shift[(1,)](x, 64, 64)
        copy[(2,)](x, torch.zeros(64), 32)

    return [each for each in found(launches) if each.kernel != "shift"]


# -- lanes of one program ------------------------------------------------------------------------------


@triton.jit
def halved(x, B: tl.constexpr):
    lane = tl.arange(0, B)
    tl.store(x + lane // 2, lane * 1.0)


@triton.jit
def increment(x, B: tl.constexpr):
    at = x + tl.arange(0, B)
    tl.store(at, tl.load(at) + 1)


@triton.jit
def slide_window(state, x, out, B: tl.constexpr, W: tl.constexpr, BARRIER: tl.constexpr):
    """Taps are read one by one in 1-D, then the window is stored from a 2-D tile, a column further on."""
    channel = tl.arange(0, B)
    total = tl.load(x + channel)
    for w in tl.static_range(W):
        total += tl.load(state + channel * W + w)
    column = tl.arange(0, W)[None, :]
    at = state + channel[:, None] * W + column
    moved = tl.load(at + 1, mask=column + 1 < W, other=0.0)
    moved = tl.where(column + 1 < W, moved, tl.load(x + channel)[:, None])
    if BARRIER:
        tl.debug_barrier()
    tl.store(at, moved)
    tl.store(out + channel, total)


@triton.jit
def scatter_then_gather(x, scratch, out, B: tl.constexpr, BARRIER: tl.constexpr):
    lane = tl.arange(0, B)
    tl.store(scratch + lane, tl.load(x + lane))
    if BARRIER:
        tl.debug_barrier()
    tl.store(out + lane, tl.load(scratch + B - 1 - lane))


@triton.jit
def clear_after_sum(x, out, B: tl.constexpr, WAIT: tl.constexpr):
    """Each lane clears its neighbour's element; whether all have been read is known where the sum is."""
    lane = tl.arange(0, B)
    total = tl.sum(tl.load(x + lane), 0)
    later = (total < total).to(tl.int64) if WAIT else 0
    tl.store(x + later + (lane + 1) % B, tl.zeros([B], tl.float32))
    tl.store(out, total)


def in_one_program(kernel: str, barrier: bool = False) -> list[Access]:
    """One program of a kernel of this section."""
    x, y, out = torch.randn(16), torch.randn(16, 4), torch.zeros(16)
    launches = {
        "halved": lambda: halved[(1,)](x, 16),
        "increment": lambda: increment[(1,)](x, 16),
        "slide_window": lambda: slide_window[(1,)](y, x, out, 16, 4, barrier),
        "scatter_then_gather": lambda: scatter_then_gather[(1,)](x, y, out, 16, barrier),
        "clear_if_positive": lambda: clear_if_positive[(1,)](x.abs_(), out, 16),
        "clear_after_sum": lambda: clear_after_sum[(1,)](x, out, 16, barrier),
    }
    return found(launches[kernel])


# -- around a check --------------------------------------------------------------------------------------


@triton.jit
def broken(x):
    tl.store(x, tl.load(x) + tl.arange(0, 3))  # 3 is no power of two


def leaves_no_trace() -> list[str]:
    """What is not as it was after a check in which a kernel raised."""
    before = _traces()
    wrong = []
    try:
        found(lambda: broken[(1,)](torch.zeros(4)))
        wrong.append("nothing was raised")
    except stock.InterpreterError:
        pass
    try:
        found(lambda: found(lambda: None))
        wrong.append("a check within a check")
    except EmulatorError:
        pass
    return wrong + [name for name, value in _traces().items() if value is not before[name]]


def _traces() -> dict[str, object]:
    return {
        "builder": stock.interpreter_builder.__class__, "convert": stock._implicit_cvt, "empty": torch.empty,
        "new_empty": torch.Tensor.new_empty, "reduce": stock.ReduceOps.apply, "watcher": launch.watcher,
    }  # fmt: skip
