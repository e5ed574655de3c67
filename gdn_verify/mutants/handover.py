"""Defects of what outlives a launch: slots, tables and counts that belong to another step or another request.

Planted as in `planted`, by changing what goes in or comes out. Some remember the launches before, as an engine's
buffers do, and are right in every launch that is looked at alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from torch import Tensor

from gdn_verify.cases.case import Row
from gdn_verify.paths.base import Launch, Outputs, Path

Run = Callable[[Launch], Outputs]
Slots = tuple[int | None, ...]


def _with(launch: Launch, **tensors: Tensor) -> Launch:
    return replace(launch, tensors={**launch.tensors, **tensors})


def _live(launch: Launch) -> Iterator[tuple[int, Row]]:
    return launch.batch.live_rows()


def _named(launch: Launch) -> set[int]:
    """Slots that live rows name."""
    return {slot for _, row in _live(launch) for slot in (*row.slots, row.read) if slot is not None}


def one_token_chunk_as_decode(path: Path) -> Run:
    """A first chunk of one token reads its slot, as a decode step does."""

    def run(launch: Launch) -> Outputs:
        initial = launch["has_initial_state"].clone()
        for number, row in _live(launch):
            initial[number] |= row.fresh and row.tokens == 1
        return path.run(_with(launch, has_initial_state=initial))

    return run


def count_after_a_step_without_drafts(path: Path) -> Run:
    """After a step without drafts one token too many counts as accepted."""
    alone: set[Slots] = set()

    def run(launch: Launch) -> Outputs:
        rows = [(number, row) for number, row in _live(launch) if row.spec]
        counts = launch.get("num_accepted_tokens")
        if counts is not None:
            counts = counts.clone()
            for number, row in rows:
                counts[number] += row.slots in alone and counts[number] < len(row.slots)
            launch = _with(launch, num_accepted_tokens=counts)
        alone.difference_update(row.slots for _, row in rows)
        alone.update(row.slots for _, row in rows if row.tokens == 1)
        return path.run(launch)

    return run


def states_in_column_0(path: Path) -> Run:
    """A draft's states all go to column 0, the last one on top."""

    def run(launch: Launch) -> Outputs:
        pool, physical = launch["ssm_pool"], launch.presentation.physical
        before = pool.clone()
        outputs = path.run(launch)
        for _, row in _live(launch):
            if row.spec and len(row.written) > 1:
                first, *others, last = (physical(slot) for slot in row.written)
                pool[first] = pool[last]
                for slot in (*others, last):
                    pool[slot] = before[slot]
        return outputs

    return run


def padded_row_keeps_its_slot(path: Path) -> Run:
    """A row of padding has the table of whoever stood in its place when the launch was larger."""
    stood: dict[int, Tensor] = {}

    def run(launch: Launch) -> Outputs:
        indices = launch["state_indices"].clone()
        taken = {launch.presentation.physical(slot) for slot in _named(launch)}
        for number, row in enumerate(launch.batch.rows):
            old = stood.get(number)
            if row.padded and old is not None and old.shape == indices[number].shape and not taken & _ids(old):
                indices[number] = old
        stood.update({number: indices[number].clone() for number, _ in _live(launch)})
        return path.run(_with(launch, state_indices=indices))

    return run


def _ids(indices: Tensor) -> set[int]:
    return set(indices.reshape(-1).tolist())


def prefix_not_copied(path: Path) -> Run:
    """A prefix is shared where it should be copied: whoever goes on with the copy goes on in the original."""
    alias: dict[int, int] = {}

    def run(launch: Launch) -> Outputs:
        for move in launch.batch.moves:
            if len(move.slots) == 1:
                alias[move.to] = move.source
        for _, row in _live(launch):
            if row.fresh:
                alias.pop(row.slots[0] or 0, None)
        indices = launch["state_indices"].clone()
        for to, source in alias.items():
            indices[indices == launch.presentation.physical(to)] = launch.presentation.physical(source)
        return path.run(_with(launch, state_indices=indices))

    return run


def resumed_from_its_old_slot(path: Path) -> Run:
    """A request that was moved while it rested reads, when it comes back, where it was before."""
    home: dict[int, int] = {}

    def run(launch: Launch) -> Outputs:
        home.update({move.to: move.source for move in launch.batch.moves if len(move.slots) == 1})
        indices = launch["state_indices"]
        columns = indices if indices.ndim == 1 else indices[:, 0]
        reads = launch.get("read_indices")
        reads = columns.clone() if reads is None else reads.clone()
        for number, row in _live(launch):
            old = home.pop(row.slots[0] or 0, None)
            if old is not None and not row.spec and not row.fresh and row.read is None:
                reads[number] = launch.presentation.physical(old)
        return path.run(_with(launch, read_indices=reads))

    return run


def cleared_again_in_verify(path: Path) -> Run:
    """The clearing of a new request's state is carried out once more in the step after, if that verifies a draft."""
    new: set[int | None] = set()

    def run(launch: Launch) -> Outputs:
        initial = launch["has_initial_state"].clone()
        for number, row in _live(launch):
            initial[number] &= not (row.spec and row.slots[0] in new)
        new.clear()
        new.update(row.slots[0] for _, row in _live(launch) if row.fresh)
        return path.run(_with(launch, has_initial_state=initial))

    return run


@dataclass
class _Counts:
    """Accepted counts in the order of the launch before."""

    tables: list[Slots] = field(default_factory=list)

    def stale(self, launch: Launch, counts: Tensor) -> Tensor:
        """To each draft the count of whoever stood in its place before, if both are still here."""
        mine = {row.slots: int(counts[number]) for number, row in _live(launch) if row.spec}
        stale = counts.clone()
        for number, row in _live(launch):
            if row.slots in mine and row.slots in self.tables and number < len(self.tables):
                stale[number] = mine.get(self.tables[number], int(counts[number]))
        self.tables = [row.slots for row in launch.batch.rows]
        return stale


def count_of_another_row(path: Path) -> Run:
    """Accepted counts do not move along when rows change places."""
    memory = _Counts()

    def run(launch: Launch) -> Outputs:
        counts = launch.get("num_accepted_tokens")
        if counts is None:
            memory.tables = [row.slots for row in launch.batch.rows]
            return path.run(launch)
        return path.run(_with(launch, num_accepted_tokens=memory.stale(launch, counts)))

    return run


def zero_ids_after_a_resize(path: Path) -> Run:
    """When there are more rows or fewer than before, the first of them has slot 0 for its own."""
    sizes: list[int] = []

    def run(launch: Launch) -> Outputs:
        indices = launch["state_indices"].clone()
        if sizes and sizes[-1] != len(launch.batch.rows) and 0 not in _named(launch) and len(indices):
            indices[0] = launch.presentation.physical(0)
        sizes.append(len(launch.batch.rows))
        return path.run(_with(launch, state_indices=indices))

    return run
