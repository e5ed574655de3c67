"""What runs under a tool: few cases, small ones, of paths with kernels, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path as File
from typing import Any

import fake_paths
import pytest
from typer.testing import CliRunner

from gdn_verify import cli, gate
from gdn_verify.campaign import OWN
from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import Kind
from gdn_verify.cases.narrow import padding
from gdn_verify.hosts.sanitizer import TOOLS
from gdn_verify.paths import find, registered
from gdn_verify.profiles import SANITIZE, Profile
from gdn_verify.report.tally import Report
from gdn_verify.sanitize import plan
from gdn_verify.service import SIZES, Job, draw
from gdn_verify.verdict import Check

Planned = Callable[..., tuple[int, list[Job]]]
KERNELS = [name for name, path in registered().items() if path.kernels and "cuda" in path.hosts]


def test_every_tool_gets_the_same_cases() -> None:
    """Under its own name; neither laws nor replays nor trajectories."""
    jobs = plan([find("dispatch")], ["cuda"], Kind, TOOLS)
    kinds = [(job.kind, job.count, job.seed) for job in jobs if job.check is Check.MEMCHECK]
    assert kinds == [(kind, SANITIZE.cases("cuda", kind), SANITIZE.seed) for kind in Kind]
    for tool in TOOLS:
        assert [(job.kind, job.count, job.seed) for job in jobs if job.check == tool] == kinds
    assert not any(job.laws or job.replays or job.repeats or job.watches for job in jobs)


def _cases(name: str, *kinds: Kind) -> list[Case]:
    path = find(name)
    return [case for job in plan([path], ["cuda"], kinds, ["racecheck"]) for (case, _), _ in draw(job, path)]


@pytest.mark.parametrize("name", KERNELS)
def test_few_shapes_and_small_launches(name: str) -> None:
    """A tool makes a kernel many times slower, and every shape is a compilation."""
    cases = _cases(name, *Kind)
    assert len({case.geometry for case in cases}) <= SANITIZE.shapes
    assert all(batch.tokens <= SIZES["watched"].max_tokens for case in cases for batch in case.batches)


@pytest.mark.parametrize("name", [name for name in KERNELS if name in OWN])
def test_few_cases_have_what_is_served(name: str) -> None:
    """Heads of 128 by 128, in a prefill rows of more than one chunk of 64 tokens, padding where the path takes it.

    Of this project's paths; others take few of the sizes. Whoever changes what is drawn may have to look for another
    seed.
    """
    cases, capabilities = _cases(name, *Kind), find(name).capabilities
    assert any(case.geometry.K == case.geometry.V == 128 for case in cases)
    filled = {padding(case.batches[0], n) for case in cases for n in range(len(case.batches[0].rows))} - {None}
    assert filled or any(case.batches[0].pad_tokens for case in cases) or not capabilities.paddings
    if Kind.PREFILL in capabilities.kinds:
        served = [case for case in _cases(name, Kind.PREFILL, Kind.MIXED) if case.geometry.K == 128]
        assert max(row.tokens for case in served for row in case.batches[0].rows) > 64


@pytest.mark.parametrize(("name", "own"), [("fused-decode", True), ("fallback", False)])
def test_torch_is_watched_where_a_path_is_nothing_else(name: str, own: bool) -> None:
    """A check that looks at no kernel of a path would prove nothing."""
    assert {job.sanitizer and job.sanitizer.own_kernels for job in plan([find(name)], ["cuda"], Kind, TOOLS)} == {own}


def test_tools_follow_each_other() -> None:
    """A worker serves one tool, and starts slowly."""
    jobs = gate._by_host(plan([find("fused-decode"), find("fla-chunk")], ["cuda"], Kind, TOOLS))
    seen = [job.check for job in jobs]
    assert seen == sorted(seen)


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> Planned:
    """What `gdn-verify sanitize` would run: the number of workers, and the jobs."""
    ran: list[tuple[int, list[Job]]] = []

    def run(jobs: list[Job], profile: Any, *, workers: int, progress: Any) -> Report:
        ran.append((workers, jobs))
        return Report()

    monkeypatch.setattr(gate, "run", run)

    def command(*words: str) -> tuple[int, list[Job]]:
        CliRunner().invoke(cli.app, ["sanitize", *words])
        return ran[-1]

    return command


def test_three_tools_over_every_path_with_kernels_by_default(planned: Planned) -> None:
    """On CUDA, a worker for each card."""
    workers, jobs = planned()
    assert workers >= 1
    assert {job.path for job in jobs} == set(KERNELS)
    assert {job.host for job in jobs} == {"cuda"}
    assert {job.check for job in jobs} == {Check.MEMCHECK, Check.RACECHECK, Check.INITCHECK}


def test_who_names_a_path_or_a_tool_gets_it(planned: Planned) -> None:
    """Torch's too, and synccheck."""
    _, jobs = planned("--paths", "fallback", "--tools", "synccheck", "--seed", "7")
    assert {(job.path, job.check, job.seed) for job in jobs} == {("fallback", Check.SYNCCHECK, 7)}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("sanitize", "--hosts", "cpu"), "the host 'cpu' has none; use --hosts cuda"),
        (("sanitize", "--hosts", "cuda,interpreter"), "there `gdn-verify gate` checks each access itself"),
        (
            ("sanitize", "--tools", "lint"),
            "no tool is called 'lint'; known are memcheck, racecheck",
        ),
        (("sanitize", "--kinds", "trajectory"), "no path runs any of these kinds"),
    ],
)
def test_what_cannot_be_watched_is_refused(words: tuple[str, ...], said: str) -> None:
    """Exit status 2, and one line that says what can."""
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 2
    assert said in done.stderr


def test_a_machine_without_a_card_is_red_and_says_why() -> None:
    """Nothing was watched, so nothing is green."""
    done = CliRunner().invoke(cli.app, ["sanitize", "--paths", "fallback", "--hosts", "rocm", "--require", "rocm"])
    assert done.exit_code == 1
    assert "required: fallback on rocm: " in done.stdout


def test_a_saved_case_runs_under_a_tool(tmp_path: File, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the failure that it is from says; on a card, and without laws."""
    ran: list[Job] = []

    def run(jobs: list[Job], profile: Profile, **_: object) -> Report:
        ran.extend(jobs)
        return Report()

    monkeypatch.setattr(gate, "run", run)
    case = tmp_path / "case.json"
    case.write_text(fake_paths.case_files()[0], encoding="utf-8")
    command = ["check", str(case), "--path", "fallback", "--sanitize", "racecheck"]
    CliRunner().invoke(cli.app, command)
    assert [(job.host, job.check) for job in ran] == [("cuda", Check.RACECHECK)]
    for words, said in ((["--host", "cpu"], "use --hosts cuda"), (["--laws", "split"], "leave --laws out")):
        done = CliRunner().invoke(cli.app, [*command, *words])
        assert (done.exit_code, said in done.stderr) == (2, True)
