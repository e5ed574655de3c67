"""Laws of launch kinds: a row is the same row whichever kind it is launched as."""

from __future__ import annotations

from dataclasses import replace

from gdn_verify.cases.case import Row
from gdn_verify.cases.contract import Group
from gdn_verify.checks.laws.breaks import other_state
from gdn_verify.checks.laws.law import Law, Varied
from gdn_verify.checks.laws.relation import Relation, Trial
from gdn_verify.checks.laws.shots import Chain, Numbers, Setting, extended, with_states


def _plain(setting: Setting, row: Row) -> bool:
    return row.live and not row.spec and not row.fresh and row.read is None and row.tokens <= setting.case.geometry.S


def _first(row: Row) -> bool:
    """Whether a draft takes up a plain state."""
    return row.live and row.accepted == 1 and row.slots[row.tokens - 1] is not None


def _needs_kinds(setting: Setting) -> str | None:
    groups = setting.path.capabilities.groups
    if groups == {Group.DECODE} or groups == {Group.SPEC}:
        return f"only {next(iter(groups))} rows"
    if not (Group.SPEC in groups or setting.path.capabilities.separate_slots):
        return "one way to advance a row: no drafts, and no slots to read from"
    if any(_plain(setting, row) or _first(row) for row, _ in setting.rows):
        return None
    return "no row that could be of another kind"


def kinds(setting: Setting) -> Varied:
    """decode ≡ prefill(L = 1) ≡ spec(L = 1, accepted 1), and a resumed prompt of L ≤ S tokens is a draft of L.

    Bugs: prompt-tail-padded-to-k-plus-1 (a prompt's tail, launched as a draft, is more than its tokens).
    """
    made = {"as plain rows": _as_plain, "as prompts": _as_prompts, "as drafts": _as_drafts}
    found = []
    for says, convert in made.items():
        chain = convert(setting)
        if list(chain.shots[0].batch.rows) != [row for row, _ in setting.rows]:
            found.append(Relation(f"launched {says}", (Trial(chain, breaks=other_state),)))
    return found


def _as_plain(setting: Setting) -> Chain:
    rows = [(Row(row.tokens, row.slots[:1]) if _first(row) else row, at) for row, at in setting.rows]
    return Chain(setting.pools, (setting.shot(rows, setting.padding),))


def _as_prompts(setting: Setting) -> Chain:
    """One token too, which is then read from a slot of its own that holds the same."""
    rows: list[tuple[Row, Numbers]] = []
    copied: list[int] = []
    for row, at in setting.rows:
        if _first(row) or _plain(setting, row):
            read = None
            if row.tokens == 1:
                assert row.slots[0] is not None
                read = setting.case.slots + len(copied)
                copied.append(setting.physical(row.slots[0]))
            row = Row(row.tokens, row.slots[:1], read=read)
        rows.append((row, at))
    shot = setting.shot(rows, setting.padding, slots=setting.case.slots + len(copied))
    return Chain(extended(setting.pools, copied), (shot,))


def _as_drafts(setting: Setting) -> Chain:
    """With columns in slots that are new."""
    rows: list[tuple[Row, Numbers]] = []
    used, more = setting.case.slots, setting.case.geometry.S - 1
    for row, at in setting.rows:
        if _plain(setting, row):
            row = Row(row.tokens, (*row.slots, *range(used, used + more)), accepted=1)
            used += more
        rows.append((row, at))
    pools = extended(setting.pools, [0] * (used - setting.case.slots))
    return Chain(pools, (setting.shot(rows, setting.padding, slots=used),))


def _needs_fresh_rows(setting: Setting) -> str | None:
    return None if any(row.fresh for row, _ in setting.live) else "no live row without initial state"


def fresh(setting: Setting) -> Varied:
    """A row without initial state is one that resumes from zeros; a first token, one that is decoded from them.

    Bugs: one-token-first-chunk-run-as-decode.
    """
    rows = [(replace(row, fresh=False) if row.live else row, at) for row, at in setting.rows]
    slots = [row.slots[0] if row.read is None else row.read for row, _ in setting.live if row.fresh]
    places = [setting.physical(slot) for slot in slots if slot is not None]
    pools = with_states(setting.pools, places, 0.0, 0.0)
    trial = Trial(Chain(pools, (setting.shot(rows, setting.padding),)), breaks=other_state)
    return [Relation("resumed from zeros", (trial,))]


LAWS = (
    Law("kinds", "decode is prefill of one token is a draft of one", _needs_kinds, kinds),
    Law("fresh", "no initial state is a state of zeros", _needs_fresh_rows, fresh),
)
