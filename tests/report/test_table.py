"""The report as text, pinned to the letter for one made by hand."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from gdn_verify.cases.contract import Kind
from gdn_verify.report.table import describe, grouped, show
from gdn_verify.report.tally import Failure, Report
from gdn_verify.runner import CaseResult
from gdn_verify.service import Job, Ready
from gdn_verify.verdict import Check, Finding, ratio_words

DECODE = Job("mine", "cpu", Kind.DECODE, count=2)
ELSEWHERE = Job("mine", "cuda", Kind.DECODE, count=2)
WRONG = Finding(Check.VALUES, "o", "o[token 0, value head 1, element 3]: expected 1, got 2", 99.0)
STRAY = Finding(Check.MEMORY, "changed ssm_pool", "slot 3 changed")
GOOD = CaseResult(judged=1, powers=[{"zero output": 100.0}], worst_ratio=1.25, seconds=0.5)


def _failure(finding: Finding = WRONG, file: str = "{}", path: str = "mine") -> Failure:
    return Failure(path, "cpu", Kind.DECODE, finding, file)


def _shown(report: Report, *, verbose: bool = False) -> str:
    report.finish()
    console = Console(file=io.StringIO(), width=160, color_system=None)
    show(report, console, verbose=verbose)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in lines)


@pytest.fixture
def report() -> Report:
    """One path: on the processor two cases, one wrong and one right; no card."""
    report = Report()
    report.open(DECODE, Ready("1.0", "a processor", 0.25))
    report.add_absent(ELSEWHERE, "no card (pip install 'mine[gpu]')")
    for file in ('{"schema": 1, "long": true}', '{"schema": 1}'):
        report.add(DECODE, file, CaseResult(judged=1, powers=GOOD.powers, findings=[WRONG], seconds=0.25))
    report.add(DECODE, "{}", GOOD)
    return report


SNAPSHOT = """\
path  host  version  kind    check   cases  agrees  disagrees  refused  crashed  vacuous  reach  worst ratio  seconds
mine  cpu   1.0      decode  values      3       1          2        ·        ·        ·    25%         1.25      1.0
mine  cpu   1.0      decode  memory      3       3          ·        ·        ·        ·
mine  cpu   1.0      decode  power       3       ·          ·        ·        ·        3
mine  cpu   1.0      decode  bias        3       ·          ·        ·        ·        3
missing: mine on cuda: no card (pip install 'mine[gpu]')

mine on cpu, decode: values/o: o[token 0, value head 1, element 3]: expected 1, got 2
(2 such findings; this is the smallest case)
Save as CASE.json and run `gdn-verify check CASE.json --path mine --host cpu`:
{"schema": 1}
the gate is red"""


def test_a_red_report(report: Report) -> None:
    """Table, what is missing and how to get it, the smallest case with its command, the verdict."""
    assert _shown(report) == SNAPSHOT


def test_a_green_report() -> None:
    """No more than a table and a word."""
    report = Report()
    report.open(DECODE, Ready("1.0", "a processor", 1.0))
    report.add(DECODE, "{}", GOOD)
    text = _shown(report)
    assert text.splitlines()[-1] == "the gate is green"
    assert len(text.splitlines()) == 6


def test_drift_has_a_column_where_there_is_any() -> None:
    """The largest of a row's cases."""
    report = Report()
    for drift in (1e-7, 0.0123, 2e-6):
        report.add(DECODE, "{}", CaseResult(judged=1, powers=GOOD.powers, drift=drift))
    header, values, *_ = _shown(report).splitlines()
    assert "drift" in header
    assert "1.2e-02" in values


def test_a_refusal_is_shown_with_its_reason() -> None:
    """Who replays a case on a path that does not take it learns why."""
    report = Report()
    report.add(DECODE, "{}", CaseResult(refused="geometry.K=7: no [power] of two"))
    assert "refused: mine on cpu, decode: geometry.K=7: no [power] of two" in _shown(report)


def test_a_group_shows_its_smallest_case() -> None:
    """Of the failures of one path, host, check and kind of finding, the one whose file is shortest."""
    failures = [_failure(file="x" * length) for length in (30, 10, 20)]
    assert grouped(failures) == [(failures[1], 3)]


def test_groups_differ_by_path_and_finding() -> None:
    """One bug does not hide another."""
    failures = [_failure(), _failure(STRAY), _failure(path="theirs"), _failure()]
    assert [(f.path, f.finding.check, count) for f, count in grouped(failures)] == [
        ("mine", Check.VALUES, 2),
        ("mine", Check.MEMORY, 1),
        ("theirs", Check.VALUES, 1),
    ]


def test_a_finding_of_the_whole_run_has_no_command() -> None:
    """Bias has no case to replay."""
    assert describe(_failure(file="")) == f"mine on cpu, decode: {WRONG}"


def test_many_kinds_of_failure_are_cut_short(report: Report) -> None:
    """Five are shown, and how to see the rest; all with `verbose`."""
    findings = [Finding(Check.VALUES, f"kind {n}", f"finding {n}") for n in range(8)]
    for finding in findings:
        report.add(DECODE, "{}", CaseResult(judged=1, powers=GOOD.powers, findings=[finding]))
    assert "… and 4 more kinds of failure (--verbose, or --json, shows all)" in _shown(report)
    assert "finding 7" not in _shown(report)
    assert "finding 7" in _shown(report, verbose=True)


def test_markup_in_a_message_is_text() -> None:
    """What looks like rich's markup is part of a name."""
    report = Report()
    report.add(DECODE, "[1, 2]", CaseResult(findings=[Finding(Check.VALUES, "o", "o[/red] is wrong")]))
    text = _shown(report)
    assert "o[/red] is wrong" in text
    assert "[1, 2]" in text


@pytest.mark.parametrize(("ratio", "words"), [(1.254, "1.25"), (999.4, "999.40"), (9.4e35, "9e+35"), (math.inf, "inf")])
def test_a_ratio_is_no_wider_than_its_column(ratio: float, words: str) -> None:
    """Of one far beyond every limit only the size says something."""
    assert ratio_words(ratio) == words
