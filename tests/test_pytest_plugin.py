"""The plugin in somebody's repository: a test of three lines, judged by the gate, skipped only with a reason."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path as File

import fake_paths
import pytest

pytest_plugins = "pytester"

THREE_LINES = """
def test_kernel(gdn_target, gdn_gate):
    gdn_gate(gdn_target)
"""
UNRELATED = """
import sys

def test_unrelated():
    loaded = {"torch", "triton", "hypothesis", "numba", "gdn_verify.gate", "gdn_verify.paths"} & set(sys.modules)
    assert "gdn_verify.pytest_plugin" in sys.modules
    assert not loaded, loaded
"""
HEAVY = ("torch", "triton", "numba", "fla", "transformers")


@pytest.fixture
def theirs(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: File) -> pytest.Pytester:
    """A repository in which the plugin and the fakes are installed, with a test of three lines."""
    monkeypatch.setenv("PYTHONPATH", fake_paths.install(tmp_path / "site"))
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    pytester.makepyfile(test_gate=THREE_LINES)
    return pytester


def _run(theirs: pytest.Pytester, *words: str) -> pytest.RunResult:
    return theirs.runpytest_subprocess("-p", "no:cacheprovider", "-rs", *words)


def test_targets_are_paths_on_hosts_by_kind(theirs: pytest.Pytester) -> None:
    """One test each, named so that `-k` can choose; other packages' paths are among them."""
    done = _run(theirs, "--collect-only", "-q")
    lines = [line for line in done.outlines if line.startswith("test_gate.py::")]
    for target in ("fallback-cpu-spec", "fla-chunk-interpreter-prefill", "fake-healthy-cpu-decode"):
        assert f"test_gate.py::test_kernel[{target}]" in lines
    assert len(lines) == len(set(lines))


def test_targets_can_be_narrowed(theirs: pytest.Pytester) -> None:
    """To some paths, and some hosts."""
    done = _run(theirs, "--collect-only", "-q", "--gdn-paths", "fallback, fake-healthy", "--gdn-hosts", "cpu")
    lines = [line for line in done.outlines if line.startswith("test_gate.py::")]
    assert len(lines) == 6


def test_a_path_passes_is_skipped_with_a_reason_or_fails_with_a_case(theirs: pytest.Pytester) -> None:
    """Agreement is a pass; what is not installed says how to install it; what is wrong leaves a case and a command."""
    done = _run(theirs, "--gdn-paths", "fake-healthy,fake-missing,fake-wrong,fake-broken-import")
    done.assert_outcomes(passed=1, skipped=1, failed=2)
    text = done.stdout.str()
    assert "missing: fake-missing on cpu: libfake is not installed (pip install 'libfake[gpu]')" in text
    assert "fake-wrong on cpu, decode: values/o: o[token" in text
    assert "run `gdn-verify check CASE.json --path fake-wrong --host cpu`" in text
    assert '"schema": 1' in text
    assert "undefined symbol: gdn_forward" in text
    assert "pytest_plugin.py" not in text


def test_a_required_host_is_not_skipped(theirs: pytest.Pytester) -> None:
    """A runner that was to have it, and has not, fails."""
    done = _run(theirs, "--gdn-paths", "fake-missing", "--gdn-require", "cpu")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*fake-missing on cpu was required: libfake is not installed*"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--gdn-paths", "nobody"), "*no path is called 'nobody'; known are fallback*fake-healthy*"),
        (("--gdn-hosts", "abacus"), "*no host is called 'abacus'; known are cpu*"),
        (("--gdn-require", "abacus"), "*no host is called 'abacus'; known are cpu*"),
        (("--gdn-profile", "slow"), "*no profile is called 'slow'; known are quick*"),
        (("--gdn-require", "cuda", "--gdn-hosts", "cpu"), "*--gdn-require names cuda, which --gdn-hosts leaves out*"),
    ],
)
def test_a_wrong_option_is_a_usage_error(theirs: pytest.Pytester, words: tuple[str, ...], message: str) -> None:
    """Nothing runs, nothing is green, and the message lists what there is."""
    done = _run(theirs, *words)
    assert done.ret != pytest.ExitCode.OK
    said = [*done.outlines, *done.errlines]
    pytest.LineMatcher(said).fnmatch_lines([message])
    assert not any("INTERNALERROR" in line or "Traceback" in line for line in said)


def test_unrelated_tests_pay_nothing(theirs: pytest.Pytester) -> None:
    """Where no test asks for the gate, neither torch nor the gate itself is imported."""
    theirs.path.joinpath("test_gate.py").unlink()
    theirs.makepyfile(test_unrelated=UNRELATED)
    _run(theirs).assert_outcomes(passed=1)


def test_the_version_is_told_without_heavy_imports(tmp_path: File) -> None:
    """`pytest --version` imports the plugin, and so nothing that takes seconds."""
    env = {**os.environ, "PYTHONPATH": fake_paths.install(tmp_path / "site")}
    script = "import sys, pytest; pytest.main(['--version', '--version']); sys.stdout.write('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines())
    assert "gdn_verify.pytest_plugin" in loaded
    assert not loaded & set(HEAVY)
