"""Laws in the report: counted per law, drawn as a table, refused with a reason, red where one is broken."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from gdn_verify.cases.contract import Kind
from gdn_verify.checks.laws.judge import LawResult
from gdn_verify.report.table import describe, show
from gdn_verify.report.tally import Report
from gdn_verify.runner import CaseResult
from gdn_verify.service import Job, Ready
from gdn_verify.verdict import Check, Finding, Outcome

JOB = Job("mine", "cpu", Kind.MIXED, count=3, laws=("split", "packing"))
BROKEN = Finding(Check.LAWS, "split: h", "h[…]: 1 is expected", 99.0)
AGREES = LawResult(Outcome.AGREES, ratio=1.5, power=200.0)
REFUSED = LawResult(Outcome.REFUSED, reason="one row alone")


@pytest.fixture
def report() -> Report:
    """A report of one path, open."""
    made = Report()
    made.open(JOB, Ready("1.0", "a processor", 1.0))
    return made


def add(report: Report, split: LawResult, packing: LawResult = REFUSED) -> None:
    report.add(JOB, "{}", CaseResult(laws={"split": split, "packing": packing}, findings=list(split.findings)))


def text(report: Report) -> str:
    out = io.StringIO()
    show(report, Console(file=out, width=160))
    return out.getvalue()


def test_each_law_is_counted_by_itself(report: Report) -> None:
    """A case counts once for each law."""
    add(report, AGREES)
    add(report, LawResult(Outcome.VACUOUS, power=2.0))
    (row,) = report.rows
    assert (row.check, row.cases, row.agrees, row.refused, row.vacuous) == ("laws", 4, 1, 2, 1)
    body = {law["law"]: law for law in report.as_json()["laws"]}
    assert (body["split"]["agrees"], body["split"]["vacuous"], body["split"]["least_power"]) == (1, 1, 200.0)
    assert (body["packing"]["refused"], body["packing"]["reason"]) == (2, "one row alone")


def test_laws_alone_are_green_where_they_hold(report: Report) -> None:
    """A run without the oracle is judged by what it did."""
    add(report, AGREES)
    report.finish()
    assert report.ok


def test_a_path_that_is_refused_everywhere_is_not_green(report: Report) -> None:
    """Nothing proved is not proof."""
    add(report, REFUSED)
    report.finish()
    assert not report.ok


def test_a_broken_law_is_red_and_says_how_to_ask_again(report: Report) -> None:
    """The command holds the case to the same law."""
    add(report, LawResult(Outcome.DISAGREES, (BROKEN,), ratio=99.0))
    report.finish()
    assert not report.ok
    assert describe(report.failures[0]).count("gdn-verify check CASE.json --path mine --host cpu --laws split") == 1


def test_the_table_has_a_line_a_law(report: Report) -> None:
    """How many agree, how many do not, and why a law says nothing."""
    add(report, AGREES)
    add(report, LawResult(Outcome.DISAGREES, (BROKEN,), ratio=99.0))
    shown = text(report)
    assert "split" in shown
    assert "1 ✗1" in shown
    assert "laws refused: mine on cpu: packing (one row alone)" in shown


def test_a_worker_that_dies_under_a_law_is_counted_there(report: Report) -> None:
    """Not as a case of values, of which there was none."""
    report.add_crash(JOB, "{}", "the worker died: SIGSEGV")
    (row,) = report.rows
    assert (row.check, row.crashed) == ("laws", 1)
