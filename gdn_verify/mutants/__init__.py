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
)
"""Names of the functions in `planted`, known without importing torch; a test holds the two together."""
