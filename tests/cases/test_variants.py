"""Variants: legal cases that differ from a given one in the feature that they say, and in nothing else."""

from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.contract import DTypes, Geometry, Kind
from gdn_verify.cases.presentation import Presentation
from gdn_verify.cases.sizes import SMALL
from gdn_verify.cases.strategies import Fed, cases
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
    """Of a geometry at most the heads that go with others; of the rest one field, or the rows with their slots."""
    for feature in FEATURES:
        for _, other in feature.variants(fed):
            before, after = _leaves(fed), _leaves(other)
            changed = {name for name in before if before[name] != after[name]}
            if feature in SHAPE:
                assert changed <= {"geometry.H", "geometry.HV", f"geometry.{feature.name}"}
            elif feature in ROWS:
                assert changed <= {"case.batches", "case.slots"}
            else:
                assert len(changed) == 1


def _leaves(fed: Fed) -> dict[str, object]:
    """Every field of a case and its presentation."""
    case, shown = fed
    parts = {name: getattr(case, name) for name in ("geometry", "dtypes", "values", "options")} | {"shown": shown}
    leaves = {f"{part}.{each.name}": getattr(x, each.name) for part, x in parts.items() for each in fields(x)}
    return leaves | {"case.slots": case.slots, "case.batches": case.batches}


def test_a_launch_without_rows_has_features_too() -> None:
    """None of its rows'."""
    empty = (Case(Geometry(1, 1, 8, 8), DTypes(), 1, (Batch(()),)), Presentation(table_step=2, sentinel=-7))
    varied = {feature.name: [word for word, _ in feature.variants(empty)] for feature in FEATURES}
    assert varied["tokens"] == []
    assert varied["table_step"] == [1]
    assert varied["sentinel"] == ["id -1"]


@pytest.mark.parametrize("feature", ROWS, ids=lambda feature: str(feature.name))
def test_rows_are_varied(feature: Feature) -> None:
    """Of a launch of one decode row."""
    case = Case(Geometry(1, 1, 8, 8), DTypes(), 1, (Batch((Row(1, (0,)),)),))
    words = [word for word, _ in feature.variants((case, Presentation()))]
    assert (
        words
        == {
            "tokens": [2, 15, 16, 17, 63, 64, 65, 130],
            "rows": ["one more in front", "one more behind"],
            "padding": ["a padded row", "a row without tokens"],
            "slots": ["one further"],
            "initial state": ["none"],
        }[feature.name]
    )
