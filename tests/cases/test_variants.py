"""Variants: legal cases that differ from a given one in the feature that they say, and in nothing else."""

from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdn_verify.cases.contract import Kind
from gdn_verify.cases.simpler import Fed
from gdn_verify.cases.strategies import SMALL, cases
from gdn_verify.cases.variants import CONTENT, ROWS, SHAPE, Feature, features
from gdn_verify.paths.fallback import Fallback

PATH = Fallback()
FED = st.sampled_from(Kind).flatmap(lambda kind: cases(PATH.capabilities, PATH.conventions, kind, size=SMALL))
FEATURES = features(("activation", "state"))


def test_every_feature_has_a_name_of_its_own() -> None:
    """A table of them could not be read otherwise."""
    names = [feature.name for feature in FEATURES]
    assert len(set(names)) == len(names)
    assert {"tokens", "HV/H", "type of state", "values: gates", "options: scale", "sentinel"} <= set(names)


@settings(max_examples=60, deadline=None)
@given(FED)
def test_a_variant_is_another_case_with_another_word(fed: Fed) -> None:
    """And where the feature is a number or a member, the case says so of itself."""
    for feature in (*SHAPE, *CONTENT):
        for word, other in feature.variants(fed):
            assert other != fed
            assert feature.now(other) == word != feature.now(fed)


@settings(max_examples=60, deadline=None)
@given(FED)
def test_nothing_else_changes(fed: Fed) -> None:
    """Of a geometry at most the heads that go with others; of rows, the first launch's or the longest row's."""
    for feature in SHAPE:
        for _, (case, shown) in feature.variants(fed):
            assert (case.batches, case.values, shown) == (fed[0].batches, fed[0].values, fed[1])
    for feature in CONTENT:
        for _, (case, shown) in feature.variants(fed):
            before, after = (dict(_leaves(c, s)) for c, s in (fed, (case, shown)))
            assert sum(before[name] != after[name] for name in before) == 1
    for feature in ROWS:
        for _, (case, shown) in feature.variants(fed):
            assert (case.geometry, case.values, case.dtypes, shown) == (
                fed[0].geometry, fed[0].values, fed[0].dtypes, fed[1],
            )  # fmt: skip


def _leaves(*parts: object) -> list[tuple[str, object]]:
    case, shown = parts
    held = {"values": case.values, "options": case.options, "shown": shown}  # type: ignore[attr-defined]
    return [(f"{part}.{each.name}", getattr(x, each.name)) for part, x in held.items() for each in fields(x)]  # type: ignore[arg-type]


@pytest.mark.parametrize("feature", ROWS, ids=lambda feature: str(feature.name))
def test_rows_are_varied(feature: Feature) -> None:
    """Of a launch of one decode row."""
    from gdn_verify.cases.case import Batch, Case, Row
    from gdn_verify.cases.contract import DTypes, Geometry
    from gdn_verify.cases.presentation import Presentation

    case = Case(Geometry(1, 1, 8, 8), DTypes(), 1, (Batch((Row(1, (0,)),)),))
    words = [word for word, _ in feature.variants((case, Presentation()))]
    assert (
        words
        == {
            "tokens": [2, 15, 16, 17, 63, 64, 65, 130],
            "rows": ["one more in front", "one more behind"],
            "padding": ["a padded row", "a row without tokens"],
            "slots": ["each one further"],
            "initial state": ["none"],
        }[feature.name]
    )
