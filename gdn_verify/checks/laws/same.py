"""Laws of one launch that is done again: repeated, over other unread memory, in another layout."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gdn_verify.cases.contract import ConvLayout, Packing, StateOrder
from gdn_verify.cases.presentation import IndexType, Poison, Presentation
from gdn_verify.checks.laws.law import Law, Varied
from gdn_verify.checks.laws.relation import Likeness, Relation, Trial
from gdn_verify.checks.laws.shots import Chain, Setting
from gdn_verify.feed import initial_pools


def _needs_a_row(setting: Setting) -> str | None:
    return None if setting.live else "no live row"


def _bits(setting: Setting) -> Likeness:
    return Likeness.BITS if setting.path.conventions.deterministic else Likeness.NEAR


def repeat(setting: Setting) -> Varied:
    """The same launch from the same bytes gives the same bits, or within the budget where a path declares otherwise.

    No entry of the catalogue with this law's code runs on a processor: races show on a card.
    """
    return [Relation("launched again", (Trial(setting.base),), likeness=_bits(setting))]


def content(setting: Setting) -> Varied:
    """What nobody may read is of no matter: free slots, those of rows without initial state, padding, outputs before.

    Bugs: one-token-first-chunk-run-as-decode (a new row inherits its slot's old state).
    """
    found = []
    for poison in Poison:
        if poison is not setting.presentation.poison:
            shown = replace(setting.presentation, poison=poison)
            shot = replace(setting.base.shots[0], presentation=shown)
            chain = Chain(initial_pools(setting.case, setting.path, shown), (shot,))
            found.append(Relation(f"unread memory holding {poison}", (Trial(chain),), likeness=_bits(setting)))
    return found


def layout(setting: Setting) -> Varied:
    """Strides, alignment, packing, the order of a state's axes and the type of indices are of no matter.

    Bugs: compact-layout-assumed-for-packed-qkv (a tensor's stride is taken for that of a compact one).
    """
    kept: dict[str, Any] = {name: getattr(setting.presentation, name) for name in _VALUES}
    plain = replace(Presentation(), **kept)
    others = {"laid out plainly": plain, "laid out otherwise": replace(setting.presentation, **_otherwise(setting))}
    found = []
    for says, shown in others.items():
        if shown != setting.presentation:
            chain = Chain(setting.pools, (replace(setting.base.shots[0], presentation=shown),))
            found.append(Relation(says, (Trial(chain),)))
    return found


_VALUES = ("sentinel", "first_slot", "poison")
"""What of a presentation is no layout."""


def _otherwise(setting: Setting) -> dict[str, Any]:
    """Every part of the layout that a path can be given otherwise."""
    c, now = setting.path.capabilities, setting.presentation
    made: dict[str, Any] = {}
    for name, taken, members in (
        ("packing", c.packings, tuple(Packing)),
        ("state_order", c.state_orders, tuple(StateOrder)),
        ("conv_layout", c.conv_layouts, tuple(ConvLayout)),
    ):
        made[name] = next((m for m in members if m in taken and m != getattr(now, name)), getattr(now, name))
    if c.pool and c.int64_indices:
        made["index_type"] = IndexType.I32 if now.index_type is IndexType.I64 else IndexType.I64
    if c.strided:
        made |= {"row_pad": 0 if now.row_pad else 3, **({"slot_pad": 0 if now.slot_pad else 5} if c.pool else {})}
        made |= {"table_pad": 0 if now.table_pad else 1} if c.pool else {}
    if c.misaligned:
        made["misalign"] = 0 if now.misalign else 1
    return made


LAWS = (
    Law("repeat", "the same launch gives the same bits", _needs_a_row, repeat),
    Law("content", "unread memory is of no matter", _needs_a_row, content),
    Law("layout", "layouts are of no matter", _needs_a_row, layout),
)
