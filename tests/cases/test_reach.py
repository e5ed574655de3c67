"""The generator reaches the situations that real bugs needed, and reach measures what a path takes."""

from collections import Counter
from dataclasses import replace

import pytest

from gdn_verify.cases.catalogue import catalogue
from gdn_verify.cases.contract import Capabilities, Conventions, DType, Group, IdRule, Kind, Span, Stage
from gdn_verify.cases.reach import (
    ANY_CONVENTIONS,
    OUT_OF_REACH,
    PROBES,
    TRIGGERS,
    any_capabilities,
    probes,
    reach,
    situations,
)
from gdn_verify.cases.situations import NAMES
from gdn_verify.cases.sizes import WIDE
from gdn_verify.cases.strategies import cases, draw_cases

FULL = any_capabilities(Span(Stage.UNPACK, Stage.NORM))
ZERO = Conventions(pads=((Stage.CONV, IdRule.ZERO), (Stage.DELTA, IdRule.NOT_POSITIVE)))
EACH = 400


@pytest.fixture(scope="module")
def shares() -> dict[str, float]:
    """For each situation its share among the launches of the kind that shows it most often."""
    best: dict[str, float] = {}
    for conventions in (ANY_CONVENTIONS, ZERO):
        for kind in Kind:
            drawn = draw_cases(cases(FULL, conventions, kind, size=WIDE), EACH, 11)
            seen = Counter(name for fed in drawn for name in situations(*fed))
            best = {name: max(best.get(name, 0), seen[name] / EACH) for name in NAMES}
    return best


# Rarer than the rest, because they need two launches or one place of several.
RARE = {"draft with accepted > 1 after a draft": 0.015, "row of length 0 at the start": 0.015}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_each_situation_comes_up(name: str, shares: dict[str, float]) -> None:
    """In at least one case in fifty of its kind (one in sixty-six for two rare ones)."""
    assert shares[name] >= RARE.get(name, 0.02)


def test_every_bug_of_the_catalogue_is_settled() -> None:
    """Each has a situation that is generated, or a reason why no case can show it."""
    assert not set(TRIGGERS) & set(OUT_OF_REACH)
    assert len(TRIGGERS) + len(OUT_OF_REACH) == len(catalogue())
    assert set(TRIGGERS.values()) <= NAMES
    assert all(OUT_OF_REACH.values())


def test_what_one_launch_in_fresh_memory_cannot_show_is_out_of_reach() -> None:
    """Persistent buffers, graph replay, repetition and tuning trials are no part of a case."""
    assert set(OUT_OF_REACH) >= {
        "graph-pad-rows-keep-old-slot",
        "graph-capture-freezes-branch",
        "decode-graph-replayed-for-a-prefill-row",
        "dummy-run-writes-through-stale-row",
        "state-indices-all-zero-after-metadata-rebuild",
        "returned-buffer-is-cached",
        "autotune-trials-mutate-state",
        "bf16-h0-single-chunk-tma-race",
    }
    assert not any("check generates" in reason for reason in OUT_OF_REACH.values())


@pytest.mark.parametrize("kind", [Kind.SPEC, Kind.MIXED])
def test_any_column_of_a_draft_may_be_a_sentinel(kind: Kind) -> None:
    """Column 0, the read column, and each of the others, written or not."""
    dropped: set[int] = set()
    padded: set[int] = set()
    for case, _ in draw_cases(cases(FULL, ANY_CONVENTIONS, kind, size=WIDE), 1200, 3):
        for row in (row for batch in case.batches for row in batch.rows if row.spec and set(row.slots) != {None}):
            columns = {column for column, slot in enumerate(row.slots) if slot is None}
            (padded if row.padded else dropped).update(columns)
    assert dropped == set(range(1, 8))
    assert padded == set(range(8))


@pytest.mark.parametrize("first", Stage)
def test_a_path_that_takes_everything_has_full_reach(first: Stage) -> None:
    """Of each left edge, also where its last stage comes early."""
    assert len(probes(first)) == PROBES
    for last in (first, Stage.NORM):
        assert reach(any_capabilities(Span(first, last)), ANY_CONVENTIONS) == 1.0


def test_reach_drops_with_each_thing_a_path_lacks() -> None:
    """Fewer groups, dtypes or ids reach fewer probes; conventions of one's own cost nothing."""
    less = [
        replace(FULL, groups=frozenset({Group.DECODE})),
        replace(FULL, states=frozenset({DType.F32})),
        replace(FULL, strided=False),
        replace(FULL, max_tokens=64),
    ]
    for narrower in less:
        assert 0 < reach(narrower, ANY_CONVENTIONS) < 0.9
    assert reach(FULL, ZERO) == 1.0
    assert reach(FULL, Conventions()) < 0.8


def test_a_dense_path_still_reaches_something() -> None:
    """Plain rows in plain memory are part of the probes."""
    dense = Capabilities(
        Span(Stage.DELTA, Stage.DELTA), pool=False, groups=frozenset({Group.PREFILL, Group.DECODE}), scales=False
    )
    assert reach(dense, Conventions()) > 0.05
