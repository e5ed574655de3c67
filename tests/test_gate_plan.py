"""The plan of a run: which jobs, how many cases, in shards; and who is blamed when a worker dies between jobs."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import pytest

from gdn_verify import gate
from gdn_verify.cases.contract import Kind
from gdn_verify.checks.laws import NAMES
from gdn_verify.hosts import HOSTS, Host
from gdn_verify.hosts.worker import WorkerDiedError
from gdn_verify.oracles.wrong import WRONG_NAMES
from gdn_verify.paths import find
from gdn_verify.profiles import PROFILES, Profile
from gdn_verify.report.tally import MIN_POOLED, Report
from gdn_verify.runner import CaseResult
from gdn_verify.service import Begun, Done, Ended, Job, Ready

PROFILE = Profile("test", short=250, long=30, interpreted_short=120, interpreted_long=10, seed=7)


def _plan(path: str, hosts: tuple[str, ...] = tuple(HOSTS), kinds: tuple[Kind, ...] = tuple(Kind)) -> list[Job]:
    return gate.plan([find(path)], hosts, kinds, PROFILE)


@pytest.mark.parametrize(("profile", "watched"), [("quick", 0), ("gate", 40), ("nightly", 6000)])
def test_accesses_are_watched_in_the_gate(profile: str, watched: int) -> None:
    """Of the first cases, over all shards; a quick run does without, and so do laws, which launch the same cases."""
    jobs = gate.plan([find("fused-decode")], ["interpreter"], [Kind.DECODE], PROFILES[profile])
    assert sum(job.watches for job in jobs) == watched
    assert all(job.watches <= job.count for job in jobs)
    assert not any(job.watches for job in jobs if job.laws)


@pytest.mark.parametrize(
    ("host", "kind", "sizes"),
    [
        ("cuda", Kind.DECODE, [100, 100, 50]),
        ("cuda", Kind.PREFILL, [30]),
        ("interpreter", Kind.DECODE, [100, 20]),
        ("interpreter", Kind.MIXED, [10]),
    ],
)
def test_cases_are_cut_into_shards(host: str, kind: Kind, sizes: list[int]) -> None:
    """As many as the profile says, each shard with a seed of its own."""
    jobs = [job for job in _plan("fla-chunk", (host,), (kind,)) if job.size != "again"]
    assert [job.count for job in jobs] == sizes
    assert [job.seed for job in jobs] == [7 + number for number in range(len(jobs))]


def test_launches_are_made_again_of_small_cases_where_a_program_costs_much() -> None:
    """In the interpreter those have a job of their own, the last; elsewhere they are the first cases."""
    *judged, again = _plan("fla-chunk", ("interpreter",), (Kind.PREFILL,))
    assert not any(job.replays or job.repeats for job in judged)
    assert (again.size, again.count, again.replays, again.repeats) == ("again", 2, 2, 1)
    (first,) = _plan("fla-chunk", ("cuda",), (Kind.PREFILL,))
    assert (first.replays, first.repeats) == (8, 2)
    none = replace(PROFILE, replays=0, repeats=0)
    assert "again" not in [job.size for job in gate.plan([find("fla-chunk")], HOSTS, Kind, none)]


def test_a_variant_takes_half_the_cases() -> None:
    """Half rounded up; of a sweep, which asks about each configuration alone, all."""
    path = find("chunk-delta-exact")
    for sweep, count in ((False, 15), (True, 30)):
        profile = replace(PROFILE, interpreted_long=30, sweep=sweep)
        assert gate.plan([path], ["interpreter"], [Kind.PREFILL], profile)[0].count == count


def test_a_plan_holds_what_a_path_declares() -> None:
    """Its hosts, its kinds, no others; fewer where it says that other launches have such rows."""
    jobs = _plan("fla-chunk", ("interpreter", "cpu"))
    assert {job.host for job in jobs} == {"interpreter"}
    assert {job.kind for job in jobs} == {Kind.DECODE, Kind.PREFILL, Kind.MIXED}
    assert {job.kind for job in _plan("fla-recurrent", ("interpreter",))} == {Kind.DECODE, Kind.MIXED}


@pytest.mark.parametrize(
    ("path", "host", "bounded"),
    [("fla-chunk", "cuda", True), ("fla-chunk", "interpreter", False), ("fallback", "cuda", False)],
)
def test_compile_keys_are_bounded_where_kernels_are_compiled(path: str, host: str, bounded: bool) -> None:
    """A Triton path on a card gets a pool of shapes; elsewhere geometries are free."""
    assert {job.shapes for job in _plan(path, (host,))} == {PROFILE.shapes if bounded else None}


def test_a_defect_goes_with_every_job() -> None:
    """No shard of a planted run is healthy."""
    jobs = gate.plan([find("fallback")], ["cpu"], Kind, PROFILE, "module:defect")
    assert {job.plant for job in jobs} == {"module:defect"}


@pytest.mark.parametrize("name", [name for name, profile in PROFILES.items() if not profile.sweep])
def test_every_profile_runs_enough_for_bias_and_power(name: str) -> None:
    """Short launches are pooled, and a pool of too few is not judged: a quick run's, and those of variants.

    A quick run asks twenty where each is interpreted, and is nobody's last word before a merge.
    """
    assert PROFILES[name].name == name
    least = 1.1 * MIN_POOLED if name != "quick" else 20
    assert min(PROFILES[name].cases(host, Kind.DECODE) for host in HOSTS) >= least


LAWFUL = replace(PROFILE, laws=4, interpreted_laws=2)


def test_laws_come_last_and_hold_the_last_kind() -> None:
    """Mixed launches have rows of every kind; few cases, all laws, another number in the interpreter."""
    jobs = gate.plan([find("dispatch")], ("cpu", "interpreter"), Kind, LAWFUL)
    held = [job for job in jobs if job.laws]
    assert jobs[-len(held) :] == held
    assert [(job.host, job.kind, job.count, job.laws) for job in held] == [
        ("cpu", Kind.MIXED, 4, NAMES),
        ("interpreter", Kind.MIXED, 2, NAMES),
    ]


def test_laws_may_be_chosen_or_left_out() -> None:
    """And hold every kind where the profile says so."""
    every = replace(LAWFUL, laws_by_kind=True)
    held = [job for job in gate.plan([find("fallback")], ("cpu",), Kind, every, laws=("split",)) if job.laws]
    assert [(job.kind, job.laws) for job in held] == [(kind, ("split",)) for kind in Kind]
    assert not [job for job in gate.plan([find("fallback")], ("cpu",), Kind, every, laws=()) if job.laws]


Script = list[object]
DIES = WorkerDiedError("the worker died: SIGSEGV")
JOBS = tuple(Job(name, "cpu", Kind.DECODE, count=1) for name in ("first", "second"))


def _well() -> Script:
    """What a worker says of a job of one case."""
    result = CaseResult(judged=1, powers=[dict.fromkeys(WRONG_NAMES, 100.0)])
    return [Ready("1.0", "a processor", 1.0), Begun(0, "{}"), Ended(0, result), Done(1)]


class _Scripted:
    """A worker that says what it is told to, job by job; an exception in the script is its death."""

    def __init__(self, jobs: list[Script]) -> None:
        self._jobs, self._says = jobs, iter(())  # type: Any, Iterator[object]
        self._reader, self._writer = os.pipe()
        os.write(self._writer, b"always ready")

    def send(self, job: Job) -> None:
        script = self._jobs.pop(0)
        if not script:
            raise DIES
        self._says = iter(script)

    def receive(self, timeout: float, silence: float | None = None) -> object:
        message = next(self._says)
        if isinstance(message, Exception):
            raise message
        return message

    def fileno(self) -> int:
        return self._reader

    def end(self) -> None:
        """Nothing runs."""

    def close(self) -> None:
        os.close(self._reader)
        os.close(self._writer)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Report]:
    """Run JOBS in one seat; each list is a worker, in order of their start. All of them must be used."""

    def run(*workers: list[Script]) -> Report:
        waiting = list(workers)

        def start(host: Host, target: str, number: int) -> _Scripted:
            return _Scripted(waiting.pop(0))

        monkeypatch.setattr(gate, "Worker", start)
        report = gate.run(JOBS, replace(PROFILE, deaths=2), workers=1)
        assert not waiting
        report.finish()
        return report

    return run


@pytest.mark.parametrize(("host", "order"), [("cuda", ["a", "b", "a", "b"]), ("cpu", ["a", "a", "b", "b"])])
def test_workers_of_a_gpu_compile_for_different_paths(
    host: str, order: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another path waits; a kernel that two compile at once is compiled twice."""
    taken = []

    class Noting(_Scripted):
        def send(self, job: Job) -> None:
            taken.append(job.path)
            super().send(job)

    monkeypatch.setattr(gate, "Worker", lambda host, target, number: Noting([_well(), _well()]))
    jobs = [Job(name, host, Kind.DECODE, count=1) for name in ("a", "a", "b", "b")]
    assert gate.run(jobs, PROFILE, workers=2).cases == 4
    assert taken == order


def _verdicts(report: Report) -> dict[str, tuple[int, int]]:
    return {row.path: (row.agrees, row.crashed) for row in report.rows if row.check == "values"}


def test_a_worker_serves_job_after_job(scripted: Callable[..., Report]) -> None:
    """One start, two jobs."""
    assert _verdicts(scripted([_well(), _well()])) == {"first": (1, 0), "second": (1, 0)}


@pytest.mark.parametrize("death", [[], [DIES], [Ready("1.0", "a processor", 1.0), DIES]], ids=["idle", "load", "draw"])
def test_what_a_job_left_behind_is_not_blamed_on_the_next(scripted: Callable[..., Report], death: Script) -> None:
    """A used worker that dies before the next job's first case: that job is judged in a new one."""
    assert _verdicts(scripted([_well(), death], [_well()])) == {"first": (1, 0), "second": (1, 0)}


def test_a_new_worker_that_dies_before_the_first_case_is_the_paths_doing(scripted: Callable[..., Report]) -> None:
    """Once, and the next path goes on."""
    report = scripted([[DIES]], [_well()])
    assert _verdicts(report) == {"first": (0, 1), "second": (1, 0)}
    assert "does not load: the worker died: SIGSEGV" in report.failures[0].finding.message


def test_a_death_between_cases_is_told_with_the_last_case(scripted: Callable[..., Report]) -> None:
    """Memory ruined by one case may end the worker a little later: that case was fine, and is the suspect."""
    report = scripted([[*_well()[:-1], DIES]], [_well()])
    assert _verdicts(report) == {"first": (1, 1), "second": (1, 0)}
    assert report.failures[0].file == "{}"
