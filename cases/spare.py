"""Spare slots: cases of one geometry on pools of one size, for kernels that are compiled for a pool's slots."""

from __future__ import annotations

from dataclasses import replace

from gdn_verify.cases.contract import Conventions, Geometry
from gdn_verify.cases.sizes import WIDE
from gdn_verify.cases.strategies import Fed


def enough(geometry: Geometry) -> int:
    """Slots of a pool that holds whatever is drawn of this geometry, and one that nobody may own."""
    return max(min(WIDE.max_slots, WIDE.max_state // (geometry.HV * geometry.K * geometry.V)), geometry.S + 2) + 1


def spared(fed: Fed, conventions: Conventions) -> Fed:
    """The case on a pool of `enough` slots, where it has fewer: those beyond its own belong to nobody.

    An id that marks padding may be a slot of the larger pool; another then takes its place.
    """
    case, shown = fed
    case = replace(case, slots=max(case.slots, enough(case.geometry) - shown.first_slot))
    ids = conventions.pad_ids(case.slots + shown.first_slot)
    return case, shown if shown.sentinel in ids or not ids else replace(shown, sentinel=ids[0])
