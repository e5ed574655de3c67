"""Shrinking: what is left shows the same finding, nothing simpler does, and time and chance are taken into account."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from pathlib import Path as File

import fake_paths
import pytest
from typer.testing import CliRunner

from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.codec import CaseFile, load, loads, save
from gdn_verify.cases.contract import DTypes, Geometry
from gdn_verify.cases.presentation import Packing, Presentation
from gdn_verify.cases.strategies import Fed
from gdn_verify.cases.values import Fill, Gates, States, Values, Vectors
from gdn_verify.cli import app
from gdn_verify.service import Job
from gdn_verify.shrink import NotShownError, order, shrink
from gdn_verify.suspect import Suspect, UnaskableError

VALUES = Values(7, Vectors.NORMAL, Vectors.NORMAL, Fill.NORMAL, Gates.NORMAL, state=States.NORMAL)
ROWS = (Row(1, (4,)), Row(70, (2,)), Row(5, (0,), fresh=True))
CASE = Case(Geometry(H=2, HV=8, K=64, V=32), DTypes(), 6, (Batch(ROWS, pad_tokens=3),), VALUES)
FED: Fed = (CASE, Presentation(packing=Packing.INTERLEAVED, slot_pad=8))
BRIEF = replace(CASE, geometry=Geometry(2, 4, 8, 4), batches=(Batch((Row(1, (4,)), Row(3, (2,)))),))
RUN: Fed = (BRIEF, FED[1])
"""Quick to run."""


def long_row(fed: Fed) -> bool:
    """A bug at the end of a chunk of 64 tokens, in launches of at least two value heads a key head."""
    return fed[0].geometry.ratio > 1 and any(row.tokens > 64 for batch in fed[0].batches for row in batch.rows)


@pytest.mark.parametrize("on_gpu", [False, True])
def test_only_what_the_finding_needs_is_left(on_gpu: bool) -> None:
    """One row of 65 tokens and two heads; all else is as simple as can be, in either order of passes."""
    found = shrink(FED, long_row, seconds=60, passes=order(on_gpu))
    wanted = Case(Geometry(1, 2, 1, 1, W=2), DTypes(), 1, (Batch((Row(65, (0,)),)),))
    assert found.fed == (wanted, Presentation())
    assert found.finished
    assert not found.flaky
    assert found.counts["fewer_tokens"].taken
    assert 10 < found.runs < 100


def test_each_step_shows_the_finding_and_is_told() -> None:
    """What is kept on the way is never a case that passes: a run that is broken off loses nothing."""
    seen: list[Fed] = []
    shrink(FED, long_row, seconds=60, progress=lambda found: seen.append(found.fed))
    assert seen
    assert all(map(long_row, seen))
    again = shrink(seen[len(seen) // 2], long_row, seconds=60)
    assert again.fed == shrink(FED, long_row, seconds=60).fed


def test_time_ends_it() -> None:
    """With what was found by then."""

    def slow(fed: Fed) -> bool:
        time.sleep(0.02)
        return long_row(fed)

    found = shrink(FED, slow, seconds=0.3)
    assert not found.finished
    assert long_row(found.fed)
    assert found.seconds < 2


def test_slow_runs_leave_time_to_shrink() -> None:
    """The first runs of the case itself do not use up the time that shrinking has."""

    def slow(fed: Fed) -> bool:
        time.sleep(0.3)
        return long_row(fed)

    found = shrink(FED, slow, seconds=1.0)
    assert found.runs >= 2
    assert found.seconds < 2


def test_a_case_that_passes_is_refused() -> None:
    """There is nothing to look for."""
    with pytest.raises(NotShownError, match="does not show the finding"):
        shrink(FED, lambda fed: False, seconds=5)


def test_a_race_is_shrunk_by_its_rate() -> None:
    """It fails in half of its runs: a simpler case is run often enough not to be passed over, and it is said."""
    chance = random.Random(3)
    found = shrink(FED, lambda fed: long_row(fed) and chance.random() < 0.5, seconds=60)
    assert found.flaky
    assert 0 < found.rate < 1
    assert sum(row.tokens for row in found.fed[0].batches[0].rows) <= 70
    assert long_row(found.fed)


def test_a_defect_is_shrunk_where_it_runs() -> None:
    """In a worker: of heads that are mixed up two are left, and one token."""
    with Suspect(Job("fallback", "cpu", CASE.kind, plant="gdn_verify.mutants.planted:wrong_head_map")) as suspect:
        target = suspect.shown(RUN)[0]
        found = shrink(RUN, lambda fed: target in suspect.shown(fed), seconds=60)
    assert found.finished
    case = found.fed[0]
    assert (case.geometry.H, case.geometry.HV) == (2, 2)
    assert [len(batch.rows) for batch in case.batches] == [1]
    assert case.batches[0].tokens == 1


def test_a_healthy_path_shows_nothing() -> None:
    """Nor does one that refuses the case."""
    with Suspect(Job("fallback", "cpu", CASE.kind)) as suspect:
        assert suspect.shown(RUN) == ()
        wide = replace(BRIEF, geometry=replace(BRIEF.geometry, num_spec=7))
        assert suspect.shown((wide, FED[1])) == ()


@pytest.fixture
def installed(tmp_path: File, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers find the fakes, through a real entry point."""
    monkeypatch.setenv("PYTHONPATH", fake_paths.install(tmp_path))


@pytest.mark.usefixtures("installed")
def test_a_worker_that_dies_is_a_finding_and_is_replaced() -> None:
    """After a case that ends its worker the next is asked of another."""
    first, second = (loads(text) for text in fake_paths.case_files()[:2])
    deadly = next(file for file in map(loads, fake_paths.case_files()) if file.case.geometry.K == 16)
    healthy = first if first.case.geometry.K != 16 else second
    with Suspect(Job("fake-segfault-16", "cpu", deadly.case.kind)) as suspect:
        (shown,) = suspect.shown((deadly.case, deadly.presentation))
        assert shown == "crash/the worker died: SIGSEGV"
        assert suspect.shown((healthy.case, healthy.presentation)) == ()


def test_a_worker_that_dies_between_two_cases_accuses_neither() -> None:
    """The next is asked of another worker: what it shows is its own."""
    with Suspect(Job("fallback", "cpu", BRIEF.kind)) as suspect:
        assert suspect.shown(RUN) == ()
        assert suspect._worker is not None
        suspect._worker.end()
        assert suspect.shown(RUN) == ()


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(("path", "words"), [("fake-missing", "is not installed"), ("fake-broken-import", "import")])
def test_a_path_that_cannot_run_says_so(path: str, words: str) -> None:
    """Its reason is the message."""
    with Suspect(Job(path, "cpu", CASE.kind)) as suspect, pytest.raises(UnaskableError) as raised:
        suspect.shown(FED)
    assert words in str(raised.value).lower()


def test_the_command_keeps_what_it_finds(tmp_path: File) -> None:
    """A file that fails, the pass counters, and the case itself."""
    file = tmp_path / "case.json"
    save(file, CaseFile(*RUN, notes="from a gate"))
    asked = ["shrink", str(file), "--path", "fallback", "--plant", "wrong_head_map", "--explain", "60"]
    told = CliRunner().invoke(app, asked)
    assert told.exit_code == 0, told.output
    assert "fewer_heads" in told.output
    assert "nothing simpler shows it" in told.output
    assert "fails with" in told.output
    assert "left: 1 launch, 1 row, 1 token, H=2 HV=2" in told.output
    kept = load(tmp_path / "case.small.json")
    assert kept.case.geometry.HV == 2
    assert kept.notes == "from a gate"


def test_a_case_that_the_path_refuses_is_said_so(tmp_path: File) -> None:
    """With the field."""
    file = tmp_path / "case.json"
    save(file, CaseFile(replace(BRIEF, batches=(Batch((Row(5, (0,)),)),)), Presentation()))
    told = CliRunner().invoke(app, ["shrink", str(file), "--path", "fused-decode", "--host", "interpreter"])
    assert told.exit_code == 2
    assert "fused-decode does not take this case: batch 0" in " ".join(told.output.split())


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ([], "shows nothing"),
        (["--plant", "wrong_head_map", "--finding", "values/h of Mars"], "the case shows"),
        (["--host", "mars"], "no host of fallback"),
        (["--output", "/no/such/folder/x.json"], "name a file in a folder that exists"),
        (["--plant", "wrong_head_map,dropped_decay"], "name one"),
        (["--path", "fallback,dispatch"], "name one"),
    ],
)
def test_what_cannot_be_shrunk_is_said(tmp_path: File, more: list[str], words: str) -> None:
    """With exit status 2."""
    file = tmp_path / "case.json"
    save(file, CaseFile(*RUN))
    told = CliRunner().invoke(app, ["shrink", str(file), "--path", "fallback", *more])
    assert told.exit_code == 2
    assert words in " ".join(told.output.split())
