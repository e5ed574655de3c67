"""Defects of what outlives a launch: trajectories find them, and shrink them to a few steps; single launches do not."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import cache
from itertools import islice

import pytest
from hypothesis.strategies import SearchStrategy

from gdn_verify import gate
from gdn_verify.cases.case import Case
from gdn_verify.cases.codec import CaseFile, dumps, loads
from gdn_verify.cases.contract import Kind
from gdn_verify.cases.shapes import draw_cases, drawn_cases
from gdn_verify.cases.sizes import PREFILL_SMALL, SMALL
from gdn_verify.cases.strategies import Fed, cases
from gdn_verify.cases.topics import Series
from gdn_verify.cases.trajectories import trajectories
from gdn_verify.hosts import HOSTS
from gdn_verify.mutants import HANDOVER, handover, planter_of
from gdn_verify.paths import Path, find
from gdn_verify.profiles import Profile
from gdn_verify.runner import CaseResult, Effort, Run, run_case
from gdn_verify.service import planter
from gdn_verify.smallest import smallest

SEED = 1
IN_ONE_LAUNCH = {"one_token_chunk_as_decode", "states_in_column_0"}
"""Defects that show in a launch that is looked at alone, and so in other cases too."""
RARE = {"count_of_another_row": 2}
"""Two drafts of different counts change places in one trajectory of fifty; the seed is of one that shows it early."""
SHRUNK = (
    "one_token_chunk_as_decode",
    "count_after_a_step_without_drafts",
    "states_in_column_0",
    "padded_row_keeps_its_slot",
    "prefix_not_copied",
    # resumed_from_its_old_slot takes as long as all of these: with the others
)
DISPATCHED = ("padded_row_keeps_its_slot", "count_after_a_step_without_drafts")


def strategy(path: Path) -> SearchStrategy[Fed]:
    return trajectories(path.capabilities, path.conventions)


@cache
def loaded(name: str) -> Path:
    path = find(name)
    path.load("cpu")
    return path


def judge(fed: Fed, defect: str, path: Path, effort: Effort = Effort.HASTY) -> CaseResult:
    plant: Callable[[Path], Run] | None = planter(planter_of(defect)) if defect else None
    return run_case(*fed, path, HOSTS["cpu"], plant=plant, effort=effort)


def failing(defect: str, path: Path, most: int, seed: int = SEED) -> Iterator[tuple[Fed, bytes]]:
    for fed, choices in islice(drawn_cases(strategy(path), seed), most):
        if judge(fed, defect, path).findings:
            yield fed, choices


def shrunk(defect: str, path: Path, most: int, seed: int = SEED) -> Case:
    """The smallest course of those of `most` trajectories that fail; through its file, as a person gets it.

    Shrinking begins with the one of the fewest launches, which is quicker.
    """
    _, choices = min(failing(defect, path, most, seed), key=lambda found: len(found[0][0].batches))
    least = smallest(strategy(path), choices, lambda fed: bool(judge(fed, defect, path).findings), seconds=600.0)
    file = loads(dumps(CaseFile(*least)))
    again = (file.case, file.presentation)
    assert judge(again, defect, path, Effort.LONE).findings
    assert not judge(again, "", path, Effort.LONE).findings
    return file.case


def test_all_defects_are_known_by_name() -> None:
    """The names that the command line offers are the functions that plant."""
    functions = (f for _, f in inspect.getmembers(handover, inspect.isfunction) if f.__module__ == handover.__name__)
    assert {f.__name__ for f in functions if not f.__name__.startswith("_")} == set(HANDOVER)


@pytest.mark.parametrize("defect", SHRUNK)
def test_trajectories_catch_it_and_shrink_it(defect: str) -> None:
    """Among the first ten, down to four launches at most, which a file replays; the healthy path agrees on them."""
    assert len(shrunk(defect, loaded("fallback"), 10).batches) <= 4


@pytest.mark.slow
@pytest.mark.parametrize("defect", sorted({*HANDOVER} - {*SHRUNK}))
def test_trajectories_catch_the_others_and_shrink_them(defect: str) -> None:
    """Among the first thirty."""
    assert len(shrunk(defect, loaded("fallback"), 30, seed=RARE.get(defect, SEED)).batches) <= 4


@pytest.mark.parametrize("defect", DISPATCHED)
def test_trajectories_catch_it_in_the_dispatcher(defect: str) -> None:
    """Which plans its launches from the rows that the tables were made of."""
    assert next(failing(defect, loaded("dispatch"), 20))


@cache
def single_launches() -> tuple[Fed, ...]:
    """The first launches of cases of each kind, as the gate draws them."""
    path = loaded("fallback")
    found: list[Fed] = []
    for kind in Kind:
        size = SMALL if kind in (Kind.DECODE, Kind.SPEC) else PREFILL_SMALL
        for case, fed in draw_cases(cases(path.capabilities, path.conventions, kind, size=size), 15, SEED):
            found.append(
                (Case(case.geometry, case.dtypes, case.slots, case.batches[:1], case.values, case.options), fed)
            )
    return tuple(found)


@pytest.mark.parametrize("defect", HANDOVER)
def test_which_defects_a_single_launch_shows(defect: str) -> None:
    """Those that remember nothing; of the others each launch is right, looked at alone."""
    shown = defect in IN_ONE_LAUNCH
    launches = single_launches()[:: 1 if shown else 4]
    assert any(judge(fed, defect, loaded("fallback")).findings for fed in launches) == shown


def test_healthy_paths_agree() -> None:
    """No accusation, and a drift that is reported."""
    path = loaded("fallback")
    results = [judge(fed, "", path, Effort.LONE) for fed in draw_cases(strategy(path), 15, SEED)]
    assert not [finding for result in results for finding in result.findings]
    assert 0.0 < max(result.drift for result in results) < 0.1


def test_the_gate_shows_the_shortest_course() -> None:
    """The first failure of a job is shrunk, and what is said of it is said of the case that is shown."""
    profile = Profile("test", 0, 0, 0, 0, courses=2, seed=SEED)
    defect = planter_of("states_in_column_0")
    report = gate.run(gate.plan([find("fallback")], ["cpu"], [Series.TRAJECTORY], profile, defect), profile, workers=1)
    first = report.failures[0]
    assert len(loads(first.file).case.batches) == 2
    assert first.kind is Series.TRAJECTORY
    assert {row.cases for row in report.rows} == {2}


def test_what_does_not_fail_is_not_made_smaller() -> None:
    """A defect that is gone, or a wrong seed, is said."""
    fed, choices = next(drawn_cases(strategy(loaded("fallback")), SEED))
    assert fed
    with pytest.raises(ValueError, match="does not fail"):
        smallest(strategy(loaded("fallback")), choices, lambda fed: False)
