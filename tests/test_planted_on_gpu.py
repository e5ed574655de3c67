"""On a card with compute-sanitizer: each tool sees the defect that is planted for it, in its case, and nothing else.

Before a tool's silence about other kernels is trusted:

    python -m pytest tests/test_planted_on_gpu.py
"""

from __future__ import annotations

from pathlib import Path as File

import fake_paths
import planted_paths
import pytest
import torch

from gdn_verify import gate
from gdn_verify.cases.codec import loads
from gdn_verify.cases.contract import Kind
from gdn_verify.hosts.sanitizer import Sanitizer
from gdn_verify.profiles import SANITIZE
from gdn_verify.report.tally import Report
from gdn_verify.service import Job
from gdn_verify.verdict import Check

KINDS = {
    "memcheck": "invalid __global__ write",
    "racecheck": "race",
    "initcheck": "uninitialized __global__ memory read",
}
pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available() or torch.version.cuda is None, reason="no CUDA card here"),
    pytest.mark.skipif(Sanitizer("memcheck").missing("cuda") is not None, reason="compute-sanitizer is not here"),
]


def _ran(tool: str, name: str, folder: File, monkeypatch: pytest.MonkeyPatch) -> Report:
    monkeypatch.setenv("PYTHONPATH", fake_paths.install(folder, "planted_paths:paths"))
    two = [text for text in fake_paths.case_files() if _dim(text) in (planted_paths.INNOCENT, planted_paths.GUILTY)]
    under = Sanitizer(tool, own_kernels=True)
    report = gate.run([Job(name, "cuda", Kind.DECODE, files=tuple(two), sanitizer=under)], SANITIZE, workers=1)
    report.finish()
    return report


def test_triton_telling_warps_what_to_run_is_no_race(tmp_path: File, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a kernel whose groups of warps share nothing the tool says that, and nothing else."""
    report = _ran("racecheck", "healthy-warps", tmp_path, monkeypatch)
    assert report.ok, _said(report)


def test_warps_that_race_are_seen_beside_it(tmp_path: File, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two groups of warps that meet in shared memory without a barrier."""
    report = _ran("racecheck", "planted-warps", tmp_path, monkeypatch)
    assert [_dim(failure.file) for failure in report.failures] == [planted_paths.GUILTY], _said(report)
    assert "planted_kernels.py:" in report.failures[0].finding.message


def _said(report: Report) -> str:
    """All that went wrong, should the card know better."""
    return "\n".join([*report.broken, *report.absent.values(), *(str(failure.finding) for failure in report.failures)])


def _dim(text: str) -> int:
    return loads(text).case.geometry.K


@pytest.mark.parametrize("tool", planted_paths.SEEN)
def test_a_planted_defect_is_seen_in_its_case(tool: str, tmp_path: File, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the kernel's name and line; the case without it agrees."""
    report = _ran(tool, f"planted-{tool}", tmp_path, monkeypatch)
    told = [failure for failure in report.failures if failure.finding.check is Check(tool)]
    assert [_dim(failure.file) for failure in told] == [planted_paths.GUILTY], _said(report)
    assert told[0].finding.kind.startswith(KINDS[tool])
    assert told[0].finding.kind.endswith(f" in planted_{tool}_kernel")
    assert "planted_kernels.py:" in told[0].finding.message
    assert [(row.agrees, row.disagrees) for row in report.rows] == [(1, 1)]


@pytest.mark.parametrize("tool", planted_paths.SEEN)
def test_the_same_without_the_defect_is_green(tool: str, tmp_path: File, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is anything that the suite itself does with memory told."""
    report = _ran(tool, f"healthy-{tool}", tmp_path, monkeypatch)
    assert report.ok, _said(report)
