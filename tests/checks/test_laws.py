"""Each law holds on healthy paths, and says why where it says nothing; no law is vacuous throughout."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from law_cases import FEW, court

from gdn_verify.cases.contract import Kind
from gdn_verify.cases.strategies import cases
from gdn_verify.checks.laws import NAMES
from gdn_verify.checks.laws.judge import LAWS, LawResult
from gdn_verify.checks.power import ENOUGH
from gdn_verify.paths import find
from gdn_verify.verdict import Outcome

SETTINGS = settings(
    deadline=None, database=None, derandomize=True, max_examples=18, suppress_health_check=list(HealthCheck)
)
KINDS = dict.fromkeys(NAMES, Kind.MIXED) | {"split": Kind.PREFILL, "fresh": Kind.PREFILL}
"""The launches in which most cases have what a law needs."""


def test_all_laws_are_known_by_name() -> None:
    """The command line offers them without importing torch."""
    assert tuple(LAWS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_law_holds_on_a_healthy_path(name: str) -> None:
    """Generated launches obey it, and some of them would have shown it broken."""
    path = find("fallback")
    path.load("cpu")
    seen: list[LawResult] = []

    @SETTINGS
    @given(cases(path.capabilities, path.conventions, KINDS[name], size=FEW))
    def obeys(fed) -> None:  # type: ignore[no-untyped-def]
        seen.append(court(*fed, path).judge(LAWS[name]))
        assert seen[-1].outcome is not Outcome.DISAGREES, seen[-1].findings

    obeys()
    outcomes = Counter(result.outcome for result in seen)
    assert outcomes[Outcome.AGREES] >= 2
    assert all(result.power >= ENOUGH for result in seen if result.outcome is Outcome.AGREES)
    assert all(result.reason for result in seen if result.outcome is Outcome.REFUSED)


DUE = {
    "slot0-valid-but-treated-as-null": "slots",
    "s0-counted-twice-in-parallel-scan": "split",
    "cu-seqlens-reaches-conv-but-not-recurrence": "packing",
    "prompt-tail-padded-to-k-plus-1": "packing",
    "zero-gate-difference-dropped": "no-decay",
    "noncausal-anchor": "causality",
    "scale-zero-sentinel": "scale",
    "substitution-reads-past-T": "packing",
    "compact-layout-assumed-for-packed-qkv": "layout",
    "one-token-first-chunk-run-as-decode": "content",
    "unstable-argsort-of-spec-mask": "rows",
    "precopy-skipped-on-chunk-continuation": "split",
    "snapshot-index-grid-mismatch": "split",
}
"""Bugs of kernels and dispatchers in the catalogue that a law is due for, and the first law that names each."""


@pytest.mark.parametrize(("bug", "law"), DUE.items())
def test_a_bug_of_the_catalogue_is_named_by_its_law(bug: str, law: str) -> None:
    """Whoever reads a law learns what it is there for."""
    assert bug in LAWS[law].about
