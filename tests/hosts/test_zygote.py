"""Workers of a processor are forks of one process, and are told apart from started ones by nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gdn_verify.hosts import HOSTS
from gdn_verify.hosts.worker import Worker, WorkerDiedError

Ask = Callable[..., tuple[int, int, int, list[str], str | None]]
PATIENCE = 120.0
"""For the start of a process on a busy machine; no test waits for it."""


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ask]:
    """Start a worker that tells of itself, and lives until the test ends."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    started: list[Worker] = []

    def asked(host: str = "cpu") -> tuple[int, int, int, list[str], str | None]:
        started.append(Worker(HOSTS[host], "worker_targets:descent"))
        return started[-1].receive(PATIENCE)

    yield asked
    for one in started:
        one.close()


def test_workers_come_from_one_process_that_has_one_thread(ask: Ask) -> None:
    """What takes long is imported there; kernels, and the Triton that may be an interpreter, are not."""
    first, second = ask(), ask()
    assert first[0] != second[0]
    assert first[1] == second[1]
    assert (first[2], first[3]) == (1, ["torch"])


def test_another_environment_is_another_process(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Something may have read it while it was imported."""
    first = ask()
    monkeypatch.setenv("GDN_TOLD", "now")
    second = ask()
    assert (first[4], second[4]) == (None, "now")
    assert first[1] != second[1]


def test_another_function_makes_another_process_ready(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of this Python or of another; one that leaves a thread running is refused, as a fork would lose it."""
    first = ask()
    with Worker(HOSTS["cpu"], "worker_targets:descent", ready="worker_targets:nothing") as worker:
        other = worker.receive(PATIENCE)
    assert other[1] != first[1]
    assert other[3] == []
    threaded = Worker(HOSTS["cpu"], "worker_targets:descent", ready="worker_targets:threaded")
    with threaded as worker, pytest.raises(WorkerDiedError, match="2 threads"):
        worker.receive(PATIENCE)


def test_one_that_is_gone_is_replaced(ask: Ask) -> None:
    """As when memory ran out."""
    first = ask()
    os.kill(first[1], signal.SIGKILL)
    time.sleep(0.5)
    assert ask()[1] != first[1]


def test_one_that_cannot_import_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To whoever waits for its worker."""
    # Not a module of that name: where this suite is installed, its own folder comes first, and has the real one.
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['torch'] = None")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Worker(HOSTS["cpu"], "worker_targets:echo") as worker, pytest.raises(WorkerDiedError, match="import of torch"):
        worker.receive(PATIENCE)


def test_none_outlives_whoever_started_it() -> None:
    """However that ended."""
    script = """
import os
from gdn_verify.hosts import HOSTS
from gdn_verify.hosts.worker import Worker
worker = Worker(HOSTS["cpu"], "worker_targets:descent")
print(*worker.receive(120.0)[:2], flush=True)
os._exit(3)
"""
    path = os.pathsep.join([str(Path(__file__).parents[2]), str(Path(__file__).parent)])
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 3, done.stderr
    deadline = time.monotonic() + 30.0
    while any(Path(f"/proc/{pid}").exists() for pid in done.stdout.split()):
        assert time.monotonic() < deadline, done.stdout
        time.sleep(0.1)
