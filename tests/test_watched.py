"""A gate under a tool: each report is its case's, none is lost, and a tool that is silent must have been there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import fake_paths
import pytest
import recorded_reports as recorded

from gdn_verify import gate, watched
from gdn_verify.cases.codec import loads
from gdn_verify.cases.contract import Kind
from gdn_verify.hosts.sanitizer import Sanitizer
from gdn_verify.profiles import SANITIZE
from gdn_verify.report.table import describe
from gdn_verify.report.tally import Failure, Report, Row
from gdn_verify.service import Job
from gdn_verify.verdict import Check

Runs = Callable[..., Report]
CASES = len(fake_paths.DIMS)
TELLING = ("far-16", "silent", "at-load", "dying-24", "raising-24")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """Run all cases of these paths under a tool that is not one, one worker after the other."""
    folder = tmp_path_factory.mktemp("tool")
    recorded.install_tool(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        patch.setenv("PYTHONPATH", fake_paths.install(folder / "site", "watched_paths:paths"))

        def ran(*names: str, tool: str = "memcheck", summary: str = recorded.CLEAN) -> Report:
            patch.setenv("FAKE_SUMMARY", summary.strip())
            files, under = fake_paths.case_files(), Sanitizer(tool)
            jobs = [Job(name, "cpu", Kind.DECODE, files=files, sanitizer=under) for name in names]
            report = gate.run(jobs, SANITIZE, workers=1)
            report.finish()
            return report

        yield ran


@pytest.fixture(scope="module")
def told(run: Runs) -> Report:
    """A run in which a tool tells of most paths."""
    return run(*TELLING)


def _row(report: Report, path: str) -> Row:
    (row,) = (row for row in report.rows if row.path == path)
    return row


def _failures(report: Report, path: str) -> list[Failure]:
    return [failure for failure in report.failures if failure.path == path]


def _dim(failure: Failure) -> int:
    return loads(failure.file).case.geometry.K


def test_a_silent_tool_that_sums_up_is_green(run: Runs) -> None:
    """Each case agrees once, under the tool's name, and is judged by the oracle too."""
    report = run("silent")
    row = _row(report, "silent")
    assert (row.check, row.cases, row.agrees) == ("memcheck", CASES, CASES)
    assert row.worst_noise_ratio > 0.0
    assert report.ok
    assert report.cases == CASES


def test_what_is_told_within_a_case_is_that_cases(told: Report) -> None:
    """One finding for errors of one line, with their number; the other cases agree."""
    (failure,) = _failures(told, "far-16")
    assert (_row(told, "far-16").agrees, _row(told, "far-16").disagrees) == (CASES - 1, 1)
    assert (failure.finding.check, _dim(failure)) == (Check.MEMCHECK, 16)
    assert failure.finding.kind == "invalid __global__ write in far_store_kernel"
    assert "far_store_kernel at far_kernels.py:12: " in failure.finding.message
    assert "(2 such reports)" in failure.finding.message


def test_neighbours_of_a_path_that_is_told_of_agree(told: Report) -> None:
    """The run is red all the same, and its cases are counted once."""
    assert _row(told, "silent").agrees == CASES
    assert not told.ok
    assert told.cases == CASES * len(TELLING)


def test_what_is_told_before_the_first_case_is_no_cases(told: Report) -> None:
    """It is the path's, and its cases agree."""
    (failure,) = _failures(told, "at-load")
    assert (_row(told, "at-load").agrees, _row(told, "at-load").disagrees) == (CASES, 1)
    assert (failure.file, failure.finding.kind) == ("", "invalid __global__ write in far_store_kernel")


def test_a_crash_under_a_tool_keeps_what_was_told(told: Report) -> None:
    """The case that crashed has the tool's finding beside it; the rest goes on in another worker."""
    finding, crash = _failures(told, "dying-24")
    assert (_row(told, "dying-24").agrees, _row(told, "dying-24").crashed) == (CASES - 1, 1)
    assert [_dim(finding), _dim(crash)] == [24, 24]
    assert (finding.finding.kind, crash.finding.kind) == ("invalid __global__ write in far_store_kernel", "crashed")


def test_a_case_that_raises_has_the_tools_reason_beside_it(told: Report) -> None:
    """One case, both findings."""
    kinds = {failure.finding.kind for failure in _failures(told, "raising-24")}
    assert kinds == {"raised RuntimeError", "invalid __global__ write in far_store_kernel"}
    assert (_row(told, "raising-24").disagrees, _row(told, "raising-24").agrees) == (1, CASES - 1)


def test_a_race_is_told_the_same_way(run: Runs) -> None:
    """In a row of that tool, with a command that runs the case under it again."""
    report = run("racing-24", tool="racecheck", summary=recorded.CLEAN_OF_RACES)
    (failure,) = _failures(report, "racing-24")
    assert (_row(report, "racing-24").check, _dim(failure)) == ("racecheck", 24)
    assert failure.finding.kind == "race (error) in far_race_kernel"
    assert "--host cpu --sanitize racecheck`" in describe(failure)


@pytest.fixture(scope="module")
def initialised(run: Runs) -> Report:
    """A run under the tool that looks for reads of what nobody wrote."""
    return run("reading-40", "borrowing-16", "wrong-16", tool="initcheck")


@pytest.mark.parametrize(
    ("path", "dim", "kernel"),
    [("reading-40", 40, "far_scratch_kernel"), ("borrowing-16", 16, "at::native::vectorized_elementwise_kernel")],
)
def test_a_read_in_the_paths_own_code_is_the_paths(initialised: Report, path: str, dim: int, kernel: str) -> None:
    """Also by a kernel of torch's."""
    (failure,) = _failures(initialised, path)
    assert _dim(failure) == dim
    assert failure.finding.kind == f"uninitialized __global__ memory read in {kernel}"


def test_a_wrong_value_under_a_silent_tool_is_red(initialised: Report) -> None:
    """The case is in the tool's row, and disagrees."""
    row = _row(initialised, "wrong-16")
    assert (row.check, row.disagrees, row.agrees) == ("initcheck", 1, CASES - 1)
    assert {failure.finding.check for failure in _failures(initialised, "wrong-16")} == {Check.VALUES}


def test_what_is_told_at_the_end_is_not_lost(run: Runs) -> None:
    """A tool that writes late leaves the cases in doubt, and the run red."""
    report = run("at-exit")
    (failure,) = _failures(report, "at-exit")
    assert (failure.file, failure.finding.check) == ("", Check.MEMCHECK)
    assert not report.ok


@pytest.mark.parametrize("summary", ["", "========= ERROR SUMMARY: 12 errors"])
def test_a_tool_that_does_not_sum_up_to_what_it_told_is_red(run: Runs, summary: str) -> None:
    """It may have been away from the start, or have printed nothing of what it saw."""
    report = run("silent", summary=summary)
    (failure,) = report.failures
    assert failure.finding.kind == "given up"
    assert _row(report, "silent").agrees == CASES
    assert not report.ok


def test_a_worker_that_does_not_end_is_ended(run: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the tool has not summed up."""
    monkeypatch.setattr(watched, "PARTING", 0.0)
    report = run("silent")
    assert "ended without a summary" in report.failures[0].finding.message
    assert not report.ok


def test_a_tool_that_is_not_there_is_missing(run: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the reason and the remedy; nothing runs without it, and nothing is green."""
    monkeypatch.setattr("gdn_verify.hosts.sanitizer._executable", lambda: None)
    report = run("silent")
    assert _row(report, "silent").missing == CASES
    assert "CUDA toolkit" in report.absent["silent", "cpu"]
    assert not report.ok
