"""Ingredients: each feature is varied alone, and the words say which of its ways the finding needs."""

from __future__ import annotations

import time

import pytest

from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.contract import DTypes, Geometry
from gdn_verify.cases.presentation import Presentation
from gdn_verify.cases.strategies import Fed
from gdn_verify.cases.variants import Word, features
from gdn_verify.explain import Ingredient, explain

FED: Fed = (Case(Geometry(1, 3, 1, 8), DTypes(), 1, (Batch((Row(8, (0,)),)),)), Presentation())


@pytest.mark.parametrize(
    ("now", "shown", "lost", "words"),
    [
        (8, (64, 128), (), "any"),
        (8, (), (1, 2), "only 8"),
        (2, (3, 8), (1,), "≥ 2"),
        (2, (1,), (3, 8), "≤ 2"),
        (3, (6,), (1, 2, 4), "3, 6; not 1, 2, 4"),
        ("VK", (), ("KV",), "only VK"),
        (False, (), (True,), "only no"),
        (None, (1.0,), (0.5,), "none, 1; not 0.5"),
        ("nan", ("huge",), ("plausible",), "nan, huge; not plausible"),
    ],
)
def test_the_words(now: Word, shown: tuple[Word, ...], lost: tuple[Word, ...], words: str) -> None:
    """As few as tell it."""
    each = Ingredient("it", now, shown, lost)
    assert str(each) == words
    assert each.needed == (words != "any")


def test_only_what_the_finding_needs_is_marked() -> None:
    """Three or six value heads a key head, and eight tokens; of types that the path refuses nothing is said."""

    def shows(fed: Fed) -> bool | None:
        case = fed[0]
        if case.dtypes != DTypes():
            return None
        return case.geometry.ratio % 3 == 0 and max(row.tokens for row in case.batches[0].rows) >= 8

    told = {each.name: each for each in explain(FED, shows, features(("state",)), seconds=60)}
    assert {name: str(each) for name, each in told.items() if each.needed} == {
        "tokens": "≥ 8",
        "HV/H": "3, 6; not 1, 2, 4, 8",
    }
    assert "type of state" not in told
    assert not told["K"].needed


def test_time_ends_it() -> None:
    """With the features that were varied by then."""

    def slow(fed: Fed) -> bool:
        time.sleep(0.05)
        return True

    assert 0 < len(list(explain(FED, slow, features(()), seconds=0.6))) < 5
