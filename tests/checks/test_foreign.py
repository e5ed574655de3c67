"""Tables that are no launch's: a path that says so refuses them untouched, and passes over rows of others."""

from __future__ import annotations

from functools import partial

import pytest
from check_cases import LAYER, Idle, case_of, fed

from gdn_verify.cases.case import Case, Row
from gdn_verify.cases.contract import Geometry
from gdn_verify.checks import foreign
from gdn_verify.paths.base import Launch, Outputs, Path
from gdn_verify.paths.fallback import Fallback

DRAFTS = Geometry(H=1, HV=2, K=4, V=3, num_spec=1)
ROWS = {
    "one row": (Row(1, (0,)),),
    "two rows": (Row(1, (0,)), Row(3, (1,), fresh=True)),
    "padding": (Row(1, (None,)),),
    "a draft behind a prompt": (Row(3, (2,)), Row(2, (0, 1), accepted=2)),
    "drafts": (Row(2, (0, 1), accepted=1), Row(1, (2, 3), accepted=2)),
}


def kinds(case: Case, path: Path, run: foreign.Run | None = None) -> list[str]:
    lay = partial(fed, path=path)
    return [finding.kind for finding in foreign.judge(case, path, lay, run or path.run)]


class Passing(Idle):
    """Whatever it does not do, it says that longer rows are passed over."""

    passes_over = True


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_the_fallback_refuses_them_all(rows: tuple[Row, ...]) -> None:
    """Before it touches a pool, and whatever the rows are."""
    assert kinds(case_of(*rows, geometry=DRAFTS, pad_tokens=1), Fallback()) == []


@pytest.mark.parametrize(("name", "spoilt"), [("one row", 1), ("two rows", 2), ("padding", 1), ("drafts", 3)])
def test_whoever_does_not_look_is_found(name: str, spoilt: int) -> None:
    """Once for each way to spoil these rows; nobody is asked who does not say that he looks."""
    case = case_of(*ROWS[name], geometry=DRAFTS)
    taken = kinds(case, Fallback(), lambda launch: Outputs(launch["out"]))
    assert taken == ["illegal tables"] * spoilt
    assert kinds(case, Idle(LAYER)) == []


def test_a_refusal_that_comes_too_late_is_found() -> None:
    """A slot has been written by then."""

    def late(launch: Launch) -> Outputs:
        launch["ssm_pool"][0] += 1
        raise ValueError("two rows write one slot")

    assert set(kinds(case_of(*ROWS["two rows"]), Fallback(), late)) == {"refused and changed ssm_pool"}


@pytest.mark.parametrize("name", ["one row", "two rows", "padding"])
def test_a_row_that_is_not_passed_over_is_found(name: str) -> None:
    """By its outputs, or by its slot; a path that leaves both alone is right."""
    case = case_of(*ROWS[name])
    assert kinds(case, Passing(LAYER)) == []

    def cleared(launch: Launch) -> Outputs:
        launch["out"].zero_()
        return Outputs(launch["out"])

    def advanced(launch: Launch) -> Outputs:
        launch["conv_pool"][launch["state_indices"][-1]] += 1
        return Outputs(launch["out"])

    for run in (cleared, advanced):
        assert set(kinds(case, Passing(LAYER), run)) == {"row passed over"}
        assert kinds(case, Idle(LAYER), run) == []
