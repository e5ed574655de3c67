"""Each law catches a planted defect by itself: no oracle compares a value, no byte is looked at."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from law_cases import court, drawn
from law_defects import DEFECTS

from gdn_verify.cases.contract import Kind
from gdn_verify.cases.triggers import OUT_OF_REACH, TRIGGERS
from gdn_verify.checks.laws import NAMES
from gdn_verify.checks.laws.judge import LAWS, LawResult
from gdn_verify.mutants.evidence import LAWS as LAWS_SEE
from gdn_verify.paths import Path, find
from gdn_verify.verdict import Check, Outcome

CASES = 40
CATCHES = {
    "split": "s0-counted-twice-in-parallel-scan",
    "packing": "cu-seqlens-reaches-conv-but-not-recurrence",
    "rows": "unstable-argsort-of-spec-mask",
    "slots": "slot0-valid-but-treated-as-null",
    "causality": "noncausal-anchor",
    "heads": "value heads read the next key head",
    "sharding": "value heads read the next key head",
    "kinds": "drafts have another scale",
    "fresh": "one-token-first-chunk-run-as-decode",
    "homogeneity": "v is offset",
    "linearity": "states are clamped",
    "scale": "scale-zero-sentinel",
    "no-decay": "zero-gate-difference-dropped",
    "no-writing": "β is never 0",
    "forgetting": "decays are bounded",
    "repeat": "results differ from launch to launch",
    "content": "one-token-first-chunk-run-as-decode",
    "layout": "compact-layout-assumed-for-packed-qkv",
    "hand-over": "a draft's accepted count is not read",
    "relay": "a state's axes are taken for each other",
}
"""A defect that each law catches."""
MORE = (
    ("split", "precopy-skipped-on-chunk-continuation"),
    ("hand-over", "precopy-skipped-on-chunk-continuation"),
    ("split", "snapshot-index-grid-mismatch"),
    ("packing", "prompt-tail-padded-to-k-plus-1"),
    ("kinds", "prompt-tail-padded-to-k-plus-1"),
    ("sharding", "conv-state-sliced-as-one-block"),
)
"""Bugs of the catalogue that a law names beside the one above."""


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
    assert {*CATCHES.values(), *(bug for _, bug in MORE)} == set(DEFECTS)


def test_the_bugs_that_laws_are_said_to_see_are_those_planted_here() -> None:
    """A law's description names them, and the module that is given is the law's own."""
    planted = [(defect, law) for law, defect in (*CATCHES.items(), *MORE) if defect in {*TRIGGERS, *OUT_OF_REACH}]
    assert set(planted) == set(LAWS_SEE)
    for (bug, law), module in LAWS_SEE.items():
        assert LAWS[law].vary.__module__ == f"gdn_verify.checks.laws.{module}"
        assert bug in LAWS[law].about


@pytest.mark.parametrize(("law", "defect"), [*CATCHES.items(), *MORE])
def test_a_law_catches_its_defect(path: Path, law: str, defect: str) -> None:
    """By a relation that does not hold, not by an exception."""
    caught = next((r for r in judged(path, law, defect) if r.outcome is Outcome.DISAGREES), None)
    assert caught is not None, f"{2 * CASES} cases obey"
    assert caught.findings[0].check is Check.LAWS
    assert caught.findings[0].kind.startswith(f"{law}: ")
    assert "raised" not in caught.findings[0].kind
