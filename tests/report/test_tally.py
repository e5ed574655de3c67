"""Counting: every case is one verdict under each check, and nothing that did not run is green."""

from __future__ import annotations

import json
from dataclasses import replace
from math import inf

import pytest

from gdn_verify.cases.contract import Kind
from gdn_verify.oracles.wrong import WRONG_NAMES
from gdn_verify.report.tally import MIN_POOLED, SCHEMA, Report, Row
from gdn_verify.runner import CaseResult
from gdn_verify.service import Job, Ready
from gdn_verify.verdict import Check, Finding

JOB = Job("mine", "cpu", Kind.DECODE, count=3)
WRONG = Finding(Check.VALUES, "o", "o[token 0]: expected 1, got 2", 99.0)
STRAY = Finding(Check.MEMORY, "changed ssm_pool", "slot 3 changed")
SEEN = dict.fromkeys(WRONG_NAMES, 100.0)
VERDICTS = ("agrees", "disagrees", "refused", "missing", "crashed", "vacuous")
KEYS = (
    "path host version kind check cases agrees disagrees refused missing crashed vacuous known reach worst_noise_ratio"
    " worst_drift seconds"
)


@pytest.fixture
def report() -> Report:
    """A report of which nothing is known yet but the path's version."""
    report = Report()
    report.open(JOB, Ready("1.0", "a processor", 0.25))
    return report


def _row(report: Report, check: Check = Check.VALUES) -> Row:
    return next(row for row in report.rows if row.check == check)


def _verdicts(row: Row) -> dict[str, int]:
    return {name: getattr(row, name) for name in VERDICTS if getattr(row, name)}


@pytest.mark.parametrize(
    ("result", "values", "memory"),
    [
        (CaseResult(judged=1, powers=[SEEN]), "agrees", "agrees"),
        (CaseResult(judged=1, powers=[SEEN], findings=[WRONG]), "disagrees", "agrees"),
        (CaseResult(judged=1, powers=[SEEN], findings=[STRAY]), "agrees", "disagrees"),
        (CaseResult(), "vacuous", "agrees"),
        (CaseResult(refused="K=7 is no power of two"), "refused", "refused"),
    ],
)
def test_a_case_is_one_verdict_under_each_check(report: Report, result: CaseResult, values: str, memory: str) -> None:
    """What proves nothing about values may still prove something about memory."""
    report.add(JOB, "{}", result)
    assert _verdicts(_row(report)) == {values: 1}
    assert _verdicts(_row(report, Check.MEMORY)) == {memory: 1}


def test_the_worst_ratio_is_kept_and_seconds_add_up(report: Report) -> None:
    """Over all cases of a row."""
    for ratio in (0.5, 1.5, 1.0):
        report.add(JOB, "{}", CaseResult(judged=1, powers=[SEEN], worst_ratio=ratio, seconds=2.0))
    assert (_row(report).worst_noise_ratio, _row(report).seconds) == (1.5, 6.0)


@pytest.mark.parametrize(
    "result",
    [CaseResult(), CaseResult(refused="no"), CaseResult(judged=1, powers=[SEEN], findings=[STRAY])],
    ids=["vacuous", "refused", "disagrees"],
)
def test_what_does_not_agree_on_values_is_red(report: Report, result: CaseResult) -> None:
    """Memory that agrees in a launch without a live row makes no gate green."""
    report.add(JOB, "{}", result)
    report.finish()
    assert not report.ok


@pytest.mark.parametrize(("empty", "ok"), [(10, True), (11, False)])
def test_too_many_empty_launches_are_red(report: Report, empty: int, ok: bool) -> None:
    """At most a tenth of the cases may prove nothing about values."""
    for number in range(MIN_POOLED):
        report.add(JOB, "{}", CaseResult() if number < empty else CaseResult(judged=1, powers=[SEEN]))
    report.finish()
    assert report.ok == ok


def test_nothing_at_all_is_red() -> None:
    """An empty report has proved nothing."""
    report = Report()
    report.finish()
    assert not report.ok


def test_missing_cases_are_counted_and_are_not_green(report: Report) -> None:
    """All of a job's cases, with the reason."""
    report.add_absent(JOB, "no card")
    report.finish()
    assert _verdicts(_row(report)) == {"missing": 3}
    assert report.absent == {("mine", "cpu"): "no card"}
    assert not report.ok


def test_a_crash_is_red_with_its_case(report: Report) -> None:
    """Beside any number of cases that agree."""
    report.add(JOB, "{}", CaseResult(judged=1, powers=[SEEN]))
    report.add_crash(JOB, "the case", "the worker died: SIGSEGV")
    report.finish()
    assert _verdicts(_row(report)) == {"agrees": 1, "crashed": 1}
    assert [f.file for f in report.failures] == ["the case"]
    assert not report.ok


def test_the_first_refusal_of_a_kind_says_why(report: Report) -> None:
    """A path that refuses is not asked for its reason twice."""
    for reason in ("geometry.K=7: no", "geometry.V=9: no"):
        report.add(JOB, "{}", CaseResult(refused=reason))
    assert report.refusals == {("mine", "cpu", Kind.DECODE): "geometry.K=7: no"}


def test_reach_below_what_is_declared_is_red() -> None:
    """A path cannot get better by taking less."""
    report = Report()
    report.open(JOB, Ready("1.0", "a processor", 0.25, least_reach=0.3))
    report.add(JOB, "{}", CaseResult(judged=1, powers=[SEEN]))
    report.finish()
    assert [f.finding.kind for f in report.failures] == ["reach"]
    assert not report.ok


@pytest.mark.parametrize(("cases", "judged"), [(MIN_POOLED - 1, False), (MIN_POOLED, True)])
def test_bias_and_power_are_judged_over_many_cases(report: Report, cases: int, judged: bool) -> None:
    """A few cases say nothing about a share, or a slope."""
    for _ in range(cases):
        report.add(JOB, "{}", CaseResult(judged=1, powers=[SEEN]))
    report.finish()
    verdict = "agrees" if judged else "vacuous"
    pooled = {row.check: _verdicts(row) for row in report.rows if row.check in ("power", "bias")}
    assert pooled == {"power": {verdict: cases}, "bias": {verdict: cases}}


def test_saved_cases_are_not_asked_for_power(report: Report) -> None:
    """They are there for something else that they show; whoever draws has to draw such as tell."""
    saved = replace(JOB, files=("{}",))
    for number in range(MIN_POOLED):
        report.add(JOB, "{}", CaseResult(judged=1, powers=[SEEN]))
        if number % 4 == 0:
            report.add(saved, "{}", CaseResult(judged=1, powers=[dict.fromkeys(SEEN, 0.0)]))
    report.finish()
    assert not report.failures


def test_finishing_twice_is_finishing_once(report: Report) -> None:
    """Pooled rows are counted once."""
    for _ in range(MIN_POOLED):
        report.add(JOB, "{}", CaseResult(judged=1, powers=[dict.fromkeys(SEEN, 0.0)]))
    report.finish()
    rows, failures = len(report.rows), len(report.failures)
    report.finish()
    assert (len(report.rows), len(report.failures)) == (rows, failures)


def test_the_report_as_data(report: Report) -> None:
    """The keys that others read, the schema's number, and a failure with its case."""
    report.add(JOB, '{"schema": 1}', CaseResult(judged=1, powers=[SEEN], findings=[WRONG]))
    body = report.as_json()
    assert body["schema"] == SCHEMA
    assert all(set(row) == set(KEYS.split()) for row in body["rows"])
    (failure,) = body["failures"]
    assert (failure["case"], failure["noise_ratio"]) == ('{"schema": 1}', 99.0)


def test_an_infinite_ratio_is_still_json(report: Report) -> None:
    """A row that is not finite has an infinite ratio, for which JSON has no word."""
    infinite = Finding(Check.VALUES, "o", "nan", inf)
    report.add(JOB, "{}", CaseResult(judged=1, powers=[SEEN], worst_ratio=inf, findings=[infinite]))
    body = json.loads(json.dumps(report.as_json(), allow_nan=False))
    assert body["rows"][0]["worst_noise_ratio"] > 1e300
