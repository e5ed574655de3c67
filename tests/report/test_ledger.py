"""The ledger of healthy runs: what was judged is counted once, an accusation is never lost, a torn line is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path as File

import pytest

from gdn_verify.cases.contract import Kind
from gdn_verify.oracles.wrong import WRONG_NAMES
from gdn_verify.report.ledger import Entry, Line, append, entry, read, totals
from gdn_verify.report.tally import Report
from gdn_verify.runner import CaseResult
from gdn_verify.service import Job, Ready
from gdn_verify.verdict import Check, Finding

JOB = Job("a-path", "cpu", Kind.DECODE)
RUN = Entry("2026-11-29", "gate", "gate", 1, "abc", {}, ["a processor"], [Line("a", "cpu", "decode", "1", 10, 0)])


def _report() -> Report:
    """Four cases: two agree, one is refused, one is accused by two checks."""
    report = Report()
    report.open(JOB, Ready("1.0", "a processor", 1.0))
    well = CaseResult(judged=1, powers=[dict.fromkeys(WRONG_NAMES, 100.0)])
    accused = CaseResult(
        judged=1, findings=[Finding(check, "wrong", "it is") for check in (Check.VALUES, Check.MEMORY)]
    )
    for result in (well, well, CaseResult(refused="not this one"), accused):
        report.add(JOB, "{}", result)
    report.finish()
    return report


def test_a_run_is_what_was_judged_and_what_was_accused() -> None:
    """A refused case is no case; one accused twice is one."""
    run = entry(_report(), "gate --paths a-path", "gate", 7)
    assert run.lines == [Line("a-path", "cpu", "decode", "1.0", 3, 1)]
    assert (run.command, run.profile, run.seed, run.devices) == ("gate --paths a-path", "gate", 7, ["a processor"])
    assert run.versions.keys() >= {"python", "numpy", "torch"}


def test_cases_that_were_not_run_accuse_nobody() -> None:
    """A run that was interrupted is red, and what it did run counts."""
    report = Report()
    report.open(JOB, Ready("1.0", "a processor", 1.0))
    report.add(JOB, "{}", CaseResult(judged=1, powers=[dict.fromkeys(WRONG_NAMES, 100.0)]))
    report.add_lost(JOB, "7 cases not run: the run was interrupted")
    report.finish()
    assert entry(report, "gate", "gate", 7).lines == [Line("a-path", "cpu", "decode", "1.0", 1, 0)]


def test_what_is_written_is_read(tmp_path: File) -> None:
    """One line a run, those before it untouched."""
    file, other = tmp_path / "ledger.jsonl", replace(RUN, seed=500)
    append(file, RUN)
    append(file, other)
    assert read(file) == [RUN, other]
    assert len(file.read_text().splitlines()) == 2


def test_cases_of_one_seed_are_the_same_cases() -> None:
    """Another seed's are others; an accusation counts in whichever run it was."""
    accused = replace(RUN, lines=[Line("a", "cpu", "decode", "1", 6, 2)])
    assert totals([RUN, accused, RUN]) == [Line("a", "cpu", "decode", "", 10, 2)]
    assert totals([RUN, replace(RUN, seed=500)]) == [Line("a", "cpu", "decode", "", 20, 0)]


@pytest.mark.parametrize("text", ['{"date": "2026-11-29", "lin', '{"lines": []}', '{"date": "2026-11-29"}'])
def test_a_line_that_is_no_run_is_named(tmp_path: File, text: str) -> None:
    """With its file and number, and what to do."""
    file = tmp_path / "ledger.jsonl"
    append(file, RUN)
    with file.open("a") as lines:
        lines.write(text + "\n")
    with pytest.raises(ValueError, match=r"ledger.jsonl:2: no run of a ledger .*remove the line"):
        read(file)
