"""The tables check: what it says of tables that are wrong, what it leaves alone, and that healthy builders agree."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.contract import DTypes, Geometry, Group, Kind
from gdn_verify.cases.presentation import IndexType, Presentation
from gdn_verify.cases.topics import Series, Topic
from gdn_verify.checks.tables import graph_size, judge, sizes
from gdn_verify.paths import Builder, Built, Maker, Roster, Setup, Split, find_subject, subjects
from gdn_verify.runner import run_tables
from gdn_verify.service import Job, draw
from gdn_verify.verdict import Check, Outcome

BUILDERS = [name for name, subject in subjects().items() if isinstance(subject, Builder)]
DRAFT, STEP, FRESH, SLEEPS = Row(2, (4, 1, 2), accepted=2), Row(1, (0,)), Row(1, (5,), fresh=True), Row(1, (None,))
IDLE, ELSEWHERE = Row(0, (3,)), Row(3, (6,), read=7)
Tamper = Callable[[dict[str, Tensor]], object]


def case(*launches: tuple[Row, ...]) -> Case:
    return Case(Geometry(1, 1, 8, 8, num_spec=2), DTypes(), 9, tuple(Batch(rows) for rows in launches))


def loaded(name: str = "tables-buffers") -> Builder:
    builder = find_subject(name)
    assert isinstance(builder, Builder)
    builder.load("cpu")
    return builder


def said(
    *launches: tuple[Row, ...], tamper: Tamper | None = None, splits: Mapping[str, Split] | None = None
) -> list[str]:
    """What is found where tables of the launches as they are, not filled up, are tampered with."""

    def begin(setup: Setup) -> Maker:
        maker = loaded("tables").begin(setup)

        def build(roster: Roster) -> Built:
            built = maker.build(roster)
            tensors = dict(built.tensors)
            if roster.pad_to is None:
                if tamper is not None:
                    tamper(tensors)
                built = replace(built, splits=built.splits if splits is None else splits)
            return replace(built, tensors=tensors)

        return replace(maker, build=build)

    return [finding.message for finding in judge(case(*launches), Presentation(), begin, persistent=False)]


def test_right_tables_are_not_accused() -> None:
    """A launch with every kind of row, and one after it."""
    assert said((DRAFT, STEP, FRESH, SLEEPS, IDLE, ELSEWHERE), (STEP,)) == []


def put(name: str, place: object, value: object) -> Tamper:
    def tamper(tables: dict[str, Tensor]) -> None:
        tables[name][place] = value  # type: ignore[index]

    return tamper


def change(name: str, to: Callable[[Tensor], Tensor]) -> Tamper:
    return lambda tables: tables.update({name: to(tables[name])})


@pytest.mark.parametrize(
    ("rows", "tamper", "words"),
    [
        (
            (STEP, FRESH), put("query_start_loc", 1, 2),
            "launch 0: query_start_loc[1] is 2, it must be 1 (row 0 is a decode row of 1 tokens, and ends there)",
        ),
        ((STEP,), put("query_start_loc", 0, 1), "launch 0: query_start_loc[0] is 1, it must be 0 (row 0 begins there)"),
        (
            (STEP, SLEEPS), put("state_indices", 1, 0),
            "launch 0: state_indices[1, 0] is 0, it must be -1 (row 1 is padding)",
        ),
        (
            (STEP, DRAFT), put("state_indices", (1, 2), 1),
            "launch 0: state_indices[1, 2] is 1, it must be 2 (row 1 is a spec row)",
        ),
        (
            (DRAFT, STEP), put("state_indices", (1, 1), 0),
            "launch 0: state_indices[1, 1] is 0, it must be -1 (row 1 is a decode row)",
        ),
        (
            (FRESH,), put("has_initial_state", 0, True),
            "launch 0: has_initial_state[0] is True, it must be False (row 0 is a fresh prefill row)",
        ),
        (
            (DRAFT,), put("num_accepted_tokens", 0, 1),
            "launch 0: num_accepted_tokens[0] is 1, it must be 2 (row 0 is a spec row)",
        ),
        (
            (DRAFT, STEP), put("num_accepted_tokens", 1, 2),
            "launch 0: num_accepted_tokens[1] is 2, it must be 0 or 1 (row 1 is a decode row)",
        ),
        ((DRAFT,), put("spec_rows", 0, False), "spec_rows[0] is False, it must be True (row 0 is a spec row)"),
        (
            (ELSEWHERE,), put("read_indices", 0, 6),
            "launch 0: read_indices[0] is 6, it must be 7 (row 0 is a prefill row)",
        ),
        (
            (STEP, FRESH), lambda tables: tables.pop("state_indices"),
            "state_indices is missing, of a launch of 2 rows: a decode row, a fresh prefill row",
        ),
        ((DRAFT, STEP), lambda tables: tables.pop("spec_rows"), "spec_rows is missing"),
        ((FRESH, STEP), lambda tables: tables.pop("has_initial_state"), "has_initial_state is missing"),
        ((ELSEWHERE,), lambda tables: tables.pop("read_indices"), "read_indices is missing"),
        ((STEP,), change("state_indices", Tensor.long), "state_indices has dtype int64, it must be int32"),
        ((DRAFT,), change("num_accepted_tokens", Tensor.short), "dtype int16, it must be int32 or int64"),
        ((DRAFT,), change("state_indices", lambda x: x[:, :2]), "state_indices has shape [1, 2], it must be [1, 3]"),
        ((STEP, FRESH), change("query_start_loc", lambda x: x[:2]), "query_start_loc has shape [2], it must be [3]"),
        ((STEP,), change("state_indices", lambda x: x.expand(2)), "state_indices has shape [2], it must be [1]"),
    ],
)  # fmt: skip
def test_a_finding_names_the_table_the_row_and_both_values(rows: tuple[Row, ...], tamper: Tamper, words: str) -> None:
    """The first wrong row of a table, and what kind of row it is."""
    assert any(words in message for message in said(rows, tamper=tamper))


@pytest.mark.parametrize(
    ("rows", "tamper"),
    [
        ((STEP, SLEEPS, IDLE), put("has_initial_state", slice(1, 3), False)),
        ((DRAFT, STEP, SLEEPS), put("num_accepted_tokens", slice(1, 3), 0)),
        ((DRAFT, SLEEPS), put("spec_rows", 1, True)),
        ((ELSEWHERE, replace(FRESH, read=8)), put("read_indices", 1, 2)),
        ((STEP,), lambda tables: tables.pop("has_initial_state")),
        ((DRAFT,), lambda tables: tables.pop("spec_rows")),
        ((STEP,), change("state_indices", lambda x: torch.stack([x, x - x - 1], dim=1))),
        ((STEP,), change("state_indices", lambda x: x[:, None])),
    ],
)
def test_what_nobody_reads_is_free(rows: tuple[Row, ...], tamper: Tamper) -> None:
    """States of rows that compute nothing, counts of no draft, tables that say nothing, a wider table."""
    assert said(rows, tamper=tamper) == []


DECODE, PREFILL, SPEC = Group.DECODE, Group.PREFILL, Group.SPEC
BOTH = frozenset({DECODE, PREFILL})


@pytest.mark.parametrize(
    ("split", "words"),
    [
        (Split(frozenset({DECODE})), "has no prefill rows, but row 1 is one"),
        (Split(BOTH | {SPEC}), "has spec rows, but no row with tokens is one"),
        (Split(BOTH, None, True), "has one token in each row, but row 2 has 0"),
        (Split(BOTH, {DECODE: (0, 1)}), "has the decode rows (0, 1), they must be (0, 3)"),
        (Split(BOTH, {DECODE: (3, 0), PREFILL: (1,)}), "has the decode rows (3, 0), they must be (0, 3)"),
        (Split(BOTH, {DECODE: (0, 3), PREFILL: ()}), "has the prefill rows (), they must be (1,)"),
        (Split(BOTH, {DECODE: (0, 2, 3), PREFILL: (1,)}), "has row 2 among decode rows, which has no tokens"),
        (Split(BOTH, {DECODE: (0, 3, 4), PREFILL: (1,)}), "has row 4 among decode rows, of a launch of 4 rows"),
    ],
)
def test_every_live_row_is_in_its_group(split: Split, words: str) -> None:
    """Of a step, a fresh row, one without tokens and a step: by kinds, and row by row."""
    rows = (STEP, FRESH, IDLE, Row(1, (8,)))
    assert f"launch 0: the split by someone {words}" in said(rows, splits={"someone": split})


def test_padding_that_carries_tokens_may_count_as_what_it_looks_like() -> None:
    """Or as nothing."""
    for rows in ({DECODE: (0, 1)}, {DECODE: (0,)}):
        assert said((STEP, SLEEPS), splits={"someone": Split(frozenset({DECODE}), rows)}) == []
    assert said((SLEEPS,), splits={"someone": Split(frozenset())}) == []


def test_launches_are_filled_up_to_the_sizes_of_graphs() -> None:
    """As they are, to the least power of two, and to that of the largest launch of the case."""
    assert [graph_size(n) for n in (0, 1, 2, 3, 4, 5, 9)] == [1, 1, 2, 4, 4, 8, 16]
    one = case((STEP,), tuple(Row(1, (n,)) for n in range(5)))
    assert [sizes(one, batch) for batch in one.batches] == [(None, 1, 8), (None, 8)]


class Forgetful(Builder):
    """Right tables, in other memory than those of the launch before."""

    name = "forgetful"
    persistent = True

    def missing(self, host: str) -> None:
        return None

    def load(self, host: str) -> str:
        return "1"

    def begin(self, setup: Setup) -> Maker:
        return loaded("tables").begin(setup)


def test_a_graph_reads_where_it_was_captured() -> None:
    """Right tables are of no use elsewhere, nor is one that the captured launch had not."""
    for later, words in (
        ((Row(1, (1,)),), "state_indices[0, 0] is 0, it must be 1"),
        ((DRAFT,), "num_accepted_tokens is missing"),
    ):
        found = judge(case((STEP,), later), Presentation(), Forgetful().begin, persistent=True)
        assert any("where a graph captured before reads: " in f.message and words in f.message for f in found)


@pytest.mark.parametrize("broken", ["begin", "build", "commit"])
def test_what_a_builder_raises_is_a_finding(broken: str) -> None:
    """Of this check; it is told when the builder's own code is entered and left."""

    def fails(*anything: object) -> None:
        raise RuntimeError("no such block")

    def begin(setup: Setup) -> Maker:
        if broken == "begin":
            fails()
        return replace(loaded().begin(setup), **{broken: fails})  # type: ignore[arg-type]

    entered: list[bool] = []
    result = run_tables(case((DRAFT,)), Presentation(), loaded(), plant=lambda _: begin, launching=entered.append)
    assert [finding.check for finding in result.findings] == [Check.TABLES]
    assert "raised RuntimeError" in result.findings[0].kind
    assert result.outcome(Check.TABLES) is Outcome.DISAGREES
    assert entered[::2] == [True] * len(entered[::2])
    assert entered[-1] is False


def test_a_case_that_the_builder_does_not_take_is_refused() -> None:
    """With the reason."""
    result = run_tables(case((STEP, SLEEPS)), Presentation(sentinel=0), loaded())
    assert "presentation.sentinel=0" in result.refused
    assert result.outcome(Check.TABLES) is Outcome.REFUSED


TOPICS: tuple[Topic, ...] = (*Kind, Series.TRAJECTORY)


def accusations(name: str, topic: Topic, count: int) -> list[str]:
    builder, found = loaded(name), []
    for fed, _ in draw(Job(name, "cpu", topic, "wide", count, seed=5, tables=True), builder):
        result = run_tables(*fed, builder)
        assert not result.refused
        found += [f"{finding}\n{fed}" for finding in result.findings]
    return found


@pytest.mark.parametrize("name", BUILDERS)
def test_healthy_builders_are_not_accused(name: str) -> None:
    """Launches of every kind and trajectories."""
    for topic in TOPICS:
        assert accusations(name, topic, 40) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILDERS)
def test_healthy_builders_are_not_accused_in_many_cases(name: str) -> None:
    """5 000 launches of the size of a decode step, 600 with prompts, 500 trajectories, of each builder."""
    counts = {Kind.DECODE: 2500, Kind.SPEC: 2500, Kind.PREFILL: 300, Kind.MIXED: 300, Series.TRAJECTORY: 500}
    for topic in TOPICS:
        assert accusations(name, topic, counts[topic]) == []


@pytest.mark.parametrize("sentinel", [-1, 9, -7])
@pytest.mark.parametrize("index_type", IndexType)
def test_both_types_of_indices_and_any_id_that_marks_padding(sentinel: int, index_type: IndexType) -> None:
    """As the presentation has them; 0 where slot 0 is nobody's."""
    shown = Presentation(sentinel=sentinel, index_type=index_type)
    rows = case((DRAFT, STEP, SLEEPS), (SLEEPS,))
    for name in BUILDERS:
        null = name.endswith("-null")
        fed = replace(shown, sentinel=0, first_slot=1) if null else shown
        assert not run_tables(rows, fed, loaded(name)).findings
