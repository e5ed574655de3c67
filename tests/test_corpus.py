"""Cases that once made a healthy kernel look wrong, or a wrong one right, and the smallest of bugs, are run again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gdn_verify import gate
from gdn_verify.cases.catalogue import catalogue
from gdn_verify.cases.codec import dumps, load
from gdn_verify.cases.contract import Kind
from gdn_verify.mutants import planter_of
from gdn_verify.profiles import PROFILES
from gdn_verify.service import Job
from gdn_verify.suspect import Answer, Suspect

CORPUS = Path(gate.__file__).parent / "cases" / "corpus"
HEALTHY = {
    "blas-sums-in-order": ("transformers-chunk", "cpu"),
    "a-weak-decay-stagnates": ("fla-recurrent", "interpreter"),
    "equal-keys-sum-in-order": ("fla-recurrent", "interpreter"),
    "drafts-beside-a-prompt": ("dispatch", "interpreter"),
    "plain-padding-beside-a-draft": ("fused-spec", "interpreter"),
    "denormal-keys-tie": ("conv-chunk-delta", "interpreter"),
}
SMALL = 3.2
"""Healthy ratios stay near 3 and below: accusations start at about 7."""


def test_every_file_is_run() -> None:
    """A corpus file that no test names would be forgotten."""
    assert {file.stem for file in CORPUS.glob("*.json")} == set(HEALTHY)


def test_every_file_has_a_live_row() -> None:
    """A path that takes one file alone would be red for having agreed on nothing."""
    for file in CORPUS.rglob("*.json"):
        case = load(file).case
        assert any(row.live for batch in case.batches for row in batch.rows), file.stem


@pytest.mark.parametrize("host", ["cpu", "interpreter"])
def test_a_bugs_smallest_case_shows_it(host: str) -> None:
    """A file in the folder of bugs has the name of a mutant of the catalogue, which its case alone shows."""
    mutants = {mutant.name: mutant for bug in catalogue() for mutant in bug.mutants}
    files = {file.stem: load(file) for file in sorted((CORPUS / "bugs").glob("*.json"))}
    own = {name: file for name, file in files.items() if mutants[name].host == host}
    assert own
    silent = []
    with Suspect(Job("fallback", host, Kind.DECODE)) as suspect:
        for name, file in own.items():
            plant = planter_of(name)
            suspect.job = Job(mutants[name].path, host, file.case.kind, watches=1, plant=plant)
            answer = suspect.ask((file.case, file.presentation))
            suspect.job = replace(suspect.job, plant=None)
            assert suspect.ask((file.case, file.presentation)) == Answer(), name
            silent += [] if answer.shown else [name]
    assert silent == []


@pytest.mark.slow  # the gate runs the corpus first, on every path that takes it
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
