"""Cases that once made a healthy kernel look wrong, or a wrong one right: they are run again."""

from __future__ import annotations

from pathlib import Path

import pytest

from gdn_verify import gate
from gdn_verify.cases.codec import dumps, load
from gdn_verify.profiles import PROFILES
from gdn_verify.service import Job

CORPUS = Path(gate.__file__).parent / "cases" / "corpus"
HEALTHY = {
    "blas-sums-in-order": ("transformers-chunk", "cpu"),
    "a-weak-decay-stagnates": ("fla-recurrent", "interpreter"),
    "equal-keys-sum-in-order": ("fla-recurrent", "interpreter"),
    "drafts-beside-a-prompt": ("dispatch", "interpreter"),
    "denormal-keys-tie": ("conv-chunk-delta", "interpreter"),
}
SMALL = 3.2
"""Healthy ratios stay near 3 and below: accusations start at about 7."""


def test_every_file_is_run() -> None:
    """A corpus file that no test names would be forgotten."""
    assert {file.stem for file in CORPUS.glob("*.json")} == set(HEALTHY)


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_kernel_is_not_accused(name: str) -> None:
    """It agrees, and not by a hair."""
    path, host = HEALTHY[name]
    file = load(CORPUS / f"{name}.json")
    report = gate.run([Job(path, host, file.case.kind, files=(dumps(file),))], PROFILES["gate"], workers=1)
    report.finish()
    values = next(row for row in report.rows if row.check == "values")
    assert report.ok, [str(failure.finding) for failure in report.failures]
    assert values.worst_noise_ratio < SMALL
