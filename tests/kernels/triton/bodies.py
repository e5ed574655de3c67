"""What is asked of kernels on a card, as functions of a device.

On the processor, in the interpreter, they run too: a graph is then the launch itself, and streams take turns. That
proves nothing about a card, but that these functions work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch
from torch import Tensor

from gdn_verify.kernels.dispatch import gated_delta_net_packed
from gdn_verify.kernels.plan import LaunchPlan
from gdn_verify.kernels.rows import Tables
from gdn_verify.kernels.tables import Row

from .accounts import assert_left, assert_same
from .families import DECODE, PLAIN, SPEC, SPLIT, STAGED, conv_launch, delta_launch, launch, mixed_buffer, operands
from .problems import PADDING, UNWRITTEN, Buffer, Buffers, Problem, one_each
from .situations import DRAFTS

Run = Callable[[], None]
CASES = [("decode", name) for name in DECODE] + [("spec", name) for name in SPEC]
CASES += [("two-launch", name) for name in (PLAIN, SPLIT, STAGED)]
ROUTES = [("dispatch decode", "fused"), ("dispatch decode", "two-launch"), ("dispatch spec", "fused")]
ROUTES += [("dispatch both", "fused"), ("dispatch both", "auto")]


def sized(kernel: str, problem: Problem) -> Problem:
    """The problem with rows of the kind that a kernel takes: decode rows become drafts of up to three tokens."""
    if kernel not in ("spec", "dispatch spec", "dispatch both"):
        return replace(problem, starts=True)
    rows = tuple(
        Row(1 if n % 2 else 1 + n % 3, (3 * n, 3 * n + 1, 3 * n + 2), accepted=1 if n % 2 else 1 + n % 3)
        for n in range(len(problem.rows))
    )
    return replace(problem, rows=rows, width=3, slots=3 * len(rows) + 1)


def bound(kernel: str, problem: Problem, on: Buffers, family: str) -> Run:
    """One launch on these buffers, to be called again and again; `family` is the dispatcher's kernel for its routes."""
    if kernel == "two-launch":
        mixed_qkv = mixed_buffer(problem, on)
        return lambda: (conv_launch(problem, on, mixed_qkv), delta_launch(problem, on, mixed_qkv, family))[0]
    if kernel.startswith("dispatch"):
        return _dispatched(kernel, problem, on, family)
    return lambda: launch(problem, on, family)


def _dispatched(kernel: str, problem: Problem, on: Buffers, family: str) -> Run:
    """The dispatcher with a plan, as for a launch that is captured. Of "both", every second row is a decode row."""
    plan = LaunchPlan(decode="spec" not in kernel, spec="decode" not in kernel, prefill=False)
    tables = on.tables
    if "both" in kernel:
        tables = replace(tables, spec_rows=torch.arange(tables.rows, device=on.pool.view.device) % 2 == 0)

    def run() -> None:
        gated_delta_net_packed(
            *operands(problem, on)[:5], tables, packing=problem.packing, state_order=problem.state_order,
            output=on.output.view, z_output=on.z_output.view, plan=plan, kernel=family,
        )  # fmt: skip

    return run


def repeated(kernel: str, problem: Problem, family: str, device: str, times: int) -> None:
    """The same launch from the same bits leaves the same bits, every time."""
    on = problem.buffers(device)
    before, run = on.copy(), bound(kernel, problem, on, family)
    run()
    first = on.copy()
    if kernel != "two-launch":  # which rounds between its launches
        assert_left(problem, before, first)
    for number in range(times):
        on.restore(before)
        run()
        assert_same(on, first, f"repeat {number} differs")


def captured(run: Run, device: str) -> Run:
    """The launch in a graph."""
    if device == "cpu":
        return run
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def fewer(problem: Problem, live: int) -> Problem:
    """The launch with its first rows only; its tensors keep their sizes."""
    accepted = None if problem.width is None else 1
    gone = Row(0 if problem.starts or problem.width else 1, (PADDING,), accepted=accepted)
    rows = problem.rows[:live] + (gone,) * (len(problem.rows) - live)
    return replace(problem, rows=rows, tokens=problem.num_tokens)


def replayed(kernel: str, problem: Problem, family: str, device: str) -> None:
    """Captured at N rows after one eager launch, replayed with N, N-1, 1 and no live rows: the eager launch's bits."""
    on = problem.buffers(device)
    run = bound(kernel, problem, on, family)
    run()  # compiles, and makes the tickets
    replay = captured(run, device)
    rows = len(problem.rows)
    for live in (rows, rows - 1, 1, 0, rows):
        fewer_rows = fewer(problem, live)
        given = fewer_rows.buffers(device)
        on.restore(given)
        run()
        eager = on.copy()
        if kernel in ("decode", "spec"):
            assert_left(fewer_rows, given, eager)
        on.restore(given)
        replay()
        assert_same(on, eager, f"a replay with {live} of {rows} rows")


def streams(count: int, device: str) -> Iterator[AbstractContextManager[object]]:
    """One context for each of so many streams."""
    for _ in range(count):
        yield nullcontext() if device == "cpu" else torch.cuda.stream(torch.cuda.Stream())


def settle(device: str) -> None:
    """Waits for all streams."""
    if device != "cpu":
        torch.cuda.synchronize()


def shared_pools(parts: list[Problem], made: list[Buffers]) -> list[Buffers]:
    """The same launches on the first one's pools, each with its own slots filled."""
    first = made[0]
    for part, own in zip(parts, made, strict=True):
        for row in part.live:
            first.conv_pool.view[row.conv_write] = own.conv_pool.view[row.conv_write]
            first.pool.view[row.conv_write] = own.pool.view[row.conv_write]
    return [replace(own, conv_pool=first.conv_pool, pool=first.pool) for own in made]


def at_once(problem: Problem, family: str, device: str, *, shared: bool, count: int = 16, rounds: int = 10) -> None:
    """So many launches in as many streams, each three times: the bits of one after the other, in every round."""
    n = len(problem.rows)
    slots = [one_each(*range(i * n, (i + 1) * n)) for i in range(count)]
    parts = [replace(problem, rows=rows, slots=n * count, seed=i) for i, rows in enumerate(slots)]
    made = [part.buffers(device) for part in parts]
    made = shared_pools(parts, made) if shared else made
    # One layer for all: its parameters are not what runs at once.
    made = [replace(own, layer=made[0].layer) for own in made]
    before = [own.copy() for own in made]

    def begin() -> None:
        for own, old in zip(made, before, strict=True):
            own.restore(old)
        settle(device)

    def go(i: int) -> None:
        for _ in range(3):
            launch(parts[i], made[i], family)

    for i in range(count):
        go(i)
    begin()
    for i in range(count):
        go(i)
    settle(device)
    serial = [own.copy() for own in made]
    for number in range(rounds):
        begin()
        for i, stream in enumerate(streams(count, device)):
            with stream:
                go(i)
        settle(device)
        for own, expected in zip(made, serial, strict=True):
            assert_same(own, expected, f"round {number}")


def far_away(kernel: str, problem: Problem, family: str, device: str, *, slots: int) -> None:
    """The launch's slots at the far end of pools of so many, as many elements from slot to slot in both."""
    on = problem.buffers(device)
    before, offset = on.copy(), slots - problem.slots
    stride = max(on.pool.view[0].numel(), on.conv_pool.view[0].numel())
    pools = {}
    for name in ("conv_pool", "pool"):
        near = getattr(on, name).view
        storage = torch.full((slots * stride,), 7.0, dtype=near.dtype, device=device)
        view = storage.as_strided((slots, *near.shape[1:]), (stride, *near.stride()[1:]))
        view[offset:] = near
        pools[name] = Buffer(storage, view)
    indices = on.tables.state_indices
    tables = replace(on.tables, state_indices=torch.where(indices < 0, indices, indices + offset))
    bound(kernel, problem, replace(on, tables=tables, **pools), family)()
    for name, far in pools.items():
        getattr(on, name).view.copy_(far.view[offset:])
        far.view[offset:] = 7.0
        assert all_are(far.storage, 7.0), f"{name} was written outside of its slots"
    assert_left(problem, before, on)


def all_are(x: Tensor, value: float, piece: int = 2**28) -> bool:
    """Whether all numbers are this one, without another tensor of the size."""
    return all(bool((part == value).all()) for part in x.split(piece))


def many_rows(kernel: str, problem: Problem, family: str, device: str, *, rows: int, at_a_time: int) -> None:
    """One launch of so many rows, every seventh padded, leaves the bits that launches of a few rows leave."""
    slots = one_each(*(PADDING if n % 7 == 6 else n for n in range(rows)))
    many = sized(kernel, replace(problem, rows=slots, slots=rows))
    on = many.buffers(device)
    few = on.copy()
    bound(kernel, many, on, family)()
    for first in range(0, rows, at_a_time):
        bound(kernel, many, part_of(few, first, first + at_a_time), family)()
    assert_same(on, few, f"{rows} rows in one launch")
    written = (on.output.view[many.live_tokens] != UNWRITTEN).flatten(1).any(1)
    assert written.all(), "nothing was written for a live row"


def part_of(on: Buffers, first: int, last: int) -> Buffers:
    """Rows [first, last) of a launch as a launch of its own, in the same memory."""
    starts = on.tables.query_start_loc[first : last + 1]
    tokens = slice(int(starts[0]), int(starts[-1]))
    cut = {name: getattr(on, name) for name in ("qkvz", "ba", "output", "z_output")}
    views = {name: Buffer(whole.storage, whole.view[tokens]) for name, whole in cut.items()}
    accepted = on.tables.num_accepted_tokens
    tables = Tables(
        starts - starts[0],
        on.tables.state_indices[first:last],
        num_accepted_tokens=None if accepted is None else accepted[first:last],
    )
    return replace(on, tables=tables, query_start_loc=tables.query_start_loc, **views)


def sanitized(kernel: str, family: str, device: str) -> None:
    """Few rows, sizes small and ragged and as served, both packings and state orders: for a sanitizer to look at."""
    ragged = Problem(rows=one_each(3, PADDING, 1), K=12, V=10, tokens=4, starts=True, bias=True, spare=1)
    even = Problem(rows=one_each(0, 2), K=16, V=16, packing="interleaved", state_order="KV", slots=4)
    served = replace(even, H=1, K=128, V=128, state=torch.bfloat16)
    for problem in (ragged, even, served):
        if kernel == "spec":
            problem = replace(problem, rows=DRAFTS.rows[:3], width=3, tokens=7, slots=9)
        on = problem.buffers(device)
        before = on.copy()
        bound(kernel, problem, on, family)()
        settle(device)
        if kernel != "two-launch":
            assert_left(problem, before, on)
