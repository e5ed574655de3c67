"""An issue's text says what the bug needs, and what it does not."""

from __future__ import annotations

from gdn_verify.explain import Ingredient
from gdn_verify.report.issue import issue

NEEDS = [Ingredient("HV/H", 2, shown=(3, 4), lost=(1,)), Ingredient("K", 8, shown=(1, 16))]


def test_what_was_varied_is_a_table() -> None:
    """With what is needed in rows, and the rest in a sentence."""
    text = issue("print()\n", None, "kernel", "a card", NEEDS)
    assert "| needs | in this case | fails with |\n| --- | --- | --- |\n| HV/H | 2 | ≥ 2 |" in text
    assert "It fails whatever these are: K." in text


def test_nothing_varied_is_no_table() -> None:
    """And no empty part."""
    text = issue("print()\n", None, "kernel", "a card")
    assert "needs" not in text
    assert "\n\n\n" not in text
