"""Defects of table builders: the check of tables catches each, all other checks being off; some nobody else sees."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from itertools import product

import pytest

from gdn_verify.cases.contract import Kind
from gdn_verify.cases.strategies import Fed
from gdn_verify.cases.topics import Series
from gdn_verify.checks.tables import graph_size
from gdn_verify.hosts import HOSTS
from gdn_verify.mutants import METADATA, metadata, planter_of
from gdn_verify.paths import Builder, Launch, Maker, Outputs, Path, Roster, Setup, find, find_subject
from gdn_verify.runner import Effort, Run, run_case, run_tables
from gdn_verify.service import Job, draw, planter
from gdn_verify.verdict import Check, Finding

SEED = 1
BUILDERS = ("tables", "tables-buffers", "tables-buffers-null")
BLOCKED = "tables-blocks"
WHOSE: dict[str, Callable[[Builder], bool]] = {
    "prompts_leave_the_buffers": lambda builder: builder.persistent,
    "tables_kept_by_size": lambda builder: not builder.persistent,
    "column_of_another_block_size": lambda builder: builder.name == BLOCKED,
}
"""Defects of builders whose tables stay where they are, of those whose do not, and of the one that looks slots up in
tables of blocks; the rest are of all."""
HERE = {Kind.DECODE: 60, Kind.SPEC: 60, Kind.PREFILL: 60, Kind.MIXED: 60, Series.TRAJECTORY: 60}

ONLY_HERE = {
    "stale_tail",
    "nothing_committed",
    "conv_state_not_committed",
    "counts_not_reset",
    "prompts_leave_the_buffers",
    "tables_kept_by_size",
    "column_of_another_block_size",
}
"""Defects that no other check sees where their tables are given to the fallback, on a processor: it skips rows without
tokens whatever they name, reads the tables that are returned and not a graph's, and its cases' commits are the suite's.
"""
OF_SPLITS = {"padding_counted_as_steps", "first_token_as_a_step", "groups_out_of_order", "plan_of_the_capture"}
"""Defects of who serves which row. On a processor the fallback serves all, so what others see of them is not known."""


@cache
def loaded(name: str) -> Builder:
    builder = find_subject(name)
    assert isinstance(builder, Builder)
    builder.load("cpu")
    return builder


@cache
def drawn(name: str) -> tuple[Fed, ...]:
    jobs = (Job(name, "cpu", topic, "wide", count, SEED, tables=True) for topic, count in HERE.items())
    return tuple(fed for job in jobs for fed, _ in draw(job, loaded(name)))


def found(name: str, defect: str) -> list[Finding]:
    """What the check says of the first case in which it says anything."""
    plant = planter(planter_of(defect)) if defect else None
    results = (run_tables(*fed, loaded(name), plant=plant).findings for fed in drawn(name))
    return next((findings for findings in results if findings), [])


def test_all_defects_are_known_by_name() -> None:
    """The names that the command line offers are the functions that plant."""
    functions = (f for _, f in inspect.getmembers(metadata, inspect.isfunction) if f.__module__ == metadata.__name__)
    assert {f.__name__ for f in functions if not f.__name__.startswith("_")} == set(METADATA)


@pytest.mark.parametrize(
    ("name", "defect"),
    [*product(BUILDERS, METADATA), (BLOCKED, "column_of_another_block_size")],
)
def test_it_is_caught(name: str, defect: str) -> None:
    """By this check alone: a builder's result is held to no other. The builder without it is not accused."""
    findings = found(name, defect)
    assert bool(findings) == WHOSE.get(defect, lambda builder: True)(loaded(name))
    assert {finding.check for finding in findings} <= {Check.TABLES}


@pytest.mark.parametrize("name", [*(pytest.param(name, marks=pytest.mark.slow) for name in BUILDERS), BLOCKED])
def test_without_a_defect_nothing_is_caught(name: str) -> None:
    """On the very same cases."""
    assert not found(name, "")


def through(defect: str, path: Path) -> Run:
    """The path on tables that a defective builder makes of each launch, in buffers that a graph would read."""
    plant = planter(planter_of(defect))
    assert plant is not None
    makers: list[Maker] = []

    def run(launch: Launch) -> Outputs:
        if not makers:
            setup = Setup(64, launch.geometry.S, True, launch.geometry.W, launch.presentation)
            makers.append(plant(loaded("tables-buffers"))(setup))
        rows = launch.batch.rows
        made = makers[0].build(Roster(rows, graph_size(len(rows)))).tensors
        return path.run(Launch(**{**vars(launch), "tensors": {**launch.tensors, **made}}))

    return run


def seen_by_others(defect: str) -> bool:
    """Whether values or memory of the fallback show it, in launches of each kind and in trajectories."""
    path = find("fallback")
    path.load("cpu")
    for topic, count in {**dict.fromkeys(Kind, 40), Series.TRAJECTORY: 40}.items():
        size = "prefill" if topic in (Kind.PREFILL, Kind.MIXED) else "small"
        for fed, _ in draw(Job("fallback", "cpu", topic, size, count, SEED), path):
            result = run_case(*fed, path, HOSTS["cpu"], plant=lambda each: through(defect, each), effort=Effort.HASTY)
            if result.findings:
                return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize("defect", sorted({*METADATA} - OF_SPLITS))
def test_who_else_sees_it(defect: str) -> None:
    """Whether another check does, where tables like these reach a path."""
    assert seen_by_others(defect) == (defect not in ONLY_HERE)
