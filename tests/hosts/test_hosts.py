"""Hosts say what they are, what they lack, and which device a process may see."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gdn_verify.hosts import HOSTS, pin
from gdn_verify.hosts.pin import pin_device


def test_every_host_is_known_by_its_own_name() -> None:
    """The registry's keys are the hosts' names."""
    assert {name: host.name for name, host in HOSTS.items()} == {name: name for name in HOSTS}


@pytest.mark.parametrize("name", HOSTS)
def test_workers_are_single_threaded(name: str) -> None:
    """A worker runs one kernel at a time; threads of libraries would only make results depend on their number."""
    assert HOSTS[name].environment["OMP_NUM_THREADS"] == "1"


@pytest.mark.parametrize(("name", "interpreted"), [("interpreter", "1"), ("cuda", "0"), ("rocm", "0")])
def test_triton_is_interpreted_on_the_interpreter_alone(name: str, interpreted: str) -> None:
    """A card's worker compiles even if the user's shell says TRITON_INTERPRET=1."""
    assert HOSTS[name].environment["TRITON_INTERPRET"] == interpreted


def test_the_processor_is_never_missing() -> None:
    """Something runs everywhere."""
    assert HOSTS["cpu"].missing() is None


@pytest.mark.parametrize(("name", "build"), [("cuda", "cuda"), ("rocm", "hip")])
def test_a_card_of_another_vendor_is_missing(name: str, build: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch answers to `cuda` for both vendors: they are told apart by its build, never confused."""
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.version, build, None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    reason = HOSTS[name].missing()
    assert reason is not None
    assert f"not built for {name}" in reason


def test_a_build_without_a_device_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CUDA build on a machine without a card says so."""
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert HOSTS["cuda"].missing() == "no cuda device is visible"


class _Nodes:
    """A /dev with so many cards of one vendor."""

    def __init__(self, folder: str, names: list[str]) -> None:
        self.folder, self.names = folder, names

    def __call__(self, folder: str) -> _Folder:
        return _Folder(folder, self.names if folder == self.folder else [])


class _Folder:
    def __init__(self, folder: str, names: list[str]) -> None:
        self._folder, self._names = folder, names

    def glob(self, pattern: str) -> list[Path]:
        return [Path(self._folder, name) for name in self._names if Path(name).match(pattern)]

    def exists(self) -> bool:
        return bool(self._names)


@pytest.fixture
def visible(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has chosen a device yet."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("HIP_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(("number", "seen"), [(0, "0"), (3, "3"), (5, "1")])
def test_workers_are_dealt_out_over_the_cards(
    visible: None, monkeypatch: pytest.MonkeyPatch, number: int, seen: str
) -> None:
    """Each worker sees one card; more workers than cards share them evenly."""
    monkeypatch.setattr(pin, "Path", _Nodes("/dev", [f"nvidia{n}" for n in range(4)] + ["nvidiactl"]))
    pin_device(number)
    assert os.environ.pop("CUDA_VISIBLE_DEVICES") == seen


def test_a_single_card_is_left_alone(visible: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to choose."""
    monkeypatch.setattr(pin, "Path", _Nodes("/dev", ["nvidia0"]))
    pin_device(3)
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_a_choice_already_made_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever set the variable meant it."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    monkeypatch.setattr(pin, "Path", _Nodes("/dev", ["nvidia0", "nvidia1"]))
    pin_device(1)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "7"
