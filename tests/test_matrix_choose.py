"""Chosen cases: each has what it is chosen for, and what a path refuses is refused for that and nothing else."""

from __future__ import annotations

import fake_paths
import pytest

from gdn_verify.cases.contract import Kind
from gdn_verify.cases.topics import TOPICS, Series
from gdn_verify.matrix.choose import Chosen, choose, put
from gdn_verify.matrix.features import NotMadeError, every, names
from gdn_verify.paths import Path, find
from gdn_verify.paths.refusal import refusal_of

PATHS = ("fallback", "fused-decode", "fused-spec", "chunk-delta", "transformers-recurrent", "fla-layer-decode")


def chosen(name: str, kind: Kind, count: int = 1) -> tuple[Path, Chosen]:
    path = find(name)
    return path, choose(path, path.hosts[0], kind, count)


@pytest.mark.parametrize("name", PATHS)
def test_a_feature_is_judged_refused_or_not_reached_and_none_is_forgotten(name: str) -> None:
    """One of the three, of every feature that concerns the path; what is judged, the path takes."""
    path = find(name)
    kind = path.capabilities.kinds[0]
    found = choose(path, path.hosts[0], kind, 1)
    had = frozenset[str]().union(*(names(fed, path, kind) for fed in found.files))
    said = [had, found.refused.keys(), found.unreached.keys()]
    assert set().union(*said) == {each.name for each in every() if each.concerns(path, kind)}
    assert sum(map(len, said)) == len(set().union(*said))
    assert all(refusal_of(path, *fed) is None for fed in found.files)


def test_a_refusal_names_the_field_of_its_feature() -> None:
    """Not whatever else the path does not take of some case."""
    _, found = chosen("transformers-recurrent", Kind.DECODE)
    assert found.refused["state order: VK"] == "presentation.state_order=VK: taken is KV"
    assert found.refused["scale: given"].startswith("options.scale=")
    assert found.refused["states: pool in place"] == "the path is delta, with dense states"


def test_a_kind_that_is_not_taken_is_refused_whole() -> None:
    """With those that are."""
    assert chosen("fused-decode", Kind.SPEC)[1].kind == "takes decode"
    assert choose(fake_paths.fake("fake-healthy"), "cpu", Series.TRAJECTORY, 1).kind


def test_more_cases_are_chosen_of_each_feature_where_that_is_asked() -> None:
    """As many as there are shapes to be had of."""
    path, found = chosen("fused-decode", Kind.DECODE, 2)
    for name in ("state order: KV", "ratio: 3", "padding id: P", "views: misaligned"):
        assert sum(name in names(fed, path, Kind.DECODE) for fed in found.files) >= 2


def test_every_choice_is_the_same_again() -> None:
    """Two machines judge the same cases."""
    assert chosen("fused-spec", Kind.SPEC)[1] == chosen("fused-spec", Kind.SPEC)[1]


def test_names_are_told_apart() -> None:
    """A cell's key is a name."""
    every_name = [each.name for each in every()]
    assert len(every_name) == len(set(every_name))


@pytest.mark.parametrize("kind", [kind for kind in TOPICS if isinstance(kind, Kind)])
def test_what_is_put_into_a_case_is_there(kind: Kind) -> None:
    """And the kind is as it was; else it is said that it cannot be made."""
    path, found = chosen("fallback", kind)
    for each in every():
        try:
            fed = put(each, found.files[0], path, kind)
        except (NotMadeError, ValueError):
            continue
        assert each.has(fed, path)
        assert fed[0].batches[0].kind is kind
