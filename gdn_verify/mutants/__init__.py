"""Defective copies of paths and table builders: the suite measures itself on them (floor 4)."""

PLANTED_IN = "gdn_verify.mutants.planted"
PLANTED = (
    "wrong_head_map",
    "dropped_decay",
    "neighbour_slot",
    "unwritten_element",
    "byte_past_the_end",
    "beta_in_bfloat16",
    "beta_times_0_999",
    "state_ignored_on_second_chunk",
    "dtype_of_the_first_launch",
)
"""Names of the functions in `planted`, known without importing torch; a test holds the two together."""

HANDOVER_IN = "gdn_verify.mutants.handover"
HANDOVER = (
    "one_token_chunk_as_decode",
    "count_after_a_step_without_drafts",
    "states_in_column_0",
    "padded_row_keeps_its_slot",
    "prefix_not_copied",
    "resumed_from_its_old_slot",
    "cleared_again_in_verify",
    "count_of_another_row",
    "zero_ids_after_a_resize",
)
"""Names of the functions in `handover`, likewise: defects of what outlives a launch."""

METADATA_IN = "gdn_verify.mutants.metadata"
METADATA = {
    "stale_tail": "graph-pad-rows-keep-old-slot",
    "sleeping_row_keeps_its_slot": "dummy-run-writes-through-stale-row",
    "padding_counted_as_steps": "dummy-run-writes-through-stale-row",
    "sliced_by_tokens": "per-request-metadata-padded-by-token-count",
    "first_token_as_a_step": "one-token-first-chunk-run-as-decode",
    "prompts_leave_the_buffers": "decode-graph-replayed-for-a-prefill-row",
    "zeros_after_a_resize": "state-indices-all-zero-after-metadata-rebuild",
    "groups_out_of_order": "unstable-argsort-of-spec-mask",
    "nothing_committed": "accepted-state-never-committed",
    "conv_state_not_committed": "accepted-state-never-committed",
    "offsets_go_on_in_padding": "padded-dummy-rows-advance-state",
    "tables_kept_by_size": "returned-buffer-is-cached",
    "plan_of_the_capture": "graph-capture-freezes-branch",
    "padding_id_of_the_other_convention": "neg-index-clamped-to-live-slot",
    "counts_of_another_row": "accepted-count-read-from-another-row",
    "counts_of_drafts_alone": "unbounded-accepted-count",
    "column_of_another_block_size": "state-column-from-wrong-block-size",
    "counts_not_reset": "",
    "offsets_without_the_first": "",
    "narrow_ids": "",
    "narrow_draft_table": "",
    "drafts_not_marked": "",
    "every_row_resumed": "",
    "read_where_it_writes": "",
}
"""Names of the functions in `metadata`, defects of table builders, and the bug of the catalogue that each is the like
of; "" where the catalogue has none."""


CATALOGUE = {
    "conv_states": {
        "head_of_a_wide_state": "oversized-conv-state-reads-head-not-tail",
        "whole_slot_as_window": "spec-pool-column-slice-missing",
        "window_read_from_the_end": "spec-pool-column-slice-missing",
        "window_per_token": "token-indexed-vs-sliding-window-conv-state",
        "length_from_the_stride": "state-len-from-stride",
        "history_replaced_by_zeros": "shortconv-batch1-and-history-loss",
        "squeezed_launch_of_one_token": "shortconv-batch1-and-history-loss",
        "short_prompt_stored_where_it_was_read": "short-chunk-state-into-shared-prefix-block",
        "state_sliced_as_one_block": "conv-state-sliced-as-one-block",
    },
    "recurrence": {
        "decay_forgotten": "decay-or-state-update-forgotten",
        "new_state_forgotten": "decay-or-state-update-forgotten",
        "state_in_low_precision": "decay-or-state-kept-in-low-precision",
        "decay_in_low_precision": "decay-or-state-kept-in-low-precision",
        "correction_with_the_decay": "delta-correction-inside-wrong-branch",
        "norm_of_the_larger": "l2norm-max-vs-rsqrt",
        "eps_on_the_mean": "eps-on-mean-instead-of-sum",
        "norm_of_the_mean": "eps-on-mean-instead-of-sum",
        "tiled_heads": "gva-head-map",
        "tiled_heads_of_q": "gva-head-map",
        "tiled_heads_of_k": "gva-head-map",
        "draft_states_transposed": "verify-state-buffer-transposed",
        "draft_taken_for_a_step": "fused-kernel-swap-drops-spec-flags",
    },
    "chunks": {
        "mask_after_the_exponent": "exp-before-mask-in-wy-and-o",
        "decay_of_an_earlier_row": "block-end-decay-from-thread-local-coord",
        "sum_not_carried": "log-cumsum-not-carried",
        "decay_as_two_exponentials": "decay-factored-into-two-exps",
        "one_row_is_never_short": "tail-not-masked-in-fixed-length-mode",
        "chunk_numbers_for_starts": "chunk-index-helper-wrong-argument",
        "chunks_of_all_tokens": "chunk-count-underestimated",
    },
    "wrappers": {
        "trials_on_the_callers_state": "autotune-trials-mutate-state",
        "z_of_a_power_of_two": "z-tail-dropped-for-ratio-3",
        "split_into_views_at_odd_ratios": "qkvzba-fast-path-only-pow2-ratio",
        "rows_on_the_second_axis": "grid-dim-65535",
    },
}
"""Modules here, names of the functions in each, and the bug of the catalogue that each defect is."""

NAMES = (*PLANTED, *HANDOVER, *METADATA, *(name for names in CATALOGUE.values() for name in names))
"""All defects that can be planted by name."""

_HOMES = (
    *((HANDOVER_IN, HANDOVER), (METADATA_IN, METADATA)),
    *((f"gdn_verify.mutants.{module}", names) for module, names in CATALOGUE.items()),
)


def planter_of(defect: str) -> str:
    """Where a defect is planted, as "module:function"."""
    home = next((module for module, names in _HOMES if defect in names), PLANTED_IN)
    return f"{home}:{defect}"
