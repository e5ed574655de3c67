"""Does a path refuse tables that are no launch's, and pass over rows that are not its own, where it says so?

A refusal is a ValueError before a pool is touched. A row that is passed over has a slot and tokens, and keeps both as
they are, the outputs of its tokens among them: another launch is there for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch

from gdn_verify.arena import Writable
from gdn_verify.cases.case import Case, Row
from gdn_verify.checks import memory
from gdn_verify.feed import Feed
from gdn_verify.paths.base import Launch, Outputs, Path
from gdn_verify.verdict import Check, Finding

Fed = Callable[[Case], Feed]
Run = Callable[[Launch], Outputs]
LONG = 2
"""Tokens of a row that is passed over."""


def judge(case: Case, path: Path, fed: Fed, run: Run) -> Iterator[Finding]:
    """Findings of the first launch of `case` with its tables spoilt, each time as `fed` lays it out anew."""
    yield from _taken(case, path, fed, run)
    if path.passes_over:
        yield from _touched(_with_another(case), path, fed, run)


def _behind_the_tokens(launch: Launch) -> bool:
    launch["query_start_loc"][-1] = launch["out"].shape[0] + 1
    return True


def _one_slot_for_two(launch: Launch) -> bool:
    first, *others = [number for number, _ in launch.batch.live_rows()] or [0]
    slots = launch["state_indices"]
    column = slots if slots.ndim == 1 else slots[:, 0]  # which every row writes; a draft's others it may read
    for other in others:
        column[other] = column[first]
    return bool(others)


def _too_many_accepted(launch: Launch) -> bool:
    drafts = [number for number, row in launch.batch.live_rows() if row.spec]
    for number in drafts:
        launch["num_accepted_tokens"][number] = launch["state_indices"].shape[1] + 1
    return bool(drafts)


SPOILT: dict[str, Callable[[Launch], bool]] = {
    "rows that end behind the tokens": _behind_the_tokens,
    "rows that write one slot": _one_slot_for_two,
    "more tokens accepted than a row has slots": _too_many_accepted,
}
"""By name: what makes the tables of a launch those of none, in place; False where it has no such rows."""


def _taken(case: Case, path: Path, fed: Fed, run: Run) -> Iterator[Finding]:
    for name, spoil in SPOILT.items():
        feed = fed(case)
        if not (path.validates(feed.launch) and spoil(feed.launch)):
            continue
        feed.arena.seal()
        try:
            run(feed.launch)
        except ValueError:
            outputs = {name: Writable.ALL for name in ("out", "z_out") if name in feed.launch.tensors}
            for item in feed.arena.violations(outputs):
                yield Finding(Check.LAUNCHES, f"refused and changed {item.buffer}", f"{name}: {item}")
        else:
            yield Finding(Check.LAUNCHES, "illegal tables", f"{name}: taken; the path says that it looks at its tables")


def _with_another(case: Case) -> Case:
    """With an empty row behind the others, in a slot of its own, and tokens of nobody for it."""
    first = case.batches[0]
    rows, behind = (*first.rows, Row(0, (case.slots,))), max(first.pad_tokens, LONG)
    return replace(case, slots=case.slots + 1, batches=(replace(first, rows=rows, pad_tokens=behind),))


def _touched(case: Case, path: Path, fed: Fed, run: Run) -> Iterator[Finding]:
    """The last row gets the tokens behind it."""
    feed = fed(case)
    first = feed.batch.tokens
    feed.launch["query_start_loc"][-1] += LONG
    feed.arena.seal()
    run(feed.launch)
    allowed = memory.writable(feed, path.conventions)
    ours = torch.ones(len(feed.launch["out"]), dtype=torch.bool)
    ours[first : first + LONG] = False
    allowed["out"] = Writable(allowed["out"].mask & ours)
    for item in feed.arena.violations(allowed):
        yield Finding(Check.LAUNCHES, "row passed over", f"a row of {LONG} tokens behind the others: {item}")
