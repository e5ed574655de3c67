"""Trajectories are legal, within a path's capabilities, repeatable, show what only many launches can, and shrink."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, event, find, given, settings
from test_strategy import ANY, CONVENTIONS, LAYER, PADS, PATHS, QUICK

from gdn_verify.cases.case import Case, Row
from gdn_verify.cases.contract import Capabilities, ContractError, Conventions, Group, Kind
from gdn_verify.cases.lineage import lineages
from gdn_verify.cases.narrow import refuses
from gdn_verify.cases.presentation import Presentation
from gdn_verify.cases.shapes import draw_cases, shape_pool
from gdn_verify.cases.situations import situations
from gdn_verify.cases.trajectories import COURSE, LAUNCHES, served, trajectories

Fed = tuple[Case, Presentation]


@cache
def drawn(c: Capabilities = ANY, n: int = 200, conventions: Conventions = PADS, **more: Any) -> list[Fed]:
    return draw_cases(trajectories(c, conventions, **more), n, 7)


@settings(QUICK, max_examples=80)
@given(PATHS, CONVENTIONS)
def test_whatever_is_drawn_is_taken(c: Capabilities, conventions: Conventions) -> None:
    """For any path: either it has no trajectory, which is said, or every draw is accepted (and legal: it is a case)."""
    try:
        found = drawn(c, 8, conventions)
    except ContractError as error:
        event("refused")
        if not any(words in str(error) for words in ("outlives a launch", "leave no")):
            raise
        return
    assert served(c)
    for case, fed in found:
        assert refuses(c, conventions, case, fed) is None
        assert 1 <= len(case.batches) <= LAUNCHES


def moves(case: Case) -> list[tuple[Any, bool]]:
    return [(move, move.to == move.slots[0]) for batch in case.batches for move in batch.moves]


def reused(case: Case) -> bool:
    """A request begins in a slot that another one wrote."""
    written: set[int | None] = set()
    for batch in case.batches:
        if any(row.fresh and row.live and row.slots[0] in written for row in batch.rows):
            return True
        written |= {slot for row in batch.rows for slot in row.written}
    return False


def chunked(case: Case) -> bool:
    """A request has seen several launches."""
    return any(len(lineage.segments) > 4 for lineage in lineages(case).values())


def undrafted_after_two(case: Case) -> bool:
    """A step without drafts after two tokens were accepted, and a draft after that."""
    tables: dict[tuple[int | None, ...], Row] = {}
    found = set()
    for batch in case.batches:
        for row in (row for row in batch.rows if row.spec and row.live):
            before = tables.get(row.slots)
            if before is not None and before.tokens == 1 and (before.accepted or 1) > 1 and row.accepted == 1:
                found.add(row.slots)
            tables[row.slots] = row
    return bool(found)


SHOWN = {
    "a slot is used again": reused,
    "a request goes on and on": chunked,
    "a commit": lambda case: any(commit for _, commit in moves(case)),
    "a copy of a prefix, or a preempted request": lambda case: any(not commit for _, commit in moves(case)),
    "a copy of a draft's accepted prefix": lambda case: any(m.accepted > 1 and not commit for m, commit in moves(case)),
    "a step without drafts after two accepted tokens": undrafted_after_two,
    "a smaller launch, filled up": lambda case: any(
        len(a.rows) == len(b.rows) and any(r.padded for r in b.rows) and not any(r.padded for r in a.rows)
        for a, b in pairwise(case.batches)
    ),
    "a first chunk of one token": lambda case: any(
        row.fresh and row.tokens == 1 for batch in case.batches for row in batch.rows
    ),
    "a chunk of S tokens": lambda case: any(
        row.tokens == case.geometry.S > 1 and row.group is Group.PREFILL for batch in case.batches for row in batch.rows
    ),
}


@pytest.mark.parametrize("what", SHOWN)
def test_reach(what: str) -> None:
    """Of two hundred trajectories at least ten show it."""
    assert sum(bool(SHOWN[what](case)) for case, _ in drawn()) >= 10


def test_situations_of_chains_are_frequent() -> None:
    """What one launch in six of other cases shows, most trajectories show."""
    seen = [situations(*fed) for fed in drawn()]
    for name in ("smaller launch after a larger one", "live row padded in the next launch", "plain row after a draft"):
        assert sum(name in names for names in seen) > len(seen) / 3, name
    assert sum("draft with accepted > 1 after a draft" in names for names in seen) > len(seen) / 8


def test_every_request_begins_in_the_trajectory() -> None:
    """So that nothing is known of a pool but what launches wrote there."""
    assert all(lineage.root is None for case, _ in drawn() for lineage in lineages(case).values())


@pytest.mark.parametrize("group", [Group.DECODE, Group.SPEC])
def test_a_path_that_begins_no_request_finds_some(group: Group) -> None:
    """In the pool, as if another path had written them."""
    for case, _ in drawn(Capabilities(LAYER, groups=frozenset({group})), 30):
        assert {row.group for batch in case.batches for _, row in batch.live_rows()} <= {group}
        assert all(lineage.root is not None for lineage in lineages(case).values())


def test_the_same_seed_gives_the_same_trajectories() -> None:
    """And more of them begin with fewer."""
    assert drawn(n=20)[:8] == drawn(n=8)


def test_a_pool_of_shapes_bounds_the_compile_keys() -> None:
    """On a GPU each is a compilation."""
    pool = shape_pool(ANY, 3)
    found = drawn(n=40, shapes=pool)
    assert {case.geometry for case, _ in found} <= {shape.geometry for shape in pool}


def test_sizes_bound_the_trajectories() -> None:
    """A launch is small, for there are many."""
    for case, _ in drawn(n=60):
        assert case.slots <= COURSE.max_slots
        for batch in case.batches:
            assert len(batch.rows) <= COURSE.max_rows
            assert batch.tokens <= max(COURSE.max_tokens, 2 * case.geometry.S)


def least(holds: Any) -> Case:
    quiet = settings(
        deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck), max_examples=2000,
        phases=[Phase.generate, Phase.shrink],
    )  # fmt: skip
    return find(trajectories(ANY, PADS), lambda fed: holds(fed[0]), settings=quiet)[0]


def test_shrinking_ends_at_one_request_that_begins() -> None:
    """With one token, in the first slot."""
    case = least(lambda case: True)
    assert [batch.rows for batch in case.batches] == [(Row(1, (0,), fresh=True),)]


def test_shrinking_ends_at_the_shortest_course() -> None:
    """Nothing is left but what the condition needs: a request begins, drafts, and is copied."""
    case = least(lambda case: any(m.accepted > 1 and not commit for m, commit in moves(case)))
    assert len(case.batches) == 3
    assert sum(len(batch.rows) for batch in case.batches) <= 4


def test_dense_states_have_no_trajectory() -> None:
    """They last for one launch."""
    with pytest.raises(ContractError, match="outlives a launch"):
        trajectories(replace(ANY, pool=False), PADS)
    assert Kind.DECODE in ANY.kinds
