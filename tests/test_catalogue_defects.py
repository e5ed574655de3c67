"""Bugs of the catalogue, planted: the gate's own cases turn red within a few, and by the check that is said to."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec

import pytest
from hunting import Hunter

from gdn_verify.cases.triggers import OUT_OF_REACH, TRIGGERS
from gdn_verify.mutants import CATALOGUE
from gdn_verify.mutants.evidence import HUNTS, Hunt
from gdn_verify.paths import find
from gdn_verify.profiles import PROFILES
from gdn_verify.verdict import Check

PLAIN = replace(PROFILES["gate"], watches=0, repeats=0, laws=0, interpreted_laws=0)
"""The gate without what is slow and not asked here: accesses, repeated launches and laws have tests of their own."""
SHARD = 2


@pytest.fixture(scope="module")
def hunter() -> Iterator[Hunter]:
    """A worker a host."""
    hunter = Hunter(shard=SHARD)
    yield hunter
    hunter.close()


@pytest.mark.parametrize("module", CATALOGUE)
def test_all_defects_are_known_by_name(module: str) -> None:
    """The names that the command line offers are the functions that plant, the bugs are the catalogue's."""
    home = import_module(f"gdn_verify.mutants.{module}")
    functions = (f for _, f in inspect.getmembers(home, inspect.isfunction) if f.__module__ == home.__name__)
    assert {f.__name__ for f in functions if not f.__name__.startswith("_")} == set(CATALOGUE[module])
    assert set(CATALOGUE[module].values()) <= {*TRIGGERS, *OUT_OF_REACH}


def test_each_is_hunted() -> None:
    """At least once."""
    assert {hunt.defect for hunt in HUNTS} == {defect for names in CATALOGUE.values() for defect in names}


def _is_caught(hunter: Hunter, hunt: Hunt) -> None:
    if hunt.host == "interpreter" and find_spec("triton") is None:
        pytest.skip("triton is not installed")
    replays = hunt.within * 4 if hunt.check == "launches" else 0  # of a quarter where launches are interpreted
    counts = dict.fromkeys(("short", "long", "interpreted_short", "interpreted_long"), hunt.within)
    profile = replace(PLAIN, replays=replays, **counts)
    path = find(hunt.path)
    caught = hunter.hunt(path, hunt.host, hunt.kind, hunt.defect, frozenset({Check(hunt.check)}), profile)
    assert caught.finding, f"{hunt.defect} in {hunt.path}: {caught.cases} cases agree"
    assert caught.cases <= hunt.within


@pytest.mark.parametrize("hunt", HUNTS, ids=lambda hunt: f"{hunt.defect}-{hunt.check}")
def test_a_bug_of_the_catalogue_is_caught(hunter: Hunter, hunt: Hunt) -> None:
    """In as many cases as `docs/bugs.md` says, or fewer."""
    _is_caught(hunter, hunt)
