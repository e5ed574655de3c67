"""Which of its features a disagreement is blamed on: those that no case has which agrees."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gdn_verify.matrix.cells import Cell, State


@dataclass(frozen=True)
class Seen:
    """A judged case: its features, and what it came to."""

    names: frozenset[str]
    state: State
    ratio: float = 0.0
    why: str = ""
    case: str = ""


def suspects(seen: Sequence[Seen], state: State = State.DISAGREES) -> frozenset[str]:
    """Features of cases in this state that no case has which agrees."""
    cleared = frozenset[str]().union(*(each.names for each in seen if each.state is State.AGREES))
    return frozenset[str]().union(*(each.names for each in seen if each.state is state)) - cleared


def cells(seen: Sequence[Seen]) -> dict[str, Cell]:
    """A cell for each feature. Every disagreement is blamed on one at least: where each of its features stands in a
    case that agrees too, on those that disagree oftenest."""
    guilty, excused = suspects(seen), suspects(seen, State.KNOWN)
    for each in seen:
        if each.state is State.DISAGREES and not each.names & guilty:
            shares = {name: _share(seen, name) for name in each.names}
            guilty |= {name for name, share in shares.items() if share == max(shares.values())}
    every = frozenset[str]().union(*(each.names for each in seen))
    return {
        name: _cell([s for s in seen if name in s.names], name in guilty, name in excused) for name in sorted(every)
    }


def _share(seen: Iterable[Seen], name: str) -> float:
    having = [each for each in seen if name in each.names]
    return sum(each.state is State.DISAGREES for each in having) / len(having)


def _cell(having: Sequence[Seen], guilty: bool, known: bool) -> Cell:
    by = _by_state(having)
    wrong, against = by[State.DISAGREES], len(by[State.DISAGREES])
    if guilty:
        return _told(State.DISAGREES, wrong, len(having))
    if known:
        return _told(State.KNOWN, by[State.KNOWN], len(having), against)
    if agreed := by[State.AGREES]:
        others = against + len(by[State.KNOWN])
        return Cell(State.AGREES, len(agreed), others, max(each.ratio for each in agreed))
    return next(
        (_told(state, by[state], 0) for state in (State.REFUSED, State.UNREACHED) if by[state]),
        Cell(State.UNREACHED, 0, against, why="only in cases that disagree by another feature"),
    )


def _told(state: State, shown: Sequence[Seen], cases: int, against: int = 0) -> Cell:
    """With the smallest case that shows it."""
    least = min(shown, key=lambda each: len(each.case))
    ratio = max(each.ratio for each in shown) if cases else 0.0
    return Cell(state, cases, against, ratio, least.why, least.case if state is State.DISAGREES else "")


def whole(seen: Sequence[Seen]) -> Cell:
    """The kind's cell: whatever is wrong with any of its cases is wrong with it."""
    by = _by_state(seen)
    for state in (State.DISAGREES, State.KNOWN):
        if by[state]:
            cell = _told(state, by[state], len(seen))
            return Cell(state, len(seen), len(by[state]), cell.ratio, cell.why, cell.case)
    if agreed := by[State.AGREES]:
        return Cell(State.AGREES, len(agreed), 0, max(each.ratio for each in agreed))
    return next((_told(s, by[s], 0) for s in (State.REFUSED, State.UNREACHED) if by[s]), Cell(State.UNREACHED))


def _by_state(seen: Iterable[Seen]) -> Mapping[State, list[Seen]]:
    found: dict[State, list[Seen]] = {state: [] for state in State}
    for each in seen:
        found[each.state].append(each)
    return found
