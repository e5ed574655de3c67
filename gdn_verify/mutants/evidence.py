"""Which check sees which bug of the catalogue, and within how many cases. Tests show every line of it.

A check's description names a bug exactly if it stands here (`tests/test_named_bugs.py`). What is planted is the bug's
mechanism, in a copy of this project's own code, as its file in `cases/bugs` tells; `docs/bugs.md` is written from this.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gdn_verify.cases.catalogue import Mutant
from gdn_verify.mutants import BUGS, METADATA, MUTANTS


@dataclass(frozen=True)
class Shown:
    """`check`, a module of `gdn_verify.checks`, sees a mutant of the catalogue within so many cases."""

    defect: str
    check: str
    within: int

    @property
    def bug(self) -> str:
        """The bug of the catalogue that the mutant is the like of."""
        return BUGS[self.defect]


@dataclass(frozen=True)
class Hunt(Shown):
    """Likewise, of the gate's cases of the mutant's path, host and first kind."""

    within: int = 10

    @property
    def mutant(self) -> Mutant:
        """Where it is planted, and what launches show it."""
        return MUTANTS[self.defect]


HUNTS = (
    Hunt("head_of_a_wide_state", "values"),
    Hunt("head_of_a_wide_state", "memory", 20),
    Hunt("whole_slot_as_window", "memory"),
    Hunt("window_read_from_the_end", "values"),
    Hunt("window_per_token", "memory"),
    Hunt("length_from_the_stride", "memory"),
    Hunt("length_from_the_stride", "values"),
    Hunt("history_replaced_by_zeros", "memory", 30),
    Hunt("squeezed_launch_of_one_token", "values"),
    Hunt("short_prompt_stored_where_it_was_read", "memory", 20),
    Hunt("state_sliced_as_one_block", "values"),
    Hunt("decay_forgotten", "values"),
    Hunt("new_state_forgotten", "values"),
    Hunt("state_in_low_precision", "values"),
    Hunt("decay_in_low_precision", "values"),
    Hunt("correction_with_the_decay", "values", 30),
    Hunt("norm_of_the_larger", "values"),
    Hunt("eps_on_the_mean", "values"),
    Hunt("norm_of_the_mean", "values"),
    Hunt("tiled_heads", "values"),
    Hunt("tiled_heads_of_q", "values"),
    Hunt("tiled_heads_of_k", "values"),
    Hunt("draft_states_transposed", "values"),
    Hunt("draft_taken_for_a_step", "values"),
    Hunt("draft_taken_for_a_step", "memory", 20),
    Hunt("mask_after_the_exponent", "values", 16),
    Hunt("decay_of_an_earlier_row", "values", 30),
    Hunt("sum_not_carried", "values"),
    Hunt("decay_as_two_exponentials", "values", 16),
    Hunt("one_row_is_never_short", "values", 20),
    Hunt("chunk_numbers_for_starts", "values"),
    Hunt("chunks_of_all_tokens", "values"),
    Hunt("rows_without_tokens_are_begun", "launches", 4),
    Hunt("width_of_the_first_launch", "values", 30),
    Hunt("anchor_in_the_middle", "values", 60),
    Hunt("rows_of_the_tail_exchanged", "values"),
    Hunt("differences_of_zero_dropped", "values"),
    Hunt("trials_on_the_callers_state", "values"),
    Hunt("z_of_a_power_of_two", "memory"),
    Hunt("split_into_views_at_odd_ratios", "values"),
    Hunt("rows_on_the_second_axis", "launches", 2),
)
"""`tests/test_catalogue_defects.py`."""

ACCESSES = {
    "padding_id_not_asked": 16,
    "negative_ids_not_asked": 16,
    "negative_ids_raised_to_zero": 16,
    "slot_in_32_bits": 16,
    "draft_slot_in_32_bits": 16,
    "prompt_slot_in_32_bits": 16,
    "product_in_32_bits": 16,
    "conv_offset_in_32_bits": 16,
    "state_unmasked_past_k": 16,
    "fresh_rows_read_their_slot": 16,
    "last_row_of_w_not_stored": 16,
    "upper_half_of_b_not_stored": 16,
    "chunks_of_full_rows": 16,
    "beta_behind_the_row": 16,
    "window_stored_while_it_is_read": 16,
    "short_window_to_the_slot_read": 16,
    "parts_joined_without_a_barrier": 16,
}
"""Mutants of which every access is watched, and the cases they are seen within: `tests/kernels/triton`."""

LAUNCHES = {"branch_of_the_capture": 6, "busy_when_idle": 4}
"""Mutants that captured and idle launches show: `tests/checks/test_launches.py`."""

LAWS = {
    ("slot_zero_is_nobodys", "slots"): "rows",
    ("state_counted_twice", "split"): "rows",
    ("resumed_prompts_lose_their_state", "split"): "rows",
    ("state_before_the_last_token", "split"): "rows",
    ("state_of_the_row_before", "packing"): "rows",
    ("filling_moves_the_state", "packing"): "rows",
    ("single_tokens_reversed", "rows"): "rows",
    ("ulp_of_the_last_token", "causality"): "rows",
    ("state_sliced_as_one_block", "sharding"): "heads",
    ("no_decay_is_full_decay", "no-decay"): "gates",
    ("scale_of_zero_is_the_default", "scale"): "linear",
    ("one_token_chunk_as_decode", "fresh"): "kinds",
    ("filling_moves_the_state", "kinds"): "kinds",
    ("one_token_chunk_as_decode", "content"): "same",
    ("compact_projections", "layout"): "same",
    ("resumed_prompts_lose_their_state", "hand-over"): "handover",
}
"""Mutants and laws, and the module that the law is in: `tests/checks/test_law_defects.py`, within 80 cases."""

LAWS_OF_KERNELS = {
    ("segments_apply_twice_the_state", "split"): "rows",
    ("chunks_of_another_row", "packing"): "rows",
    ("beta_behind_the_row", "packing"): "rows",
    ("differences_of_zero_dropped", "no-decay"): "gates",
}
"""Likewise, in copies of the kernels: `tests/kernels/triton/test_laws_catch.py`, within 25."""

OF_LAWS, OF_TABLES = 80, 300
PLANTED_BUGS = {"dtype_of_the_first_launch": ("values", 40)}
"""Of `mutants.planted`, those that are of the catalogue: `tests/test_planted_defects.py`."""


def shown() -> Iterator[Shown]:
    """Every line, a bug and a check at times twice."""
    yield from HUNTS
    yield from (Shown(defect, *line) for defect, line in PLANTED_BUGS.items())
    yield from (Shown(defect, "accesses", within) for defect, within in ACCESSES.items())
    yield from (Shown(defect, "launches", within) for defect, within in LAUNCHES.items())
    yield from (Shown(defect, f"laws/{module}", OF_LAWS) for (defect, _), module in LAWS.items())
    yield from (Shown(defect, f"laws/{module}", OF_LAWS) for (defect, _), module in LAWS_OF_KERNELS.items())
    yield from (Shown(defect, "tables", OF_TABLES) for defect in METADATA if defect in BUGS)
