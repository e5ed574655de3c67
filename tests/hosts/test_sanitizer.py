"""A host under a tool: the command that its workers start with, their memory, and what it takes to have the tool."""

from __future__ import annotations

from pathlib import Path

import pytest

from gdn_verify.hosts import HOSTS
from gdn_verify.hosts.sanitizer import TOOLS, Sanitizer
from gdn_verify.hosts.worker import Worker

SHELL = "#!/bin/sh\n"


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A compute-sanitizer on PATH that prints its options and runs the command behind them."""
    file = tmp_path / "compute-sanitizer"
    file.write_text(f'{SHELL}while [ "${{1#/}}" = "$1" ]; do echo "option $1"; shift; done\nexec "$@"\n')
    file.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return file


def test_a_worker_is_started_under_the_tool(tool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It talks and prints as any other; each of its tensors will be an allocation of its own."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    host = Sanitizer("racecheck", own_kernels=True).around(HOSTS["cpu"])
    with Worker(host, "worker_targets:allocator") as worker:
        assert worker.receive(120.0) == "1"
        printed = worker.printed()
    assert "option --tool\noption racecheck\n" in printed
    assert "option kns=at6native\n" in printed


def test_what_is_printed_is_told_once_and_to_the_end(tool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what a worker prints after its pipe is closed, and what nobody had asked for when it was closed itself."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    worker = Worker(HOSTS["cpu"], "worker_targets:talker")
    worker.receive(120.0)
    assert [worker.printed(), worker.printed()] == ["first\n", ""]
    worker.finish(60.0)
    worker.close()
    assert [worker.printed(), worker.printed()] == ["last\n", ""]


@pytest.mark.parametrize("name", TOOLS)
def test_torchs_kernels_are_left_out_where_they_only_cost(tool: Path, name: str) -> None:
    """What initcheck has not watched being written it takes for not written; memcheck knows no such thing and is cheap.
    And where torch's kernels are all that a path has, they are watched."""
    filters = [own for own in (False, True) if "--kernel-name-exclude" in Sanitizer(name, own).command()]
    assert filters == ([True] if name in ("racecheck", "synccheck") else [])


@pytest.mark.parametrize("name", TOOLS)
def test_no_option_turns_an_error_into_an_exit_status(tool: Path, name: str) -> None:
    """Errors are read, and a worker whose errors were told has not crashed."""
    words = Sanitizer(name).command()
    assert "--error-exitcode" not in words
    assert words[0] == str(tool)


def test_the_toolkit_need_not_be_on_the_path(tmp_path: Path, tool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA_HOME says where it is."""
    (tmp_path / "bin").mkdir()
    tool.rename(tmp_path / "bin" / "compute-sanitizer")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert Sanitizer("memcheck").missing("cuda") is None
    assert Sanitizer("memcheck").command()[0] == str(tmp_path / "bin" / "compute-sanitizer")


def test_without_it_the_remedy_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a Python package: it comes with the toolkit."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.delenv("CUDA_PATH", raising=False)
    if (reason := Sanitizer("memcheck").missing("cuda")) is None:
        pytest.skip("this machine has the toolkit at its usual place")
    assert "CUDA toolkit" in reason


def test_rocm_has_none(tool: Path) -> None:
    """Whatever is installed."""
    assert "ROCm has no compute-sanitizer" in (Sanitizer("memcheck").missing("rocm") or "")
