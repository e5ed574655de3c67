"""The gate holds paths that crash, hang, raise and do not load: each costs its own cases, and is named."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path as File

import fake_paths
import pytest

from gdn_verify import gate
from gdn_verify.cases.codec import loads
from gdn_verify.cases.contract import Kind
from gdn_verify.profiles import Profile
from gdn_verify.report.tally import Failure, Report, Row
from gdn_verify.service import Job

# The deadline is many times what a case takes on a loaded machine, and a hang costs it once.
SHORT = Profile("short", 6, 6, 6, 6, deadline=8.0, patience=300.0, deaths=2)
GUILTY = {
    "fake-healthy": None,
    "fake-segfault-16": 16,
    "fake-segfault-40": 40,
    "fake-hang-24": 24,
    "fake-raise-8": 8,
    "fake-exit-48": 48,
}
DOOMED = ("fake-always-dead", "fake-broken-import", "fake-fatal-import", "fake-missing", "fake-healthy")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Workers find the fakes, through a real entry point."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", fake_paths.install(tmp_path_factory.mktemp("site")))
        yield


@pytest.fixture(scope="module")
def contained(installed: None) -> Report:
    """A run in which all but one path end badly in one case."""
    return _run(*(Job(name, "cpu", Kind.DECODE, files=fake_paths.case_files()) for name in GUILTY))


@pytest.fixture(scope="module")
def doomed(installed: None) -> Report:
    """A run of paths that cannot go on, two jobs each, and one that can."""
    first = [Job(name, "cpu", Kind.DECODE, files=fake_paths.case_files()) for name in DOOMED]
    # One worker: beside each other, two jobs of a path may both die before either is known to.
    return _run(*first, *(replace(job, seed=1) for job in first), workers=1)


def _run(*jobs: Job, workers: int = 2) -> Report:
    report = gate.run(jobs, SHORT, workers=workers)
    report.finish()
    return report


def _row(report: Report, path: str) -> Row:
    return next(row for row in report.rows if (row.path, row.check) == (path, "values"))


def _failures(report: Report, path: str) -> list[Failure]:
    return [failure for failure in report.failures if failure.path == path]


@pytest.mark.parametrize("path", GUILTY)
def test_other_cases_of_the_same_job_still_run(contained: Report, path: str) -> None:
    """A case that ends its worker, or raises, is one case; all the others of its job agree."""
    row = _row(contained, path)
    assert (row.cases, row.agrees) == (6, 6 if GUILTY[path] is None else 5)


@pytest.mark.parametrize("path", [path for path in GUILTY if GUILTY[path]])
def test_the_guilty_case_is_kept(contained: Report, path: str) -> None:
    """The failure holds the file of the very case that was running."""
    (failure,) = _failures(contained, path)
    assert loads(failure.file).case.geometry.K == GUILTY[path]  # noqa: SIM300 - what is asserted stands left


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("fake-segfault-16", "the worker died: SIGSEGV"),
        ("fake-segfault-40", "the worker died: SIGSEGV"),
        ("fake-hang-24", "(hang)"),
        ("fake-exit-48", "the worker died: exit status 3"),
    ],
)
def test_a_death_is_a_crash_and_says_how(contained: Report, path: str, words: str) -> None:
    """Signals, silence and exit codes are told apart."""
    (failure,) = _failures(contained, path)
    assert (_row(contained, path).crashed, failure.finding.kind) == (1, "crashed")
    assert words in failure.finding.message


def test_the_last_words_of_a_worker_are_kept(contained: Report) -> None:
    """A segfault's traceback names the line of Python that led there."""
    (failure,) = _failures(contained, "fake-segfault-16")
    assert "fake_paths.py" in failure.finding.message


def test_an_exception_is_a_disagreement(contained: Report) -> None:
    """What a path raises on a case that it declares to take is a finding of that case, and ends no worker."""
    (failure,) = _failures(contained, "fake-raise-8")
    assert (_row(contained, "fake-raise-8").disagrees, failure.finding.kind) == (1, "raised RuntimeError")
    assert "an illegal launch configuration" in failure.finding.message


def test_the_run_is_red(contained: Report) -> None:
    """Healthy paths beside them do not make up for it."""
    assert not contained.ok


def test_a_path_that_always_dies_is_given_up(doomed: Report) -> None:
    """After `Profile.deaths` deaths nothing more of that kind is started, and the report says what did not run."""
    row, lost = _row(doomed, "fake-always-dead"), _lost(doomed, "fake-always-dead")
    assert (row.cases, row.crashed) == (SHORT.deaths, SHORT.deaths)
    assert sum(lost) == 2 * len(fake_paths.DIMS) - SHORT.deaths


def _lost(report: Report, path: str) -> list[int]:
    given_up = [f for f in _failures(report, path) if f.finding.kind == "given up"]
    return [int(failure.finding.message.split()[0]) for failure in given_up]


@pytest.mark.parametrize(
    ("path", "words"),
    [("fake-broken-import", "undefined symbol: gdn_forward"), ("fake-fatal-import", "exit status 7")],
)
def test_a_path_that_does_not_load_is_red_once(doomed: Report, path: str, words: str) -> None:
    """A failing import is the path's crash, not the suite's: said once, with the error; the other job is lost."""
    assert _row(doomed, path).crashed == 1
    assert words in _failures(doomed, path)[0].finding.message
    assert _lost(doomed, path) == [6]


def test_a_missing_path_says_what_installs_it(doomed: Report) -> None:
    """Missing is counted case by case, is no failure, and carries the remedy."""
    assert _row(doomed, "fake-missing").missing == 12
    assert doomed.absent == {("fake-missing", "cpu"): "libfake is not installed (pip install 'libfake[gpu]')"}
    assert not _failures(doomed, "fake-missing")


def test_neighbours_of_doomed_paths_agree(doomed: Report) -> None:
    """What else is in the run is judged in full."""
    assert _row(doomed, "fake-healthy").agrees == 12


def test_a_run_without_any_agreement_is_red(installed: None) -> None:
    """Nothing ran, so nothing is green."""
    assert not _run(Job("fake-missing", "cpu", Kind.DECODE, files=fake_paths.case_files())).ok


def test_an_interrupted_run_reports_what_ran_and_what_did_not(installed: None) -> None:
    """Who ends a run from outside keeps its verdicts; it is red, for cases are missing."""
    files = fake_paths.case_files()
    jobs = [Job("fake-healthy", "cpu", Kind.DECODE, files=files, seed=seed) for seed in range(3)]

    def interrupt(job: Job | None, report: Report) -> None:
        if job and report.cases == len(files) + 2:
            raise KeyboardInterrupt

    report = gate.run(jobs, SHORT, workers=1, progress=interrupt)
    report.finish()
    assert not report.ok
    assert _row(report, "fake-healthy").agrees == len(files) + 2
    (failure,) = _failures(report, "fake-healthy")
    assert failure.finding.message == f"{2 * len(files) - 2} cases not run: the run was interrupted"


def test_a_broken_suite_is_no_verdict_on_a_path(installed: None) -> None:
    """An unknown path in a worker is an error of the run, told with the worker's traceback; the rest goes on."""
    files = fake_paths.case_files()
    report = _run(Job("nobody", "cpu", Kind.DECODE, files=files), Job("fake-healthy", "cpu", Kind.DECODE, files=files))
    assert len(report.broken) == 1
    assert "no path is called 'nobody'" in report.broken[0]
    assert _row(report, "fake-healthy").agrees == len(files)
    assert not report.failures
    assert not report.ok


SCRIPT = """
import os, sys
from gdn_verify import gate
from gdn_verify.cases.contract import Kind
from gdn_verify.paths import find
from gdn_verify.profiles import Profile
before = dict(os.environ)
profile = Profile("one", 1, 1, 1, 1, replays=0, repeats=0)
report = gate.run(gate.plan([find("fla-recurrent")], ["interpreter"], [Kind.DECODE], profile), profile, workers=1)
(row, *_) = report.rows
assert row.agrees == 1, [str(f.finding) for f in report.failures]
assert "triton" not in sys.modules and "fla" not in sys.modules
assert dict(os.environ) == before and "TRITON_INTERPRET" not in os.environ
"""


def test_the_users_process_is_never_patched(tmp_path: File) -> None:
    """After a gate in Triton's interpreter, this process has no triton, and its environment is as it was."""
    pytest.importorskip("triton")
    pytest.importorskip("fla")
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    env["PYTHONPATH"] = fake_paths.install(tmp_path / "site")
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_crew_goes_on_in_the_same_worker(installed: None) -> None:
    """Run after run, until it is closed; a worker that died is not kept."""
    crew = gate.Crew()

    def run(path: str) -> Report:
        return gate.run([Job(path, "cpu", Kind.DECODE, files=fake_paths.case_files())], SHORT, workers=1, crew=crew)

    assert not run("fake-healthy").failures
    (seat,) = crew.seats
    assert not run("fake-healthy").failures
    assert crew.seats == [seat]
    assert run("fake-segfault-16").failures
    assert seat not in crew.seats
    crew.close()
    assert crew.seats == []
