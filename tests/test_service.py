"""The worker's side of a run: what it says of a job, in which order."""

from __future__ import annotations

from collections.abc import Callable

import fake_paths
import pytest

from gdn_verify import service
from gdn_verify.cases.contract import Kind
from gdn_verify.hosts import HOSTS
from gdn_verify.hosts.base import Host
from gdn_verify.mutants import planter_of
from gdn_verify.service import Absent, Begun, Done, Ended, Job, Launching, Ready, Unloadable

FILES = Job("fake-healthy", "cpu", Kind.DECODE, files=fake_paths.case_files())
Asks = Callable[..., list[object]]


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Asks:
    """All answers to a job in the order in which they leave, without a process."""
    monkeypatch.setattr(service, "find_subject", fake_paths.fake)

    def asked(job: Job, host: Host = HOSTS["cpu"]) -> list[object]:
        said: list[object] = []
        for event in service._answer(job, host, service._Loaded(), said.append):
            said.append(event)  # the path's own launches are told in between
        return said

    return asked


def test_a_case_is_told_before_it_runs(ask: Asks) -> None:
    """Should it be the last, it is known; and when the path's own code is entered and left."""
    first, *events, last = ask(FILES)
    assert isinstance(first, Ready)
    told = [event.entered if isinstance(event, Launching) else type(event) for event in events]
    assert told == [Begun, True, False, Ended] * len(FILES.files)
    assert last == Done(len(FILES.files))


def test_code_that_raises_is_left_too(ask: Asks) -> None:
    """The oracle's time after it is not the path's silence."""
    entered = [e.entered for e in ask(Job("fake-raise-8", "cpu", Kind.DECODE, files=FILES.files[:1])) if _launch(e)]
    assert entered == [True, False]


def _launch(event: object) -> bool:
    return isinstance(event, Launching)


def test_skipped_cases_keep_their_numbers(ask: Asks) -> None:
    """A job taken up again goes on where a worker died."""
    events = ask(Job(FILES.path, FILES.host, FILES.kind, files=FILES.files, skip=4))
    assert [event.index for event in events if isinstance(event, Begun)] == [4, 5]


def test_the_same_job_is_the_same_cases(ask: Asks) -> None:
    """Nothing is drawn from a clock; a skip leaves the rest as it was."""
    whole = Job("fake-healthy", "cpu", Kind.DECODE, count=6, seed=3)
    rest = Job("fake-healthy", "cpu", Kind.DECODE, count=6, seed=3, skip=2)
    files = [[event.file for event in ask(job) if isinstance(event, Begun)] for job in (whole, whole, rest)]
    assert files[0] == files[1]
    assert files[0][2:] == files[2]


def test_a_missing_path_is_absent_with_its_remedy(ask: Asks) -> None:
    """One word, and no case."""
    (event,) = ask(Job("fake-missing", "cpu", Kind.DECODE, count=3))
    assert event == Absent("libfake is not installed (pip install 'libfake[gpu]')")


def test_a_missing_host_comes_before_a_missing_path(ask: Asks) -> None:
    """Whoever has no card need not install anything for it."""

    class NoCard(Host):
        def missing(self) -> str | None:
            return "no card"

    assert ask(Job("fake-missing", "cpu", Kind.DECODE, count=3), NoCard("cuda", "cuda")) == [Absent("no card")]


def test_a_path_that_does_not_load_says_what_it_raised(ask: Asks) -> None:
    """An installed package that is broken is neither missing nor the suite's fault."""
    (event,) = ask(Job("fake-broken-import", "cpu", Kind.DECODE, count=3))
    assert isinstance(event, Unloadable)
    assert event.reason.endswith("ImportError: libfake.so: undefined symbol: gdn_forward")


def test_a_planted_job_disagrees(ask: Asks) -> None:
    """The defect is in the copy that runs; without it the same cases agree."""
    planted = Job(FILES.path, "cpu", Kind.DECODE, files=FILES.files, plant=planter_of("unwritten_element"))
    findings = [[bool(e.result.findings) for e in ask(job) if isinstance(e, Ended)] for job in (FILES, planted)]
    assert not any(findings[0])
    assert any(findings[1])


@pytest.mark.parametrize("name", ["no_colon", "no_such_module:f", planter_of("no_such_defect")])
def test_a_plant_that_is_not_there_is_an_error(name: str) -> None:
    """A defect that cannot be planted must not leave a healthy path to be found healthy."""
    with pytest.raises((ValueError, ImportError, AttributeError)):
        service.planter(name)
