"""Defective copies of paths: the suite measures itself on them (floor 4)."""

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


def planter_of(defect: str) -> str:
    """Where a defect is planted, as "module:function"."""
    return f"{HANDOVER_IN if defect in HANDOVER else PLANTED_IN}:{defect}"
