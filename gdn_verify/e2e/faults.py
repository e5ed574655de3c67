"""Defects of an engine around its cores, beside those of `gdn_verify.mutants`, which are planted in the same way.

A fault of a path is a function from a path to a defective `run`; one of tables, from a builder to a defective `begin`.
Those that remember do so for one layer, as each layer has pools of its own. `CATALOGUE` says which scenario shows what.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module

import torch
from torch import Tensor

from gdn_verify.cases.case import Row
from gdn_verify.mutants import METADATA, planter_of
from gdn_verify.mutants.inputs import Run, altered, changed
from gdn_verify.mutants.remembered import keeping
from gdn_verify.paths import find_subject
from gdn_verify.paths.base import Launch, Outputs, Path
from gdn_verify.paths.builder import Begin, Builder, Maker, Roster, Setup

BUILDER = "tables"
"""Whose tables a core has where a defect of builders is planted: this project's own."""
MOST_ROWS = 64


def _with(launch: Launch, **tensors: Tensor) -> Launch:
    return replace(launch, tensors={**launch.tensors, **tensors})


def beta_of_one(path: Path) -> Run:
    """β is 1: every token replaces what its key had."""
    return altered(path, lambda inputs, _: changed(inputs, beta=torch.ones_like))


def q_unscaled(path: Path) -> Run:
    """q̂ lacks its factor K^-½."""
    return altered(path, lambda inputs, launch: changed(inputs, q=lambda q: q * launch.geometry.K**0.5))


def window_of_resumed_prompts_forgotten(path: Path) -> Run:
    """A prompt that goes on is convolved as if nothing had come before."""

    def run(launch: Launch) -> Outputs:
        for row in launch.batch.rows:
            if row.tokens > 1 and not row.fresh and not row.spec:
                _clear_window(launch, row.slots[0])
        return path.run(launch)

    return run


def _clear_window(launch: Launch, slot: int | None) -> None:
    if slot is not None:
        launch["conv_pool"][launch.presentation.physical(slot), :, : launch.geometry.W - 1] = 0


def second_step_in_the_first_ones_slot(path: Path) -> Run:
    """The second decode row of a launch reads and writes the slot of the first."""

    def run(launch: Launch) -> Outputs:
        steps = [n for n, row in enumerate(launch.batch.rows) if row.tokens == 1 and not row.fresh and not row.spec]
        if len(steps) < 2 or launch["state_indices"].ndim == 2:
            return path.run(launch)
        indices = launch["state_indices"].clone()
        indices[steps[1]] = indices[steps[0]]
        return path.run(_with(launch, state_indices=indices))

    return run


def _remembering(path: Path, change: Callable[[Launch, set[int]], Launch]) -> Run:
    """The path on what `change` makes of a launch and of the slots that the layer's launches have written before."""
    written: set[int] = set()

    def run(launch: Launch) -> Outputs:
        outputs = path.run(change(launch, written))
        written.update(slot for row in launch.batch.rows for slot in row.written)
        return outputs

    return run


def _resumed(launch: Launch, whose: Callable[[Row, bool], bool]) -> Launch:
    """The launch with other rows' states looked at: `whose` is given a live row, and whether its was."""
    resumed = launch["has_initial_state"].clone()
    for number, row in launch.batch.live_rows():
        resumed[number] = whose(row, bool(resumed[number]))
    return _with(launch, has_initial_state=resumed)


def recycled_slot_not_cleared(path: Path) -> Run:
    """A request that begins in a slot of an earlier one goes on from what is there, its first token excepted."""
    return _remembering(
        path, lambda launch, written: _resumed(launch, lambda row, was: was or (row.fresh and row.slots[0] in written))
    )


def copied_state_forgotten(path: Path) -> Run:
    """A state that the engine has copied, as for a hit in the prefix cache, is not looked at."""
    return _remembering(
        path, lambda launch, written: _resumed(launch, lambda row, was: was and row.read_slot in written)
    )


def window_not_copied(path: Path) -> Run:
    """Of a state that the engine has copied, as for a hit in the prefix cache, the conv's inputs are missing."""

    def cleared(launch: Launch, written: set[int]) -> Launch:
        for _, row in launch.batch.live_rows():
            if not row.fresh and row.read_slot not in written:
                _clear_window(launch, row.slots[0])
        return launch

    return _remembering(path, cleared)


def beginner_keeps_the_slot(builder: Builder) -> Begin:
    """A row that begins has the slot of whoever stood in its place before."""
    return keeping(builder, "state_indices", lambda _, roster: {n for n, row in enumerate(roster.rows) if row.fresh})


PATH_FAULTS: dict[str, Callable[[Path], Run]] = {
    planted.__name__: planted
    for planted in (
        beta_of_one, q_unscaled, window_of_resumed_prompts_forgotten, second_step_in_the_first_ones_slot,
        recycled_slot_not_cleared, copied_state_forgotten, window_not_copied,
    )
}  # fmt: skip
TABLE_FAULTS: dict[str, Callable[[Builder], Begin]] = {beginner_keeps_the_slot.__name__: beginner_keeps_the_slot}


@dataclass(frozen=True)
class Fault:
    """A defect's name, and the scenario that shows it. One that `raises` is seen by that alone; of any other an
    exception says that the planting is broken."""

    name: str
    scenario: str = ""
    raises: bool = False

    @property
    def of_tables(self) -> bool:
        """Whether it is planted in a builder of tables."""
        return of_tables(self.name)


def of_tables(name: str) -> bool:
    """Whether a defect is one of builders, not of paths."""
    return name in TABLE_FAULTS or name in METADATA


def begin_of(name: str) -> Begin:
    """This project's builder with a defect of builders planted."""
    builder = find_subject(BUILDER)
    assert isinstance(builder, Builder)
    module, _, function = planter_of(name).partition(":")
    plant: Callable[[Builder], Begin] = TABLE_FAULTS.get(name) or getattr(import_module(module), function)
    return plant(builder)


def run_of(path: Path, name: str) -> Run:
    """The path's `run` with a defect planted: in itself, or in the tables that it is given."""
    if of_tables(name):
        return _on_tables(path, begin_of(name))
    module, _, function = planter_of(name).partition(":")
    plant: Callable[[Path], Run] = PATH_FAULTS.get(name) or getattr(import_module(module), function)
    return plant(path)


def _on_tables(path: Path, begin: Begin) -> Run:
    """The path on tables that a builder makes of each launch's rows; it is begun with the first."""
    maker: Maker | None = None

    def run(launch: Launch) -> Outputs:
        nonlocal maker
        if maker is None:
            g = launch.geometry
            width = g.S if g.num_spec else None
            maker = begin(Setup(MOST_ROWS, width, False, g.W, launch.presentation))
        built = maker.build(Roster(launch.batch.rows))
        return path.run(_with(launch, **built.tensors))

    return run


CATALOGUE: tuple[Fault, ...] = tuple(
    Fault(name, scenario)
    for scenario, names in {
        "seeded": (
            # the ten of which the separation was first measured
            "second_step_in_the_first_ones_slot", "dropped_decay", "beta_of_one", "resumed_prompts_lose_their_state",
            "every_row_resumed", "q_unscaled", "window_of_resumed_prompts_forgotten", "state_before_the_last_token",
            "tiled_heads", "single_tokens_reversed",
            # kernels
            "wrong_head_map", "beta_times_0_999", "beta_in_bfloat16", "new_state_forgotten", "neighbour_slot",
            "norm_of_the_mean", "state_counted_twice", "state_of_the_row_before", "history_replaced_by_zeros",
            # tables
            "offsets_without_the_first", "zeros_after_a_resize", "one_token_chunk_as_decode", "beginner_keeps_the_slot",
        ),
        "ngram": (
            "counts_of_another_row", "counts_of_drafts_alone", "states_in_column_0", "draft_taken_for_a_step",
            "draft_states_transposed", "head_of_a_wide_state", "whole_slot_as_window", "window_read_from_the_end",
            "cleared_again_in_verify", "count_after_a_step_without_drafts", "drafts_not_marked",
        ),
        "mtp": ("counts_of_another_row", "states_in_column_0"),
        "prefix": ("copied_state_forgotten", "window_not_copied"),
        "preemption": ("recycled_slot_not_cleared",),
    }.items()
    for name in names
)  # fmt: skip
"""What is seeded to see whether it is seen: kernels, tables, drafts, prefix cache, preemption."""


def fault_of(name: str) -> Fault:
    """The catalogue's fault called so; of another defect, one that no scenario is known to show."""
    return next((fault for fault in CATALOGUE if fault.name == name), Fault(name))
