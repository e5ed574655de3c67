"""How a path is fed: packing, layout, strides, alignment, index type, sentinel, poison.

None of this is part of the problem. A case fed in two presentations has one expectation.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gdn_verify.cases.contract import ConvLayout, Packing, StateOrder, require

__all__ = ["ConvLayout", "IndexType", "Poison", "Presentation"]


class IndexType(StrEnum):
    """Element type of state indices."""

    I32 = "int32"
    I64 = "int64"


class Poison(StrEnum):
    """What unread memory holds: free slots, outputs before the launch, padded inputs, fresh rows' slots."""

    NAN = "nan"
    HUGE = "huge"
    PLAUSIBLE = "plausible"


@dataclass(frozen=True)
class Presentation:
    """One way of laying a case out in memory.

    `slot_pad` elements lie between two slots of a pool, `row_pad` between two tokens of an activation, twice as many
    between those of k and β;
    `misalign` elements shift the start of every buffer. `table_pad` more columns stand between two rows of a slot
    table, and hold ids of slots too; a table of one column is a column of a wider one. Two
    columns of it lie `table_step` elements apart, the accepted counts of two rows, and their flags of an initial state,
    `row_step`. `sentinel` is the id written for a padded row.
    `first_slot` is the pool slot of logical slot 0, 1 for a path that reserves slot 0.
    """

    packing: Packing = Packing.FLAT
    state_order: StateOrder = StateOrder.VK
    conv_layout: ConvLayout = ConvLayout.C_CONTIGUOUS
    slot_pad: int = 0
    row_pad: int = 0
    misalign: int = 0
    table_pad: int = 0
    table_step: int = 1
    row_step: int = 1
    index_type: IndexType = IndexType.I32
    sentinel: int = -1
    first_slot: int = 0
    poison: Poison = Poison.NAN

    def __post_init__(self) -> None:
        for name, high in (("slot_pad", 4096), ("row_pad", 4096), ("misalign", 64), ("table_pad", 64)):
            value = getattr(self, name)
            require(0 <= value <= high, f"presentation.{name}", value, f"lies in 0…{high} elements")
        for name in ("table_step", "row_step"):
            value = getattr(self, name)
            require(1 <= value <= 8, f"presentation.{name}", value, "lies in 1…8 elements")
        require(self.first_slot in (0, 1), "presentation.first_slot", self.first_slot, "is 0 or 1")

    def physical(self, slot: int | None) -> int:
        """The state index that names a logical slot, or the sentinel for None."""
        return self.sentinel if slot is None else slot + self.first_slot
