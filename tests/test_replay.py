"""Saved cases run again on every path that takes them, and one that fails makes the command fail."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path as File

import fake_paths
import pytest
from typer.testing import CliRunner

from gdn_verify.cases.codec import load, loads
from gdn_verify.cases.contract import Kind
from gdn_verify.cli import app
from gdn_verify.corpus import FOLDER, corpus, planned
from gdn_verify.paths import Subject, find_subject
from gdn_verify.pytest_plugin import _jobs

GREEN, RED, REFUSED = 0, 1, 2
CPU = ("cpu",)


def planned_for(names: Sequence[str], texts: Sequence[str]) -> list[tuple[str, str, int]]:
    subjects: list[Subject] = [find_subject(name) for name in names]
    return [(job.path, str(job.kind), job.count) for job in planned([loads(text) for text in texts], subjects, CPU)]


def test_each_path_is_given_the_cases_that_it_takes() -> None:
    """By kind, and a table builder those of drafts and steps alike."""
    texts = [file.read_text() for file in sorted(FOLDER.glob("*.json"))]
    kinds = {str(load(file).case.kind) for file in FOLDER.glob("*.json")}
    jobs = planned_for(["fallback", "transformers-recurrent", "tables"], texts)
    assert {kind for path, kind, _ in jobs if path == "tables"} == kinds
    assert sum(count for path, _, count in jobs if path == "tables") == len(texts)
    assert {kind for path, kind, _ in jobs if path == "transformers-recurrent"} <= {"decode", "prefill", "mixed"}


def test_the_corpus_is_replayed_by_default() -> None:
    """Green on right paths."""
    done = CliRunner().invoke(app, ["replay", "--paths", "tables,tables-feed", "--workers", "1"])
    assert done.exit_code == GREEN, done.output
    assert "the gate is green" in done.output


def test_a_folder_with_a_failing_case_is_red(tmp_path: File) -> None:
    """A case that ends its worker among others that do not; the right path is green."""
    folder = tmp_path / "kept"
    folder.mkdir()
    for number, text in enumerate(fake_paths.case_files()[:2]):
        (folder / f"{number}.json").write_text(text, encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": fake_paths.install(tmp_path / "site")}

    def run(path: str) -> int:
        line = [sys.executable, "-m", "gdn_verify.cli", "replay", str(folder), "--paths", path, "--workers", "1"]
        return subprocess.run(line, env=env, capture_output=True, check=False).returncode

    assert (run("fake-healthy"), run("fake-segfault-16")) == (GREEN, RED)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [("nothing", "", "no case files"), ("broken", "{", "broken.json"), ("foreign", "{}", "foreign.json")],
)
def test_what_is_no_case_is_refused(name: str, text: str, words: str, tmp_path: File) -> None:
    """By its name."""
    if text:
        (tmp_path / f"{name}.json").write_text(text)
    done = CliRunner().invoke(app, ["replay", str(tmp_path)])
    assert done.exit_code == REFUSED
    assert words in done.output


def test_a_gate_replays_what_it_judges_a_path_on() -> None:
    """Of the kinds asked for those that a gate asks of the path: interpreted prompts of FLA's recurrence are slow."""
    path = find_subject("fla-recurrent")
    given = corpus()
    assert Kind.PREFILL in {job.kind for job in planned(given, [path], ["interpreter"])}
    assert Kind.PREFILL not in {job.kind for job in planned(given, [path], ["interpreter"], list(Kind))}
    fallback = find_subject("fallback")
    assert {job.kind for job in planned(given, [fallback], CPU, [Kind.DECODE])} <= {Kind.DECODE}
    assert {job.plant for job in planned(given, [fallback], CPU, list(Kind), "a:defect")} == {"a:defect"}


def test_the_gate_under_pytest_replays_them_too() -> None:
    """Before what is drawn."""
    jobs = _jobs(("fallback", "cpu", "prefill"), "quick")
    assert jobs[0].files
    assert not any(job.files for job in jobs[1:])
