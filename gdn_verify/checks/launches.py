"""Does a captured launch do with other rows in its buffers what an eager one does, and an idle launch nothing?

A serving engine captures a launch once and replays it for batches that are smaller, in other slots, with padded rows
behind. What the host looked at while capturing is frozen: a length, a branch, a pointer. So a launch is captured with
all rows live, and replayed on tables and activations written over it: other slots, all rows but one, one, none. What a
replay leaves must have the bits that an eager launch of the same rows leaves, and touch nothing else. Nor may a launch
have more programs than a card starts, when it has the rows of a busy server: its grids are looked at, not run. Where a
path says so, tables that are no launch's are refused (`foreign`).

In the catalogue of bugs: graph-capture-freezes-branch, dummy-run-writes-through-stale-row, grid-dim-65535,
zero-length-sequence-deadlock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch

from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.contract import Padding
from gdn_verify.cases.launches import moved
from gdn_verify.cases.presentation import Presentation
from gdn_verify.checks import bits, foreign, memory
from gdn_verify.emulator.tape import CaptureError
from gdn_verify.feed import PARAMETERS, Feed, feed, initial_pools, pools_after
from gdn_verify.hosts import Host
from gdn_verify.paths.base import Launch, Outputs, Path
from gdn_verify.paths.refusal import refusal_of
from gdn_verify.verdict import Check, Finding

Run = Callable[[Launch], Outputs]
MOST_PROGRAMS = (2**31 - 1, 65535, 65535)
"""Along each axis of a grid, on CUDA; HIP takes more."""
SPARE = 70
"""Tokens behind the last row of an idle launch: more than a block of any kernel, or a chunk."""
TABLES = (
    "query_start_loc", "state_indices", "has_initial_state", "num_accepted_tokens", "spec_rows", "read_indices",
)  # fmt: skip
"""Tensors that have an entry a row."""


@dataclass
class Replays:
    """What came of one case: findings, how many replays were compared, or why none was.

    Idle launches are judged whether or not the path can be captured, and are no replays.
    """

    findings: list[Finding] = field(default_factory=list)
    compared: int = 0
    refused: str = ""


@dataclass(frozen=True)
class _Stage:
    """Where a case is launched: all that stays the same from variant to variant."""

    path: Path
    presentation: Presentation
    host: Host
    run: Run

    def fed(self, case: Case) -> Feed:
        pools = initial_pools(case, self.path, self.presentation)
        return feed(case, 0, self.path, self.presentation, pools, self.host.device)

    def launched(self, fed: Feed) -> Outputs:
        outputs = self.run(fed.launch)
        self.host.synchronize()
        return outputs

    def takes(self, case: Case) -> bool:
        return refusal_of(self.path, case, self.presentation) is None


def judge(case: Case, presentation: Presentation, path: Path, host: Host, run: Run) -> Replays:
    """Capture the first launch of `case`, replay it on variants of its rows, and launch batches with nothing to do.

    Of every second case the live rows alone are captured, as a server does that captures full batches.
    A launch that cannot be captured is refused, not wrong, unless the path says that it can: that it reads from the
    device is a fact of the path.
    """
    stage, first = _Stage(path, presentation, host, run), replace(case, batches=case.batches[:1])
    replays = Replays()
    for name, variant in _idle(first):
        if stage.takes(variant):
            fed = stage.fed(variant)
            replays.findings += _touched(name, fed, path, stage.launched(fed))
    replays.findings += _too_large(stage, first)
    replays.findings += foreign.judge(first, path, stage.fed, run)
    if not path.conventions.deterministic:
        replays.refused = "the path does not promise the same bits for the same launch"
        return replays
    whole = _with_rows(first, tuple(row for row in first.batches[0].rows if row.live))
    if case.values.seed % 2 == 0 and whole.batches[0].rows and stage.takes(whole):
        first = whole
    captured = stage.fed(first)
    stage.launched(captured)  # compiles, and makes what lives from launch to launch: a capture may do neither
    captured.arena.restore()
    try:
        left: list[Outputs] = []
        again = host.capture(lambda: left.append(run(captured.launch)))
    except CaptureError as error:
        replays.refused = f"cannot be captured: {error}"
        if path.captures(captured.launch):
            replays.findings.append(Finding(Check.LAUNCHES, "capture", f"{replays.refused}; the path says that it can"))
        return replays
    for name, variant in _variants(first, path):
        eager = stage.fed(variant) if stage.takes(variant) else None
        if eager and eager.launch.tensors.keys() == captured.launch.tensors.keys():
            replays.findings += _replayed(stage, name, eager, captured, left[0], again)
            replays.compared += 1
    return replays


def _idle(case: Case) -> Iterator[tuple[str, Case]]:
    """Launches that have nothing to compute."""
    rows = case.batches[0].rows
    empty = tuple(replace(row, tokens=0) for row in rows)
    for tokens, behind in ((0, ""), (SPARE, ", and tokens of nobody")):
        if not any(row.spec for row in rows):  # the tables of no rows are those of plain ones
            yield f"no rows{behind}", replace(case, batches=(Batch((), tokens),))
        yield f"rows without tokens{behind}", replace(case, batches=(Batch(empty, tokens),))


def _too_large(stage: _Stage, case: Case) -> Iterator[Finding]:
    """Kernels that no card takes at a server's size: of more programs on an axis than it has, for more rows than that.

    Nothing is run, so that it is known on a host that lists launches; a card says so itself.
    """
    first, *_ = (*(row for row in case.batches[0].rows if row.live), None)
    if first is None or (listing := stage.host.listing()) is None:
        return
    empty = replace(_padded(first), tokens=0, fresh=False)
    pair = _with_rows(case, (first, empty))
    if not stage.takes(pair):
        return
    rows = MOST_PROGRAMS[1] // case.geometry.HV + 2
    with listing as grids:
        stage.run(_crowded(stage.fed(pair).launch, rows))
    large = [
        (kernel, grid)
        for kernel, grid in dict.fromkeys(grids)
        if any(programs > most for programs, most in zip(grid, MOST_PROGRAMS, strict=True))
    ]
    if large and stage.path.refuses(_with_rows(case, (first, *[empty] * (rows - 1))), stage.presentation):
        return  # it says so itself
    for kernel, grid in large:
        message = f"{rows} rows: {kernel} has a grid of {grid}; a card starts {MOST_PROGRAMS} at most"
        yield Finding(Check.LAUNCHES, "grid", message)


def _crowded(launch: Launch, rows: int) -> Launch:
    """The launch with its last row, which has no token, so often that there are `rows`."""
    repeats, last = rows - len(launch.batch.rows), launch.batch.rows[-1]
    tables = {name: table for name in TABLES if (table := launch.get(name)) is not None}
    tables = {name: torch.cat([x, x[-1:].expand(repeats, *x.shape[1:])]) for name, x in tables.items()}
    batch = replace(launch.batch, rows=(*launch.batch.rows, *[last] * repeats))
    return replace(launch, batch=batch, tensors={**launch.tensors, **tables})


def _variants(case: Case, path: Path) -> Iterator[tuple[str, Case]]:
    """Other numbers in other slots, and fewer live rows, whose buffers have the same shapes."""
    case = replace(case, values=replace(case.values, seed=case.values.seed + 1))
    further = tuple(_further(row, case.slots) for row in case.batches[0].rows)
    live = [number for number, row in enumerate(further) if row.live]
    yield "other slots", _with_rows(case, further)
    if Padding.SENTINEL_ROW in path.capabilities.paddings:
        for count in sorted({len(live) - 1, 1, 0} - {len(live), -1}, reverse=True):
            kept = set(live[:count])
            rows = tuple(row if number in kept else _padded(row) for number, row in enumerate(further))
            yield f"{count} of {len(live)} rows live", _with_rows(case, rows)


def _with_rows(case: Case, rows: tuple[Row, ...]) -> Case:
    return replace(case, batches=(replace(case.batches[0], rows=rows),))


def _further(row: Row, slots: int) -> Row:
    """One slot further, in the same pool."""
    return moved(row, lambda slot: (slot + 1) % slots)


def _padded(row: Row) -> Row:
    return replace(row, slots=(None,) * len(row.slots), read=None)


def _replayed(
    stage: _Stage, name: str, eager: Feed, captured: Feed, left: Outputs, again: Callable[[], object]
) -> Iterator[Finding]:
    """Findings of one variant: fed to an eager launch, and written over what was captured."""
    for tensor, value in eager.launch.tensors.items():
        theirs, ours = bits.bits(captured.launch[tensor]), bits.bits(value)
        if tensor in PARAMETERS:  # of a layer: what a path made of them once is right for all its launches
            ours.copy_(theirs)
        else:
            theirs.copy_(ours)
    captured.arena.seal()
    outputs = stage.launched(eager)
    again()
    stage.host.synchronize()
    shown = replace(eager, arena=captured.arena, launch=replace(eager.launch, tensors=captured.launch.tensors))
    words = ("after a replay", "after an eager launch")
    for sentence in bits.differences(bits.left(eager, outputs), bits.left(shown, left), words):
        yield Finding(Check.LAUNCHES, "replay", f"{name}: {sentence}")
    yield from _touched(name, shown, stage.path, left)


def _touched(name: str, fed: Feed, path: Path, outputs: Outputs) -> Iterator[Finding]:
    for found in memory.judge(fed, path.conventions, pools_after(fed), outputs.final_state):
        yield Finding(Check.LAUNCHES, found.kind, f"{name}: {found.message}")
