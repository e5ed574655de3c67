"""Laws of rows: a launch may be cut, packed and permuted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from gdn_verify.cases.case import Row
from gdn_verify.cases.launches import moved
from gdn_verify.checks.laws.breaks import other_state, state_ignored_in_last, states_of_next_row
from gdn_verify.checks.laws.law import Law, Varied
from gdn_verify.checks.laws.relation import Likeness, Relation, Trial
from gdn_verify.checks.laws.shots import Chain, Numbers, Setting

ALONE = 4
"""At most so many rows of a launch are launched alone."""


def _prompts(setting: Setting) -> list[int]:
    return [n for n, (row, _) in enumerate(setting.rows) if row.live and not row.spec and row.tokens > 1]


def _needs_a_prompt(setting: Setting) -> str | None:
    return None if _prompts(setting) else "no row of several tokens that could be cut"


def split(setting: Setting) -> Varied:
    """[0, t) and then [t, L) equals [0, L), whatever t is, of every prompt in a launch.

    Bugs: s0-counted-twice-in-parallel-scan (only the second part has a state to count twice),
    precopy-skipped-on-chunk-continuation (a continued prompt loses its state at a block's boundary),
    snapshot-index-grid-mismatch (the state handed on is that of another token).
    """
    cut = dict(zip(_prompts(setting), setting.bits("split", len(setting.rows)), strict=False))
    first: list[tuple[Row, Numbers]] = []
    rest: list[tuple[Row, Numbers]] = []
    for n, (row, at) in enumerate(setting.rows):
        if n in cut:
            t = 1 + cut[n] % (row.tokens - 1)
            rest.append((Row(row.tokens - t, row.slots), at[t:]))
            row, at = replace(row, tokens=t), at[:t]
        first.append((row, at))
    shots = (setting.shot(first, setting.padding), setting.shot(rest))
    trial = Trial(Chain(setting.pools, shots), breaks=state_ignored_in_last(2))
    return [Relation("cut in two launches", (trial,))]


def _needs_company(setting: Setting) -> str | None:
    if not setting.live:
        return "no live row"
    return None if len(setting.rows) > 1 or setting.batch.pad_tokens else "one row alone, without padding"


def _likeness(setting: Setting) -> Likeness:
    return Likeness.BITS if setting.path.conventions.batch_invariant else Likeness.NEAR


def packing(setting: Setting) -> Varied:
    """A row alone equals the row in any launch, whatever its place, its neighbours and the padding.

    Bugs: cu-seqlens-reaches-conv-but-not-recurrence (a row goes on from the state of the row before it),
    substitution-reads-past-T (the rows behind a partial chunk get into it), prompt-tail-padded-to-k-plus-1 (padding
    moves a row's state), unstable-argsort-of-spec-mask (tokens of a group change their order in company).
    """
    first = setting.bits("packing", 1)[0] % len(setting.live)
    chosen = [setting.live[(first + i) % len(setting.live)] for i in range(min(ALONE, len(setting.live)))]
    shots = tuple(setting.shot([row]) for row in chosen)
    return [Relation("alone", (Trial(Chain(setting.pools, shots), breaks=other_state),), likeness=_likeness(setting))]


def _needs_rows(setting: Setting) -> str | None:
    return None if len(setting.rows) > 1 and setting.live else "fewer than two rows, or none that is live"


def rows(setting: Setting) -> Varied:
    """Rows in another order give the same results, in that order.

    Bugs: unstable-argsort-of-spec-mask, cu-seqlens-reaches-conv-but-not-recurrence.
    """
    turn = 1 + setting.bits("rows", 1)[0] % (len(setting.rows) - 1)
    turned = [*setting.rows[turn:], *setting.rows[:turn]]
    orders = {"in reverse order": setting.rows[::-1], f"turned by {turn}": turned}
    trials = {
        says: Trial(Chain(setting.pools, (setting.shot(order, setting.padding),)), breaks=states_of_next_row)
        for says, order in orders.items()
    }
    return [Relation(f"rows {says}", (trial,), likeness=_likeness(setting)) for says, trial in trials.items()]


def _needs_slots(setting: Setting) -> str | None:
    if not setting.path.capabilities.pool:
        return "dense states, no slots"
    return None if setting.case.slots > 1 and setting.live else "a pool of one slot, or no live row"


def slots(setting: Setting) -> Varied:
    """Slots under other names, with what they hold, give the same results. A live row comes to own the first slot.

    Bugs: slot0-valid-but-treated-as-null (every id but the sentinel is a slot, 0 too).
    """
    count = setting.case.slots
    owned = setting.live[0][0].slots[0]
    assert owned is not None
    scratch = setting.path.conventions.scratch_slot
    free = [s for s in range(count) if setting.physical(s) != scratch]
    turn = free.index(owned) or len(free) // 2
    names = dict(zip(free, [*free[-turn:], *free[:-turn]], strict=True))
    renamed = [(moved(row, lambda slot: names.get(slot, slot)), at) for row, at in setting.rows]
    place = torch.arange(count + setting.presentation.first_slot)
    for old, new in names.items():
        place[setting.physical(new)] = setting.physical(old)
    pools = replace(setting.pools, ssm=_of(setting.pools.ssm, place), conv=_of(setting.pools.conv, place))
    trial = Trial(Chain(pools, (setting.shot(renamed, setting.padding),)), breaks=other_state)
    return [Relation(f"slots turned by {turn}", (trial,), likeness=_likeness(setting))]


def _of(pool: torch.Tensor | None, place: torch.Tensor) -> torch.Tensor | None:
    return None if pool is None else pool[place]


def causality(setting: Setting) -> Varied:
    """A token that is edited leaves all outputs before it, and the states after them, as they were, bit for bit.

    Bugs: noncausal-anchor (an exponent is anchored at a later token, which cancels but for its rounding).
    """
    edit = setting.bits("causality", len(setting.rows))
    base = setting.base.shots[0]
    parts = [np.arange(row.tokens) >= _edited(row, edit[n]) for n, (row, _) in enumerate(setting.rows)]
    later = np.concatenate([np.zeros(0, bool), *parts, np.zeros(len(setting.padding), bool)])
    shot = replace(base.numbered(~later), inputs=setting.foreign(later))
    live = [at for row, at in setting.rows if row.live]
    shown = np.concatenate([np.where(later[at], at, -1) for at in live])
    trial = Trial(Chain(setting.pools, (shot,)), shows=(shown,))
    return [Relation("a later token being edited", (trial,), likeness=_bits(setting))]


def _edited(row: Row, bits: int) -> int:
    return 1 + bits % (row.tokens - 1) if row.tokens > 1 else row.tokens


def _bits(setting: Setting) -> Likeness:
    return Likeness.BITS if setting.path.conventions.deterministic else Likeness.NEAR


def _needs_tokens(setting: Setting) -> str | None:
    return None if any(row.tokens > 1 for row, _ in setting.live) else "no row of several tokens"


LAWS = (
    Law("split", "a prompt cut in two launches is the prompt", _needs_a_prompt, split),
    Law("packing", "a row alone is the row in any launch", _needs_company, packing),
    Law("rows", "rows may stand in any order", _needs_rows, rows),
    Law("slots", "slots may have any names", _needs_slots, slots),
    Law("causality", "a later token changes nothing before it", _needs_tokens, causality),
)
