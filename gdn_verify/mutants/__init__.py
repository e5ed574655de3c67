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


def planter_of(defect: str) -> str:
    """Where a defect is planted, as "module:function"."""
    module = HANDOVER_IN if defect in HANDOVER else METADATA_IN if defect in METADATA else PLANTED_IN
    return f"{module}:{defect}"
