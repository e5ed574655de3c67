"""Blame: a disagreement is put on the feature that needs it, and on something always."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gdn_verify.matrix.blame import Seen, cells, suspects, whole
from gdn_verify.matrix.cells import State


def seen(names: str, state: State = State.AGREES, ratio: float = 1.0, why: str = "") -> Seen:
    return Seen(frozenset(names.split()), state, ratio, why, f"case of {names}")


WRONG = State.DISAGREES


def test_a_feature_that_fails_wherever_it_stands_is_blamed_alone() -> None:
    """The others agree, and say that something beside them did not."""
    found = cells([seen("VK r2"), seen("VK r3"), seen("KV r2", WRONG, 90.0, "o is wrong")])
    assert {name: cell.state for name, cell in found.items()} == {
        "VK": State.AGREES, "r2": State.AGREES, "r3": State.AGREES, "KV": WRONG
    }  # fmt: skip
    assert (found["KV"].ratio, found["KV"].why, found["KV"].case) == (90.0, "o is wrong", "case of KV r2")
    assert found["r2"].against == 1


def test_a_combination_is_blamed_on_what_fails_oftenest() -> None:
    """Each of its features agrees somewhere; none of it goes lost."""
    found = cells([seen("KV r2"), seen("VK r3"), seen("KV r2"), seen("KV r3", WRONG)])
    assert found["r3"].state is WRONG
    assert found["KV"].state is State.AGREES


def test_what_is_known_is_neither_green_nor_red() -> None:
    """By the ledger's rule, which is told."""
    found = cells([seen("VK"), seen("KV", State.KNOWN, why="a-rule")])
    assert (found["KV"].state, found["KV"].why) == (State.KNOWN, "a-rule")


def test_cases_that_prove_nothing_reach_nothing() -> None:
    """A feature of which only such a case was judged is not green."""
    assert cells([seen("VK"), seen("KV", State.UNREACHED, why="no live row")])["KV"].state is State.UNREACHED
    assert whole([seen("KV", State.UNREACHED)]).state is State.UNREACHED
    assert whole([]).state is State.UNREACHED


NAMES = st.sets(st.sampled_from("abcde"), min_size=1).map(frozenset)
CASES = st.lists(st.builds(Seen, NAMES, st.sampled_from(State)), min_size=1, max_size=8)


@given(CASES)
def test_no_disagreement_is_lost(found: list[Seen]) -> None:
    """Of each case that disagrees some feature does, and the kind does."""
    red = {name for name, cell in cells(found).items() if cell.state is WRONG}
    wrong = [each for each in found if each.state is WRONG]
    assert all(each.names & red for each in wrong)
    assert (whole(found).state is WRONG) == bool(wrong)


@given(CASES)
def test_nothing_is_green_that_no_case_agrees_in(found: list[Seen]) -> None:
    """And what is green counts those cases."""
    agreed = [each for each in found if each.state is State.AGREES]
    for name, cell in cells(found).items():
        if cell.state is State.AGREES:
            assert cell.cases == sum(name in each.names for each in agreed) > 0


@given(CASES)
def test_suspects_have_no_alibi(found: list[Seen]) -> None:
    """None stands in a case that agrees."""
    assert not any(each.names & suspects(found) for each in found if each.state is State.AGREES)
