"""What a device was used for is told by cases that were judged there, never by a host's name."""

from __future__ import annotations

import fake_paths
import pytest

from gdn_verify.cases.codec import loads
from gdn_verify.cases.contract import Kind
from gdn_verify.expected import properties
from gdn_verify.hosts import Host
from gdn_verify.report.tally import Report
from gdn_verify.runner import ATTESTATION, CaseResult, run_case
from gdn_verify.service import Job, Ready
from gdn_verify.verdict import Check, Finding

JOB = Job("fake", "rocm", Kind.DECODE)
NAMED_ROCM = Host(name="rocm", device="cpu")


def _run(kernels: tuple[str, ...] = ()) -> CaseResult:
    path = fake_paths.fake("fake-healthy")
    path.kernels = kernels
    file = loads(fake_paths.case_files()[0])
    return run_case(file.case, file.presentation, path, NAMED_ROCM)


def _report(*results: CaseResult) -> Report:
    report = Report()
    report.open(JOB, Ready("1.0", "a card", 1.0))
    for result in results:
        report.add(JOB, "", result)
    return report


def test_outputs_in_the_processors_memory_are_no_cards_use() -> None:
    """Whatever the host is called, and though all agrees."""
    result = _run()
    assert not result.findings
    assert {kind: use.cases for kind, use in _report(result).used.items()} == {"cpu": 1}


def test_a_case_whose_kernels_were_not_launched_is_no_use() -> None:
    """It was judged, and is red; it shows nothing about the device."""
    result = _run(("some_kernel",))
    assert [finding.kind for finding in result.findings] == [ATTESTATION]
    assert result.judged
    assert not _report(result).used


@pytest.mark.parametrize(
    "result",
    [
        CaseResult(refused="too long"),
        CaseResult(findings=[Finding(Check.VALUES, "raised RuntimeError", "no device")], raised=True),
        CaseResult(),
    ],
    ids=["refused", "raised", "vacuous"],
)
def test_a_case_that_was_not_judged_is_no_use(result: CaseResult) -> None:
    """Nothing was compared."""
    assert not _report(result).used


def test_a_case_that_disagrees_is_a_use() -> None:
    """The device was used, and is wrong: that is another message."""
    wrong = CaseResult(judged=1, device="rocm", kernels=2, findings=[Finding(Check.VALUES, "o", "far off")])
    report = _report(wrong, CaseResult(judged=1, device="rocm", kernels=3))
    assert properties(report) == [("gdn_used", {"rocm": {"cases": 2, "kernels": 5, "names": ["a card"]}})]


def test_why_a_host_was_not_used_is_told() -> None:
    """As for a card that is not there."""
    report = Report()
    report.add_absent(JOB, "no rocm device is visible")
    assert properties(report) == [("gdn_absent", {"rocm": "no rocm device is visible"})]
