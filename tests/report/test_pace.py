"""What a run says of itself on its way: when, and what."""

from __future__ import annotations

from gdn_verify.cases.contract import Kind
from gdn_verify.report.pace import Pace, line
from gdn_verify.report.tally import Report
from gdn_verify.runner import CaseResult
from gdn_verify.service import Job
from gdn_verify.verdict import Check, Finding

JOB = Job("toy", "cpu", Kind.DECODE, count=5)
WRONG = CaseResult(findings=[Finding(Check.VALUES, "o", "is off"), Finding(Check.MEMORY, "changed q", "at 3")])


def test_it_speaks_when_it_is_time() -> None:
    """Once in so many seconds, with the report of that moment; between them it is silent."""
    now, said, report = [100.0], [], Report()
    pace = Pace(5, said.append, every=30.0, clock=lambda: now[0])
    for at in (100.0, 129.0, 130.0, 131.0, 159.0, 175.0):
        now[0] = at
        report.add(JOB, "{}", CaseResult(judged=1))
        pace.tell(report)
    assert said == ["gdn-verify: 3 of 5 cases, 0 red, 30 s", "gdn-verify: 6 of 5 cases, 0 red, 75 s"]


def test_it_counts_red_cases_and_names_the_first() -> None:
    """A case with two findings is one red case, as is one that crashed."""
    report = Report()
    report.add(JOB, "{}", CaseResult(judged=1))
    report.add(JOB, "{}", WRONG)
    report.add_crash(JOB, "{}", "the worker died: SIGSEGV")
    assert line(report, 5, 61.2) == "gdn-verify: 3 of 5 cases, 2 red, 61 s; first toy on cpu, decode: values/o"


def test_the_first_failure_of_a_kind_is_told_at_once_with_its_case() -> None:
    """Whoever ends a run has the case that went red; the next one of its kind waits for the report."""
    said, report = [], Report()
    pace = Pace(5, said.append, clock=lambda: 0.0)
    for file in ("the first case", "another case"):
        report.add(JOB, file, CaseResult(findings=[Finding(Check.VALUES, "o", "is off")]))
        pace.tell(report)
    (told,) = said
    assert "toy on cpu, decode" in told
    assert told.endswith("the first case")
    assert "gdn-verify check CASE.json --path toy --host cpu" in told
