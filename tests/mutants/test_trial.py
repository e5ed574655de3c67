"""Trials: mutants that differ die, those that do not survive, and whatever a mutant does stays in a child."""

from __future__ import annotations

import inspect
import os
import sys
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from gdn_verify.campaign import OWN, Campaign, plan
from gdn_verify.cases.codec import loads
from gdn_verify.cases.contract import Kind
from gdn_verify.mutants import BUGS, MUTANTS, sources
from gdn_verify.mutants.child import forked
from gdn_verify.mutants.known import known, on_cards
from gdn_verify.mutants.record import ARGUED, Row, Summary, argued, arguments, load, save, waiting
from gdn_verify.mutants.systematic import Slip, mutants, source_of
from gdn_verify.mutants.trial import Fate, Verdict, order, sampled, tried
from gdn_verify.paths import find_subject, subjects
from gdn_verify.profiles import PROFILES
from gdn_verify.runner import CaseResult
from gdn_verify.service import Job, Trial, draw

FEW = replace(PROFILES["gate"], short=12, long=6, courses=2)
BUILDERS = tuple(job for job in plan(FEW) if job.path == "tables")


def made(file: str, before: str, after: str) -> Slip:
    """A mutant by hand, of a text that stands there once."""
    start = source_of(file).index(before)
    assert source_of(file).count(before) == 1
    return Slip(f"{file}::by hand", file, "", "sign", 1, 10_000, start, before, after)


def fate(mutant: Slip, **settings: float) -> Row:
    (row,) = Campaign(BUILDERS, **settings).run([mutant], 1)
    return row


def test_a_mutant_that_differs_is_killed() -> None:
    """The row says by which check, on which subject, and has the case."""
    row = fate(made("tables.py", "(width or 1) - len(row.slots)", "(width or 1) + len(row.slots)"))
    assert (row.fate, row.check, row.path, row.host) == (Fate.KILLED, "tables", "tables", "cpu")
    assert row.cases >= 1
    assert '"rows"' in row.case


@pytest.mark.slow
def test_the_smallest_case_that_kills_is_sought_where_asked() -> None:
    """It shows the mutant too, with no more tokens than the first that did."""
    wrong = made("tables.py", "(width or 1) - len(row.slots)", "(width or 1) + len(row.slots)")
    row = fate(wrong, shrink=20.0)
    first = sum(batch.tokens for batch in loads(row.case).case.batches)
    assert row.tokens is not None
    assert 1 <= row.tokens <= first
    assert (fate(wrong).smallest, fate(wrong).tokens) == ("", None)


def test_a_mutant_that_is_the_same_survives() -> None:
    """All cases of the jobs have run then."""
    row = fate(made("tables.py", "(width or 1) - len(row.slots)", "(width if width else 1) - len(row.slots)"))
    assert (row.fate, row.check) == (Fate.SURVIVED, "")
    assert row.cases == sum(job.count for job in BUILDERS)


def test_a_mutant_whose_time_is_up_is_left_open() -> None:
    """Nothing is said about cases that were not run."""
    row = fate(
        made("tables.py", "(width or 1) - len(row.slots)", "(width if width else 1) - len(row.slots)"), limit=0.0
    )
    assert (row.fate, row.cases) == (Fate.OPEN, 0)


def test_a_mutant_that_ends_its_process_is_killed() -> None:
    """As a segmentation fault would be, with the case that it happened on."""
    row = fate(made("tables.py", "(width or 1) - len(row.slots)", "__import__('os').abort()"))
    assert (row.fate, row.check, row.finding) == (Fate.KILLED, "crash", "SIGABRT")
    assert row.cases == 1
    assert row.case


def test_a_mutant_that_hangs_is_killed() -> None:
    """After the patience of the campaign."""
    row = fate(made("tables.py", "(width or 1) - len(row.slots)", "__import__('time').sleep(99)"), patience=2.0)
    assert row.check == "crash"
    assert row.finding.startswith("hang")


def test_what_is_slow_without_the_mutant_is_no_hang() -> None:
    """A cold cache, or a slow core: patience grows until healthy kernels answer."""
    same = made("tables.py", "(width or 1) - len(row.slots)", "(width if width else 1) - len(row.slots)")
    assert fate(same, patience=0.001).fate == Fate.SURVIVED


@pytest.mark.slow
def test_a_checkpoint_in_the_entry_of_another_is_killed() -> None:
    """Nothing but a prefill that goes on from it can show one."""
    pytest.importorskip("triton")
    few = replace(FEW, interpreted_long=24)
    jobs = [job for job in plan(few) if job.path == "chunk-delta-checkpoints" and job.kind == Kind.PREFILL]
    wrong = made("triton/scan_kernel.py", "first // EVERY + done // EVERY - 1", "first // EVERY + done // EVERY")
    (row,) = Campaign(tuple(job for job in jobs if not job.laws)).run([wrong], 1)
    assert (row.fate, row.path) == (Fate.KILLED, "chunk-delta-checkpoints")


@pytest.mark.slow
def test_a_line_that_only_an_idle_launch_comes_by_is_tried() -> None:
    """Where nothing is to be computed, a path that leaves padding alone may not clear it."""
    pytest.importorskip("triton")
    few = replace(FEW, interpreted_long=2)
    jobs = [job for job in plan(few) if job.path == "prefill-null" and job.kind == Kind.PREFILL and not job.laws]
    (wrong,) = (slip for slip in mutants(["triton/chunk.py"]) if slip.after == "(output.zero_())")
    (row,) = Campaign(tuple(jobs)).run([wrong], 1)
    assert (row.fate, row.check) == (Fate.KILLED, "launches")


def test_a_bug_of_the_catalogue_is_killed_on_its_own_path() -> None:
    """Planted case by case; the jobs are those of its path and host, and the row names the bug."""
    (bug,) = [each for each in known() if each.name == "offsets_go_on_in_padding"]
    jobs = plan(FEW, [bug])
    assert {(job.path, job.host) for job in jobs} == {("tables-buffers", "cpu")}
    (row,) = Campaign(jobs).run([bug], 1)
    assert (row.fate, row.check, row.path, row.operator) == (Fate.KILLED, "tables", "tables-buffers", "drafts")
    assert row.bug == BUGS["offsets_go_on_in_padding"]


def test_every_bug_that_needs_no_card_is_in_a_campaign() -> None:
    """And the others are named."""
    assert {each.name for each in known()} | set(on_cards()) == set(MUTANTS)
    assert not {each.name for each in known()} & set(on_cards())


def test_a_mutant_that_cannot_be_imported_is_stillborn() -> None:
    """It says nothing about the gate."""
    row = fate(made("tables.py", "(width or 1) - len(row.slots)", "(width"))
    assert row.fate == Fate.STILLBORN
    assert "SyntaxError" in row.finding


def test_a_mutant_that_no_case_comes_by_survives() -> None:
    """Nothing has shown it, which is not the same as having killed it."""
    (row,) = Campaign(()).run([mutants(["tables.py"])[0]], 1)
    assert (row.fate, row.cases) == (Fate.SURVIVED, 0)


def test_work_leaves_its_parent_alone() -> None:
    """What it changes is its own; what it raises is its death."""
    done = forked(lambda beat: (os.environ.__setitem__("GDN_CHILD", "1"), beat("once"), 7)[-1])
    assert (done.answer, done.beats, done.beat, done.death) == (7, 1, "once", "")
    assert "GDN_CHILD" not in os.environ
    assert forked(lambda beat: 1 / 0).death == "exit status 1"


def test_silent_work_is_ended() -> None:
    """After its patience, not when it would have."""
    started = time.perf_counter()
    assert forked(lambda beat: time.sleep(60), 0.5).death == "hang: no answer for 0 s"
    assert time.perf_counter() - started < 20.0


def test_cases_that_pass_the_place_come_first() -> None:
    """And every case comes once."""
    job, other = Job("a", "cpu", Kind.DECODE, count=60), Job("b", "cpu", Kind.SPEC, count=60)
    law = Job("a", "cpu", Kind.DECODE, count=2, laws=("split",))
    drawn = {each: [None] * each.count for each in (job, other, law)}
    came = [*order([job, other, law], drawn, {job: frozenset({5, 7, 30})})]  # type: ignore[arg-type]
    assert came[:3] == [(job, 5), (job, 7), (job, 30)]
    assert len(came) == len(set(came)) == 122
    assert came.index((law, 0)) == 40 + 40


def test_saved_cases_come_after_two_that_pass() -> None:
    """And before the many: they were saved because nothing that is drawn is like them."""
    job, other = Job("a", "cpu", Kind.DECODE, count=60), Job("b", "cpu", Kind.DECODE, count=60)
    saved, last = (replace(each, kind=Kind.SPEC, count=2, files=("", "")) for each in (job, other))
    drawn = {each: [None] * each.count for each in (job, other, saved, last)}
    passing = {job: frozenset(range(20)), other: frozenset({7})}
    came = [*order([last, other, saved, job], drawn, passing)]  # type: ignore[arg-type]
    assert came[:3] == [(job, 0), (job, 1), (other, 7)]
    assert came[3:7] == [(saved, 0), (saved, 1), (last, 0), (last, 1)]
    assert len(came) == len(set(came)) == 124


def test_changed_kernels_are_there_within_a_block() -> None:
    """Whoever imports one there gets the change, by the same name; outside everything is as it was."""
    texts = sources.changed(("rows.py", "class Tables:", "class Tables:\n    CHANGED = True\n"))
    kernels = sources.Kernels(texts)
    from gdn_verify.kernels import delta

    for _ in range(2):
        with kernels.live():
            from gdn_verify.kernels.delta import Tables as inside  # noqa: N813

            assert inside.CHANGED  # type: ignore[attr-defined]
        from gdn_verify.kernels.delta import Tables as outside  # noqa: N813

        assert not hasattr(outside, "CHANGED")
        assert sys.modules["gdn_verify.kernels.delta"] is delta


def test_a_change_has_one_place() -> None:
    """Or it is not known what is planted."""
    with pytest.raises(LookupError, match=r"rows\.py has 'no such text' 0 times"):
        sources.changed(("rows.py", "no such text", ""))


def test_a_sample_stays_when_others_come_and_go() -> None:
    """At most one of ten gives way to each that is new, and those that are left are the same."""
    few = mutants(["tables.py"])
    ten = sampled(few, 10)
    assert len(ten) == 10
    assert sampled(few[::-1], 10) == ten
    others = [mutant for mutant in few if mutant is not ten[3]]
    assert set(ten) - set(sampled(others, 10)) == {ten[3]}
    assert len(sampled(few, 10_000)) == len(few)


@pytest.mark.parametrize("name", ["m.json", "m.json.gz"])
def test_a_record_is_taken_up(name: str, tmp_path: Path) -> None:
    """Rows of mutants that are still the same, packed or not; what was never tried comes before what is open."""
    killed, still_open, gone, new = mutants(["tables.py"])[:4]
    rows = [
        Row.of(killed, Verdict(Fate.KILLED, "tables", seconds=1.234)),
        Row.of(still_open, Verdict(Fate.OPEN)),
        replace(Row.of(gone, Verdict(Fate.SURVIVED)), before="other"),
    ]
    save(tmp_path / name, rows)
    kept = load(tmp_path / name, mutants(["tables.py"]))
    assert kept == {killed.name: replace(rows[0], seconds=1.23), still_open.name: rows[1]}
    assert waiting([killed, still_open, gone, new], kept) == [gone, new, still_open]
    assert load(tmp_path / "none.json", mutants(["tables.py"])) == {}


def test_the_score_counts_what_can_be_told_apart() -> None:
    """Neither equivalent nor stillborn mutants; those left open, or that show elsewhere, count as alive."""
    rows = [
        Row.of(mutants(["tables.py"])[0], Verdict(fate))
        for fate in (*[Fate.KILLED] * 3, Fate.SURVIVED, Fate.OPEN, Fate.ELSEWHERE, Fate.EQUIVALENT, Fate.STILLBORN)
    ]
    assert Summary.of(rows).score == pytest.approx(0.5)


def test_what_is_not_tried_is_there_with_a_reason() -> None:
    """A record that has outlived its place is an error, not an excuse."""
    known, named = arguments(), {mutant.name: mutant for mutant in mutants()}
    assert set(known) <= set(named)
    assert all(len((argued(named[name], known) or ("", ""))[1]) > 20 for name in known)
    assert {fate for fate, _ in known.values()} == set(ARGUED)
    mutant = mutants(["tables.py"])[0]
    stale = {mutant.name: (Fate.EQUIVALENT, {"before": "other", "after": mutant.after, "why": "…"})}
    with pytest.raises(LookupError, match="look at it again"):
        argued(mutant, stale)


def test_all_that_run_the_kernels_are_tried() -> None:
    """A path of this project that is added later is part of a campaign, if it runs where campaigns do."""
    own = {name for name, subject in subjects().items() if "gdn_verify.kernels" in inspect.getsource(_home(subject))}
    assert {name for name in own if {"cpu", "interpreter"} & set(find_subject(name).hosts)} == set(OWN)


def _home(subject: object) -> ModuleType:
    return import_module(type(subject).__module__)


def test_a_path_is_what_it_is_on_the_host_of_the_case() -> None:
    """The dispatcher takes torch's path on a processor, and kernels where they are interpreted."""
    pytest.importorskip("triton")
    jobs = [
        Job("dispatch", host, kind, "tiny", 2)
        for kind in (Kind.DECODE, Kind.PREFILL)
        for host in ("cpu", "interpreter")
    ]
    drawn = {job: draw(job, find_subject(job.path)) for job in jobs}
    seen: list[tuple[str, str]] = []

    def run(self: Trial, fed: object, number: int) -> CaseResult:
        seen.append((self.job.host, self.path._kernel))  # type: ignore[union-attr]
        return CaseResult(judged=1)

    def trial(beat: object) -> list[tuple[str, str]]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Trial, "run", run)
            tried(made("delta.py", "h = h * decay", "h = h * decay  # as ever"), jobs, drawn, {})
        return seen

    assert set(forked(trial).answer) == {("cpu", "fallback"), ("interpreter", "auto")}
