"""Are the index tensors of a launch those of its rows, and is padding marked as such, also in memory that is reused?

A builder is asked for the tables of each launch of a case: as it is, filled up to the size of the graph it fits in, and
filled up to the size of the largest, so that large launches and small ones follow each other in the same buffers. The
oracle is `gdn_verify.oracles.tables`. Where tables stay in place, what is compared is what a graph would read that was
captured at the first launch of that size; where they do not, those of the launch before must be as they were.

Only what some kernel may read is compared: of a row that computes nothing its offsets and its ids, which must mark it
as padding; of a row that is no draft the count, which must be that of no draft (0) or of a plain state (1).

In the catalogue of bugs: graph-pad-rows-keep-old-slot, dummy-run-writes-through-stale-row,
per-request-metadata-padded-by-token-count, one-token-first-chunk-run-as-decode,
decode-graph-replayed-for-a-prefill-row, state-indices-all-zero-after-metadata-rebuild, unstable-argsort-of-spec-mask,
accepted-state-never-committed, padded-dummy-rows-advance-state, returned-buffer-is-cached,
state-column-from-wrong-block-size; and the likes in a builder of graph-capture-freezes-branch,
neg-index-clamped-to-live-slot, unbounded-accepted-count, accepted-count-read-from-another-row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gdn_verify.cases.case import Batch, Case
from gdn_verify.cases.presentation import Presentation
from gdn_verify.checks.splits import split_findings
from gdn_verify.checks.table_rows import table_findings
from gdn_verify.oracles.tables import committed, padded, tables
from gdn_verify.paths.builder import Begin, Build, Built, Commit, Roster, Setup
from gdn_verify.verdict import Check, Finding

Launching = Callable[[bool], None]


def judge(
    case: Case,
    presentation: Presentation,
    begin: Begin,
    *,
    persistent: bool,
    launching: Launching = lambda entered: None,
) -> Iterator[Finding]:
    """What is wrong in the first launch of `case` in which anything is; `begin` is a builder's, or a defective one's.

    `launching` is told when the builder's own code is entered and left. What that raises is not caught.
    """
    setup = setup_of(case, presentation)
    with _Entered(launching):
        maker = begin(setup)
    desk = _Desk(case, setup, maker.build, persistent, launching)
    for number, batch in enumerate(case.batches):
        found = [finding for pad_to in sizes(case, batch) for finding in desk.asked(number, batch, pad_to)]
        if maker.commit is not None and any(row.spec for row in batch.rows):
            with _Entered(launching):
                found += _commit_findings(case, number, presentation, maker.commit)
        yield from found
        if found:
            return  # what is built after it proves nothing


def setup_of(case: Case, presentation: Presentation) -> Setup:
    """What an engine knows before the launches of `case`."""
    rows = [row for batch in case.batches for row in batch.rows]
    drafts = any(row.spec for row in rows)
    return Setup(
        max_rows=max(graph_size(len(batch.rows)) for batch in case.batches),
        width=case.geometry.S if drafts else None,
        reads=any(row.read is not None for row in rows),
        conv_width=case.geometry.W,
        presentation=presentation,
    )


def graph_size(rows: int) -> int:
    """The least power of two that a launch of so many rows fits in, one at least."""
    return 1 << max(rows - 1, 0).bit_length()


def sizes(case: Case, batch: Batch) -> tuple[int | None, ...]:
    """Numbers of rows that a launch is filled up to; None for the launch as it is."""
    largest = max(graph_size(len(each.rows)) for each in case.batches)
    return tuple(dict.fromkeys((None, graph_size(len(batch.rows)), largest)))


@dataclass
class _Entered:
    """Between two words to whoever waits."""

    launching: Launching

    def __enter__(self) -> None:
        self.launching(True)

    def __exit__(self, *raised: object) -> None:
        self.launching(False)


@dataclass
class _Desk:
    """Where a case's tables are asked for: what was captured, and what the launch before was given."""

    case: Case
    setup: Setup
    build: Build
    persistent: bool
    launching: Launching
    captured: dict[int, Mapping[str, Tensor]] = field(default_factory=dict)
    before: tuple[Mapping[str, Tensor], dict[str, Tensor]] = field(default_factory=lambda: ({}, {}))

    def asked(self, number: int, batch: Batch, pad_to: int | None) -> list[Finding]:
        """Findings of one launch, filled up to `pad_to` rows."""
        with _Entered(self.launching):
            built = self.build(Roster(batch.rows, pad_to))
        where = f"launch {number}" if pad_to is None else f"launch {number} filled up to {pad_to} rows"
        batch = batch if pad_to is None else padded(batch, pad_to)
        want = tables(batch, self.setup.width or 1, self.setup.presentation)
        seen, how = self._seen(built, pad_to)
        found = [*table_findings(seen, want, batch, self.setup, where + how)]
        found += split_findings(built.splits, want, batch, where)
        return [*found, *self._changed(built, where)]

    def _seen(self, built: Built, pad_to: int | None) -> tuple[Mapping[str, Tensor], str]:
        """What the kernels of the launch read: what is returned, or what was at the graph's capture."""
        if not self.persistent or pad_to is None:
            return built.tensors, ""
        if (first := self.captured.get(pad_to)) is None:
            self.captured[pad_to] = built.tensors
            return built.tensors, ""
        return first, ", where a graph captured before reads"

    def _changed(self, built: Built, where: str) -> Iterator[Finding]:
        """Tables of the launch before that are not what they were, though nothing says that they are reused."""
        given, copies = self.before
        self.before = built.tensors, {name: table.clone() for name, table in built.tensors.items()}
        for name in () if self.persistent else given:
            if not torch.equal(given[name], copies[name]):
                message = f"{where}: {name} of the launch before was {copies[name].tolist()}, is {given[name].tolist()}"
                yield Finding(Check.TABLES, f"{name} of the launch before", message)


def _commit_findings(case: Case, number: int, presentation: Presentation, commit: Commit) -> Iterator[Finding]:
    """The commit of a launch's drafts, on pools of which every element is another number."""
    batch = case.batches[number]
    counts = [1 + (number + n) % max(row.tokens, 1) if row.spec else 1 for n, row in enumerate(batch.rows)]
    pools = _numbered(case, presentation)
    want = _after(batch, counts, case.geometry.W - 1, presentation, pools)
    got = pools[0].clone(), pools[1].clone()
    ids = torch.tensor(tables(batch, case.geometry.S, presentation).state_indices)
    commit(got[0], got[1], ids, torch.tensor(counts))
    for name, right, wrong in zip(("pool", "conv pool"), want, got, strict=True):
        if len(places := (right != wrong).nonzero()):
            place = tuple(places[0].tolist())
            message = (
                f"launch {number}, {counts} tokens accepted: slot {place[0]} of the {name} is that of "
                f"{_whose(wrong[place], pools[name != 'pool'])} at {list(place[1:])}, it must be that of "
                f"{_whose(right[place], pools[name != 'pool'])}"
            )
            yield Finding(Check.TABLES, f"commit to the {name}", message)


def _numbered(case: Case, presentation: Presentation) -> tuple[Tensor, Tensor]:
    """Pools [P, 1] and [P, 2, C] of distinct numbers."""
    slots = case.slots + presentation.first_slot
    shape = slots, 2, case.geometry.C
    return torch.arange(slots)[:, None].float(), torch.arange(slots * 2 * case.geometry.C).reshape(shape).float()


def _after(
    batch: Batch, counts: list[int], past: int, presentation: Presentation, pools: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    copies, first = committed(batch, counts, past), presentation.first_slot
    pool, conv_pool = (pool.clone() for pool in pools)
    for to, source in copies.states.items():
        pool[to + first] = pools[0][source + first]
    for (to, at), (source, column) in copies.columns.items():
        conv_pool[to + first, :, at] = pools[1][source + first, :, column]
    return pool, conv_pool


def _whose(number: Tensor, pool: Tensor) -> str:
    """Where a number stood before the commit."""
    at = (pool == number).nonzero()
    return f"slot {int(at[0, 0])}{list(at[0, 1:].tolist())}" if len(at) else f"nobody ({float(number)})"
