"""Which check sees which bug of the catalogue, and within how many cases. Tests show every line of it.

A check's description names a bug exactly if it stands here (`tests/test_named_bugs.py`). What is planted is the bug's
mechanism, in a copy of this project's own code; `docs/bugs.md` is written from these tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gdn_verify.cases.contract import Kind
from gdn_verify.mutants import CATALOGUE, METADATA


@dataclass(frozen=True)
class Shown:
    """`check`, a module of `gdn_verify.checks`, sees `bug` within so many cases, planted as `defect`."""

    bug: str
    check: str
    within: int
    defect: str = ""


@dataclass(frozen=True)
class Hunt:
    """A defect that is planted in a path: in which launches which check sees it, within so many of the gate's cases."""

    defect: str
    kind: Kind
    check: str
    within: int = 10
    path: str = "fallback"
    host: str = "cpu"

    @property
    def bug(self) -> str:
        """The bug of the catalogue that the defect is."""
        return next(names[self.defect] for names in CATALOGUE.values() if self.defect in names)


def _chunks(defect: str, within: int = 10) -> Hunt:
    return Hunt(defect, Kind.PREFILL, "values", within, "chunk-delta", "interpreter")


HUNTS = (
    Hunt("head_of_a_wide_state", Kind.SPEC, "values"),
    Hunt("head_of_a_wide_state", Kind.SPEC, "memory", 20),
    Hunt("whole_slot_as_window", Kind.DECODE, "memory"),
    Hunt("window_read_from_the_end", Kind.DECODE, "values"),
    Hunt("window_per_token", Kind.SPEC, "memory"),
    Hunt("length_from_the_stride", Kind.DECODE, "memory"),
    Hunt("length_from_the_stride", Kind.DECODE, "values"),
    Hunt("history_replaced_by_zeros", Kind.PREFILL, "memory"),
    Hunt("squeezed_launch_of_one_token", Kind.DECODE, "values"),
    Hunt("short_prompt_stored_where_it_was_read", Kind.PREFILL, "memory", 20),
    Hunt("state_sliced_as_one_block", Kind.DECODE, "values"),
    Hunt("decay_forgotten", Kind.DECODE, "values"),
    Hunt("new_state_forgotten", Kind.DECODE, "values"),
    Hunt("state_in_low_precision", Kind.SPEC, "values"),
    Hunt("decay_in_low_precision", Kind.DECODE, "values"),
    Hunt("correction_with_the_decay", Kind.DECODE, "values", 30),
    Hunt("norm_of_the_larger", Kind.DECODE, "values"),
    Hunt("eps_on_the_mean", Kind.DECODE, "values"),
    Hunt("norm_of_the_mean", Kind.DECODE, "values"),
    Hunt("tiled_heads", Kind.DECODE, "values"),
    Hunt("tiled_heads_of_q", Kind.DECODE, "values"),
    Hunt("tiled_heads_of_k", Kind.DECODE, "values"),
    Hunt("draft_states_transposed", Kind.SPEC, "values"),
    Hunt("draft_taken_for_a_step", Kind.SPEC, "values"),
    Hunt("draft_taken_for_a_step", Kind.SPEC, "memory", 20),
    _chunks("mask_after_the_exponent"),
    _chunks("decay_of_an_earlier_row", 30),
    _chunks("sum_not_carried"),
    _chunks("decay_as_two_exponentials"),
    _chunks("one_row_is_never_short", 20),
    _chunks("chunk_numbers_for_starts"),
    _chunks("chunks_of_all_tokens"),
    Hunt("trials_on_the_callers_state", Kind.DECODE, "values"),
    Hunt("z_of_a_power_of_two", Kind.PREFILL, "memory"),
    Hunt("split_into_views_at_odd_ratios", Kind.DECODE, "values"),
    Hunt("rows_on_the_second_axis", Kind.DECODE, "launches", 2, "fused-decode", "interpreter"),
)
"""`tests/test_catalogue_defects.py`."""

ACCESSES = {
    "null-block-zero-guard": 16,
    "neg-index-oob": 16,
    "neg-index-clamped-to-live-slot": 16,
    "state-pool-offset-int32": 16,
    "cast-after-multiply": 16,
    "conv-offsets-int32": 16,
    "gate-load-unmasked-past-K": 16,
    "recompute-w-u-leaves-elements": 16,
    "kkt-upper-blocks-unwritten": 16,
    "chunk-count-underestimated": 16,
    "substitution-reads-past-T": 16,
    "conv-state-overwritten-while-read": 16,
    "short-chunk-state-into-shared-prefix-block": 16,
}
"""Bugs of which every access is watched, and the cases they are seen within: `tests/kernels/triton`."""

LAUNCHES = {"graph-capture-freezes-branch": 6, "dummy-run-writes-through-stale-row": 4}
"""Bugs that captured and idle launches show: `tests/checks/test_launches.py`."""

LAWS = {
    ("slot0-valid-but-treated-as-null", "slots"): "rows",
    ("s0-counted-twice-in-parallel-scan", "split"): "rows",
    ("precopy-skipped-on-chunk-continuation", "split"): "rows",
    ("snapshot-index-grid-mismatch", "split"): "rows",
    ("cu-seqlens-reaches-conv-but-not-recurrence", "packing"): "rows",
    ("prompt-tail-padded-to-k-plus-1", "packing"): "rows",
    ("unstable-argsort-of-spec-mask", "rows"): "rows",
    ("noncausal-anchor", "causality"): "rows",
    ("conv-state-sliced-as-one-block", "sharding"): "heads",
    ("zero-gate-difference-dropped", "no-decay"): "gates",
    ("scale-zero-sentinel", "scale"): "linear",
    ("one-token-first-chunk-run-as-decode", "fresh"): "kinds",
    ("prompt-tail-padded-to-k-plus-1", "kinds"): "kinds",
    ("one-token-first-chunk-run-as-decode", "content"): "same",
    ("compact-layout-assumed-for-packed-qkv", "layout"): "same",
    ("precopy-skipped-on-chunk-continuation", "hand-over"): "handover",
}
"""Bugs and laws, and the module that the law is in: `tests/checks/test_law_defects.py`, within 80 cases."""

LAWS_OF_KERNELS = {("substitution-reads-past-T", "packing"): "rows"}
"""Likewise, in copies of the kernels: `tests/kernels/triton/test_laws_catch.py`."""

PLANTED_BUGS = {"dtype_of_the_first_launch": ("dtype-reinterpreted-and-cache-key-too-small", "values", 40)}
"""Of `mutants.planted`, those that are bugs of the catalogue: `tests/test_planted_defects.py`."""

OF_LAWS, OF_TABLES = 80, 300


def shown() -> Iterator[Shown]:
    """Every line, a bug and a check at times twice."""
    yield from (Shown(hunt.bug, hunt.check, hunt.within, hunt.defect) for hunt in HUNTS)
    yield from (Shown(*line, defect) for defect, line in PLANTED_BUGS.items())
    yield from (Shown(bug, "accesses", within) for bug, within in ACCESSES.items())
    yield from (Shown(bug, "launches", within) for bug, within in LAUNCHES.items())
    yield from (Shown(bug, f"laws/{module}", OF_LAWS) for (bug, _), module in {**LAWS, **LAWS_OF_KERNELS}.items())
    yield from (Shown(bug, "tables", OF_TABLES, defect) for defect, bug in METADATA.items() if bug)
