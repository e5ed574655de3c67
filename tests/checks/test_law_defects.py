"""Each law catches a planted defect by itself: no oracle compares a value, no byte is looked at."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from law_cases import court, drawn
from law_defects import DEFECTS

from gdn_verify.cases.contract import Kind
from gdn_verify.checks.laws import NAMES
from gdn_verify.checks.laws.judge import LAWS, LawResult
from gdn_verify.mutants import BUGS
from gdn_verify.mutants.evidence import LAWS as LAWS_SEE
from gdn_verify.paths import Path, find
from gdn_verify.verdict import Check, Outcome

CASES = 40
CATCHES = {
    "split": "state_counted_twice",
    "packing": "state_of_the_row_before",
    "rows": "single_tokens_reversed",
    "slots": "slot_zero_is_nobodys",
    "causality": "ulp_of_the_last_token",
    "heads": "value heads read the next key head",
    "sharding": "value heads read the next key head",
    "kinds": "drafts have another scale",
    "fresh": "one_token_chunk_as_decode",
    "homogeneity": "v is offset",
    "linearity": "states are clamped",
    "scale": "scale_of_zero_is_the_default",
    "no-decay": "no_decay_is_full_decay",
    "no-writing": "β is never 0",
    "forgetting": "decays are bounded",
    "repeat": "results differ from launch to launch",
    "content": "one_token_chunk_as_decode",
    "layout": "compact_projections",
    "hand-over": "a draft's accepted count is not read",
    "relay": "a state's axes are taken for each other",
}
"""A defect that each law catches."""
MORE = (
    ("split", "resumed_prompts_lose_their_state"),
    ("hand-over", "resumed_prompts_lose_their_state"),
    ("split", "state_before_the_last_token"),
    ("packing", "filling_moves_the_state"),
    ("kinds", "filling_moves_the_state"),
    ("sharding", "state_sliced_as_one_block"),
)
"""Mutants of the catalogue that a law sees beside the defect above."""


@pytest.fixture(scope="module")
def path() -> Path:
    """The fallback, loaded."""
    found = find("fallback")
    found.load("cpu")
    return found


def judged(path: Path, law: str, defect: str) -> Iterator[LawResult]:
    """What the law says of a defective copy, case by case."""
    for kind in (Kind.MIXED, Kind.PREFILL):
        for case, shown in drawn(path, kind, CASES, 0):
            yield court(case, shown, path, DEFECTS[defect]).judge(LAWS[law])


def test_every_law_has_a_defect() -> None:
    """No law goes untested, and no defect is there for nothing."""
    assert set(CATCHES) == set(NAMES)
    assert {*CATCHES.values(), *(defect for _, defect in MORE)} == set(DEFECTS)


def test_the_bugs_that_laws_are_said_to_see_are_those_planted_here() -> None:
    """A law's description names them, and the module that is given is the law's own."""
    planted = [(defect, law) for law, defect in (*CATCHES.items(), *MORE) if defect in BUGS]
    assert set(planted) == set(LAWS_SEE)
    for (defect, law), module in LAWS_SEE.items():
        assert LAWS[law].vary.__module__ == f"gdn_verify.checks.laws.{module}"
        assert BUGS[defect] in LAWS[law].about


@pytest.mark.parametrize(("law", "defect"), [*CATCHES.items(), *MORE])
def test_a_law_catches_its_defect(path: Path, law: str, defect: str) -> None:
    """By a relation that does not hold, not by an exception."""
    caught = next((r for r in judged(path, law, defect) if r.outcome is Outcome.DISAGREES), None)
    assert caught is not None, f"{2 * CASES} cases obey"
    assert caught.findings[0].check is Check.LAWS
    assert caught.findings[0].kind.startswith(f"{law}: ")
    assert "raised" not in caught.findings[0].kind
