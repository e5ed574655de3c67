"""Bugs of the catalogue, planted: the gate's own cases turn red within a few, and by the check that is said to."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec

import pytest
from hunting import Hunter

from gdn_verify import gate
from gdn_verify.cases.catalogue import IN_MEMORY
from gdn_verify.cases.topics import topic
from gdn_verify.mutants import CATALOGUE, MUTANTS, planter_of
from gdn_verify.mutants.evidence import HUNTS, Hunt, shown
from gdn_verify.paths import find, find_subject
from gdn_verify.profiles import PROFILES
from gdn_verify.verdict import Check

COUNTS = ("short", "long", "interpreted_short", "interpreted_long")
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
    """The names of a module's mutants in the catalogue are the functions that plant."""
    home = import_module(f"gdn_verify.mutants.{module}")
    functions = (f for _, f in inspect.getmembers(home, inspect.isfunction) if f.__module__ == home.__name__)
    assert {f.__name__ for f in functions if not f.__name__.startswith("_")} == set(CATALOGUE[module])


def _needs(host: str) -> None:
    if host == "interpreter" and find_spec("triton") is None:
        pytest.skip("triton is not installed")


def _is_caught(hunter: Hunter, hunt: Hunt) -> None:
    mutant = hunt.mutant
    _needs(mutant.host)
    replays = hunt.within * 4 if hunt.check == "launches" else 0  # of a quarter where launches are interpreted
    apart = 1 if replays and mutant.host == "interpreter" else 0  # and of cases of their own, behind the others
    cases = apart or hunt.within * (2 if find(mutant.path).variant else 1)
    profile = replace(PLAIN, replays=replays, **dict.fromkeys(COUNTS, cases))
    about, expected = topic(mutant.kinds[0]), frozenset({Check(hunt.check)})
    caught = hunter.hunt(find(mutant.path), mutant.host, about, hunt.defect, expected, profile)
    assert caught.finding, f"{hunt.defect} in {mutant.path}: {caught.cases} cases agree"
    assert caught.cases <= hunt.within + apart


@pytest.mark.parametrize("hunt", HUNTS, ids=lambda hunt: f"{hunt.defect}-{hunt.check}")
def test_a_bug_of_the_catalogue_is_caught(hunter: Hunter, hunt: Hunt) -> None:
    """In as many cases as `docs/bugs.md` says, or fewer."""
    _is_caught(hunter, hunt)


SHOWN = {line.defect for line in shown()}
"""Mutants of which a quicker test tells by which check they are seen."""
DEAR = {"count_of_another_row", "padded_row_keeps_its_slot", "zero_ids_after_a_resize"}
"""Some twenty seconds each; a campaign tries them too."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in SHOWN | DEAR else [])
        for name, mutant in MUTANTS.items()
        if mutant.host in IN_MEMORY
    ],
)
def test_a_mutant_turns_the_gate_red(name: str) -> None:
    """In cases of its kinds under the profile `gate`, by whichever check or by the end of the worker."""
    mutant, profile = MUTANTS[name], PROFILES["gate"]
    _needs(mutant.host)
    jobs = gate.plan([find_subject(mutant.path)], [mutant.host], map(topic, mutant.kinds), profile, planter_of(name))
    for job in jobs:
        report = gate.run([job], profile, workers=1)
        if report.failures:
            return
        report.finish()
        assert not report.broken
    pytest.fail(f"{sum(job.count for job in jobs)} cases agree")
