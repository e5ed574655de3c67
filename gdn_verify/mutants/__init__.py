"""Defective copies of paths and table builders: the suite measures itself on them (floor 4).

Most are the like of a bug that shipped elsewhere: which, and where it is planted, its file in `cases/bugs` says. All
are known by name without importing torch; tests hold names and functions together.
"""

from gdn_verify.cases.catalogue import Mutant, catalogue

PLACE = "gdn_verify.mutants"
MUTANTS: dict[str, Mutant] = {mutant.name: mutant for bug in catalogue() for mutant in bug.mutants}
"""The mutants of the catalogue."""
BUGS: dict[str, str] = {mutant.name: bug.slug for bug in catalogue() for mutant in bug.mutants}
"""The bug that each is the like of."""


def _of(module: str) -> tuple[str, ...]:
    """Mutants of the catalogue that are functions of this module."""
    return tuple(name for name, mutant in MUTANTS.items() if mutant.module == module)


PLANTED = (
    "wrong_head_map",
    "dropped_decay",
    "neighbour_slot",
    "unwritten_element",
    "byte_past_the_end",
    "beta_in_bfloat16",
    "beta_times_0_999",
    "state_ignored_on_second_chunk",
    *_of("planted"),
)
"""Names of the functions in `planted`."""

HANDOVER = (
    "count_after_a_step_without_drafts",
    "states_in_column_0",
    "prefix_not_copied",
    "resumed_from_its_old_slot",
    *_of("handover"),
)
"""Names of the functions in `handover`: defects of what outlives a launch."""

METADATA = (
    "counts_not_reset",
    "offsets_without_the_first",
    "narrow_ids",
    "narrow_draft_table",
    "drafts_not_marked",
    "every_row_resumed",
    "read_where_it_writes",
    *_of("metadata"),
)
"""Names of the functions in `metadata`: defects of table builders."""

CATALOGUE = {module: _of(module) for module in ("conv_states", "recurrence", "wrappers", "laws", "captures")}
"""Modules here whose functions are all of the catalogue, and the names of those."""

_HOMES = {"planted": PLANTED, "handover": HANDOVER, "metadata": METADATA}
SOURCES = tuple(name for name, mutant in MUTANTS.items() if mutant.edits)
"""Those that are edits of source, which `catalogued` plants."""

NAMES = (*(name for names in (*_HOMES.values(), *CATALOGUE.values()) for name in names), *SOURCES)
"""All defects that can be planted by name."""


def planter_of(defect: str) -> str:
    """Where a defect is planted, as "module:function"."""
    homes = {**_HOMES, **CATALOGUE, "catalogued": SOURCES}
    module = next((module for module, names in homes.items() if defect in names), "planted")
    return f"{PLACE}.{module}:{defect}"
