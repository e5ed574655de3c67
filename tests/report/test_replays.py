"""Captured launches in the report: a line of their own, only where they were asked for."""

from __future__ import annotations

from gdn_verify.cases.contract import Kind
from gdn_verify.checks.launches import Replays
from gdn_verify.report.tally import Report, Row
from gdn_verify.runner import CaseResult
from gdn_verify.service import Job
from gdn_verify.verdict import Check, Finding

JOB = Job("toy", "cpu", Kind.DECODE, count=4)
WRONG = Finding(Check.LAUNCHES, "replay", "1 of 2 rows live: o differs")


def _rows(*results: CaseResult) -> tuple[Report, dict[str, Row]]:
    report = Report()
    for result in results:
        report.add(JOB, "{}", result)
    report.finish()
    return report, {row.check: row for row in report.rows}


def test_each_outcome_is_counted() -> None:
    """Cases that were not captured are in no column of it."""
    report, rows = _rows(
        CaseResult(judged=1),
        CaseResult(judged=1, replays=Replays(compared=3)),
        CaseResult(judged=1, replays=Replays(compared=1, refused="cannot be captured: Tensor.item()")),
        CaseResult(judged=1, replays=Replays([WRONG], compared=3), findings=[WRONG]),
        CaseResult(judged=1, replays=Replays()),
    )
    row = rows[Check.LAUNCHES]
    assert (row.cases, row.agrees, row.refused, row.disagrees, row.vacuous) == (4, 1, 1, 1, 1)
    assert rows[Check.VALUES].agrees == 5
    assert report.refusals[JOB.path, JOB.host, JOB.kind] == "cannot be captured: Tensor.item()"
    assert not report.ok


def test_without_captures_there_is_no_line() -> None:
    """An empty line would look like a check that ran."""
    _, rows = _rows(CaseResult(judged=1))
    assert Check.LAUNCHES not in rows
