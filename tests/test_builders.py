"""Table builders as paths: found by name, held to what they declare, judged by the gate and in three lines."""

from __future__ import annotations

import fake_paths
import pytest

from gdn_verify import gate
from gdn_verify.cases.contract import Kind
from gdn_verify.cases.narrow import refuses
from gdn_verify.cases.shapes import draw_cases, table_shapes
from gdn_verify.cases.strategies import cases
from gdn_verify.cases.topics import Series
from gdn_verify.conformance import conformance
from gdn_verify.mutants import planter_of
from gdn_verify.paths import Builder, UnknownPathError, find, find_subject, registered, subjects
from gdn_verify.paths.builder import EVERYTHING
from gdn_verify.paths.conformance import declarations
from gdn_verify.paths.relay import topics
from gdn_verify.profiles import PROFILES, Profile
from gdn_verify.report.tally import Report

PROFILE = Profile("test", 30, 20, 0, 0, courses=10, laws=4, deaths=2)
NAMES = [name for name, subject in subjects().items() if isinstance(subject, Builder)]


@pytest.fixture(scope="module")
def fakes(tmp_path_factory: pytest.TempPathFactory):
    """Workers that know the builders of `fake_paths`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", fake_paths.install(tmp_path_factory.mktemp("site")))
        yield


def judged(builder: Builder, kinds=(Kind.DECODE,), plant: str | None = None) -> Report:
    report = gate.run(gate.plan([builder], ["cpu"], kinds, PROFILE, plant), PROFILE, workers=1)
    report.finish()
    return report


@pytest.mark.parametrize("name", NAMES)
def test_what_it_declares_holds(name: str) -> None:
    """As of any path; and defining it imports nothing heavy."""
    declarations(subjects()[name])  # type: ignore[arg-type]


def test_a_builder_is_no_path_of_a_layer() -> None:
    """It is a subject of the gate, and none of what measures layers."""
    assert isinstance(find_subject("tables"), Builder)
    assert find_subject("fallback") is find("fallback")
    assert not {*NAMES} & {*registered()}
    with pytest.raises(UnknownPathError, match="'tables' builds tables"):
        find("tables")
    with pytest.raises(UnknownPathError, match=r"no path is called 'tabels'; known are .*fallback.*tables-buffers"):
        find_subject("tabels")


def test_a_plan_asks_for_tables_of_every_kind_and_trajectory() -> None:
    """No laws, no captured launches, no watched accesses: nothing is computed."""
    jobs = gate.plan([find_subject("tables-buffers")], ["cpu"], topics(find_subject("tables")), PROFILES["gate"])
    assert {job.kind for job in jobs} == {*Kind, Series.TRAJECTORY}
    assert all(job.tables and not (job.laws or job.replays or job.watches) for job in jobs)


@pytest.mark.parametrize("kind", Kind)
def test_cases_are_of_the_least_shapes(kind: Kind) -> None:
    """One head; all widths of a draft and types of indices come up, and every case is one that is taken."""
    drawn = draw_cases(cases(EVERYTHING, Builder.conventions, kind, shapes=table_shapes(EVERYTHING)), 100, 1)
    assert all(refuses(EVERYTHING, Builder.conventions, *fed) is None for fed in drawn)
    assert {(case.geometry.HV, case.geometry.K) for case, _ in drawn} == {(1, 8)}
    assert len({(case.geometry.S, shown.index_type) for case, shown in drawn}) >= 8


def test_the_gate_counts_it_under_its_check() -> None:
    """A healthy one is green."""
    report = judged(find_subject("tables-buffers"), (*Kind, Series.TRAJECTORY))  # type: ignore[arg-type]
    assert report.ok
    assert {row.check for row in report.rows} == {"tables"}
    assert report.cases == sum(row.agrees for row in report.rows) == 30 * 2 + 20 * 2 + 10


def test_a_planted_defect_is_red_and_comes_with_its_case() -> None:
    """The smallest trajectory that shows it; as for a path."""
    report = judged(find_subject("tables-buffers"), (Series.TRAJECTORY,), planter_of("stale_tail"))  # type: ignore[arg-type]
    assert not report.ok
    first = report.failures[0]
    assert first.finding.check == "tables"
    assert first.file.count('"rows"') == 2


def test_a_builder_that_dies_or_raises_costs_its_cases(fakes: None) -> None:
    """A crash is contained, an exception is a finding; both are the builder's."""
    dead = judged(fake_paths.builder("fake-tables-dead"))
    assert {row.check: (row.crashed, row.agrees) for row in dead.rows} == {"tables": (PROFILE.deaths, 0)}
    raises = judged(fake_paths.builder("fake-tables-raise"))
    assert [(row.check, row.disagrees) for row in raises.rows] == [("tables", PROFILE.short)]
    assert "raised KeyError" in raises.failures[0].finding.kind


def test_conformance_in_three_lines(fakes: None) -> None:
    """Another package's builder, in its own tests."""
    conformance(fake_paths.builder("fake-tables"), "cpu", cases=8)
    with pytest.raises(AssertionError, match=r"tables/state_indices: launch 0: state_indices\[0, 0\]"):
        conformance(fake_paths.builder("fake-tables-wrong"), "cpu", cases=8)
