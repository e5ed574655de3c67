"""A worker has its own environment, and whatever ends it is told to whoever waits."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gdn_verify.hosts import HOSTS, worker
from gdn_verify.hosts.worker import Worker, WorkerDiedError

Start = Callable[..., Worker]
PATIENCE = 120.0
"""For the start of a process on a busy machine; no test waits for it."""


@pytest.fixture(autouse=True)
def _targets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers find `worker_targets`."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a worker on a target; all are ended with the test."""
    started: list[Worker] = []

    def make(target: str, host: str = "cpu") -> Worker:
        started.append(Worker(HOSTS[host], f"worker_targets:{target}"))
        return started[-1]

    yield make
    for one in started:
        one.close()


def test_the_environment_is_set_before_anything_is_imported(start: Start) -> None:
    """A module that reads the environment on import sees the host's; the parent's own is untouched."""
    before = dict(os.environ)
    name, seen, _ = start("environment").receive(PATIENCE)
    assert (name, seen["OMP_NUM_THREADS"]) == ("cpu", "1")
    assert dict(os.environ) == before


def test_the_host_is_prepared_before_the_target_is_imported(start: Start) -> None:
    """Kernels imported with the target meet an interpreter that is already mended."""
    pytest.importorskip("triton")
    name, seen, prepared = start("environment", "interpreter").receive(PATIENCE)
    assert (name, seen["TRITON_INTERPRET"], prepared) == ("interpreter", "1", True)
    assert "TRITON_INTERPRET" not in os.environ


def test_messages_go_both_ways(start: Start) -> None:
    """What is sent comes back, in order."""
    echo = start("echo")
    for message in ("a case", {"K": 64}):
        echo.send(message)
        assert echo.receive(PATIENCE) == message


@pytest.mark.parametrize(("target", "words"), [("killed", "SIGKILL"), ("leave", "exit status 5")])
def test_a_dead_worker_says_how_it_died(start: Start, target: str, words: str) -> None:
    """By which signal, or with which status."""
    with pytest.raises(WorkerDiedError, match=words):
        start(target).receive(PATIENCE)


def test_a_dead_workers_last_words_are_told(start: Start) -> None:
    """What it printed before it died stands in the error."""
    with pytest.raises(WorkerDiedError, match="about to die"):
        start("killed").receive(PATIENCE)


def test_a_target_that_does_not_import_is_a_death(start: Start) -> None:
    """The traceback is among the last words."""
    with pytest.raises(WorkerDiedError, match="no_such_target"):
        start("no_such_target").receive(PATIENCE)


def test_silence_is_a_hang_and_ends_the_worker_and_its_children(start: Start) -> None:
    """After the timeout nothing that the worker started is left."""
    silent = start("silent")
    child = silent.receive(PATIENCE)
    with pytest.raises(WorkerDiedError, match="hang"):
        silent.receive(0.2)
    assert _ends(child)


def _ends(pid: int) -> bool:
    for _ in range(100):
        stat = Path(f"/proc/{pid}/stat")
        if not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return True
        time.sleep(0.1)
    return False


def test_a_worker_that_closes_its_pipe_is_as_good_as_dead(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not waited for."""
    monkeypatch.setattr(worker, "_DYING", 0.2)
    with pytest.raises(WorkerDiedError, match="closed its pipe"):
        start("mute").receive(PATIENCE)


def test_sending_to_a_dead_worker_is_a_death(start: Start) -> None:
    """The sender learns of it as a receiver does."""
    gone = start("leave")
    with pytest.raises(WorkerDiedError):
        gone.receive(PATIENCE)
    with pytest.raises(WorkerDiedError, match="exit status 5"):
        gone.send("a job")


def test_closing_twice_is_closing_once(start: Start) -> None:
    """A worker may be ended by whoever comes first."""
    echo = start("echo")
    echo.close()
    echo.close()
