"""A runner with cards: each xdist worker has one of its own, and a run that missed its device is red.

No ROCm machine is at hand: one is faked (`fake_machine`), and what is said of it is said of this suite's own steps.
"""

from __future__ import annotations

from pathlib import Path as File

import fake_machine
import fake_paths
import pytest

pytest_plugins = "pytester"

GATE = """
def test_kernel(gdn_target, gdn_gate):
    gdn_gate(gdn_target)
"""
TOLD = """
import os, pytest

@pytest.mark.parametrize("number", range(2))
def test_told(number, record_property):
    card = os.environ.get("HIP_VISIBLE_DEVICES", "any")
    record_property("gdn_used", {"rocm": {"cases": 3, "kernels": 4, "names": ["fake card " + card]}})
"""
PLAIN = """
def test_unrelated():
    pass
"""
EAGER = """
import sys, types

sys.modules["torch"] = types.SimpleNamespace(cuda=types.SimpleNamespace(is_initialized=lambda: True))
"""


@pytest.fixture
def theirs(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: File) -> pytest.Pytester:
    """Somebody's repository on a ROCm machine of two cards."""
    monkeypatch.setenv("PYTHONPATH", fake_paths.install(tmp_path / "site", "fake_cards:paths"))
    fake_machine.enter(tmp_path / "site")
    monkeypatch.setenv(fake_machine.MACHINE, str(fake_machine.machine(tmp_path / "machine", cards=2)))
    for name in ("PYTEST_XDIST_WORKER", "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    return pytester


def _run(theirs: pytest.Pytester, source: str, *words: str) -> pytest.RunResult:
    theirs.makepyfile(test_theirs=source)
    return theirs.runpytest_subprocess("-p", "no:cacheprovider", *words)


def _line(done: pytest.RunResult, word: str) -> str:
    (found,) = [line for line in done.outlines if line.startswith(word)]
    return found


def test_a_gate_on_two_cards_is_pinned_added_up_and_held_to_what_was_expected(theirs: pytest.Pytester) -> None:
    """Two workers judge a path each: every process they start sees one card, and the controller has both counts.

    All tests pass, on ROCm, and CUDA was expected too: the run is red.
    """
    done = _run(theirs, GATE, "-n", "2", "--gdn-paths", "card-a,card-b", "--gdn-expect", "cuda,rocm")
    done.assert_outcomes(passed=2)
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    assert _line(done, "--gdn-expect cuda") == "--gdn-expect cuda: FAILED, no case was judged on a cuda device"
    assert _line(done, "rocm: ").endswith(" on fake card 0; fake card 1")
    assert int(_line(done, "rocm: ").split()[1]) > 0


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_what_tests_have_used_is_added_up(theirs: pytest.Pytester, workers: tuple[str, ...]) -> None:
    """Once for each test, whichever worker ran it. Alone, a process keeps every card."""
    done = _run(theirs, TOLD, *workers, "--gdn-expect", "rocm")
    cards = "fake card 0; fake card 1" if workers else "fake card any"
    assert _line(done, "rocm: ") == f"rocm: 6 cases judged, 8 Triton launches, on {cards}"
    assert done.ret == pytest.ExitCode.OK


def test_a_users_list_is_what_workers_divide(theirs: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever set the variable keeps the run to those cards, and every worker gets one of them."""
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "GPU-cafe,5")
    done = _run(theirs, TOLD, "-n", "2", "--gdn-expect", "rocm")
    assert _line(done, "rocm: ").endswith(" on fake card 5; fake card GPU-cafe")


def test_workers_that_are_not_pinned_are_seen(theirs: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted defect: both workers have every card before them, and the tests above would tell."""
    monkeypatch.setenv(fake_machine.PLANT, "unpinned")
    assert _line(_run(theirs, TOLD, "-n", "2", "--gdn-expect", "rocm"), "rocm: ").endswith(" on fake card any")


def test_a_card_that_is_lost_is_named(theirs: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: File) -> None:
    """Skipped tests alone would be green."""
    monkeypatch.setenv(fake_machine.MACHINE, str(fake_machine.machine(tmp_path / "bare", cards=0)))
    done = _run(theirs, GATE, "--gdn-paths", "card-a", "--gdn-expect", "rocm")
    done.assert_outcomes(skipped=1)
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    assert _line(done, "--gdn-expect rocm").endswith("on a rocm device: no rocm device is visible")


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_a_run_without_a_gate_test_meets_no_expectation(theirs: pytest.Pytester, workers: tuple[str, ...]) -> None:
    """A selection that leaves out the gate proves nothing about a device; without an expectation it is green."""
    done = _run(theirs, PLAIN, *workers, "--gdn-expect", "cpu")
    done.assert_outcomes(passed=1)
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    assert _run(theirs, PLAIN, *workers).ret == pytest.ExitCode.OK


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--gdn-expect", "abacus"), "*no device is called 'abacus'; known are cuda, rocm, cpu*"),
        (("--gdn-expect", "cuda", "--gdn-hosts", "rocm"), "*--gdn-expect names cuda, which --gdn-hosts leaves out*"),
    ],
)
def test_an_expectation_that_cannot_be_met_is_a_usage_error(
    theirs: pytest.Pytester, words: tuple[str, ...], message: str
) -> None:
    """Nothing runs."""
    done = _run(theirs, PLAIN, *words)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines([message])


def test_a_device_touched_too_early_ends_the_run(theirs: pytest.Pytester) -> None:
    """A plugin that uses a card before this one can choose leaves nothing to choose: no test runs on the wrong one.

    A conftest.py comes later than this plugin, where that is installed.
    """
    theirs.makepyfile(early=EAGER)
    done = _run(theirs, PLAIN, "-p", "early", "-n", "2")
    assert done.ret != pytest.ExitCode.OK
    said = done.stdout.str() + done.stderr.str()
    assert "worker 0 was to get a GPU of its own (HIP_VISIBLE_DEVICES=0), but torch had initialised a device" in said
    assert "passed" not in done.stdout.str()


def test_a_conftest_comes_after_the_choice(theirs: pytest.Pytester) -> None:
    """What an installed plugin has chosen is there before a conftest.py could use a device."""
    chosen = "'PYTEST_XDIST_WORKER' not in os.environ or 'HIP_VISIBLE_DEVICES' in os.environ"
    theirs.makeconftest(f"import os\nassert {chosen}\n{EAGER}")
    done = _run(theirs, PLAIN, "-n", "1")
    assert done.ret == pytest.ExitCode.OK, done.stdout.str()
