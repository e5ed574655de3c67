"""Hosts say what they are, what they lack, and what holds their results."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from gdn_verify.hosts import HOSTS


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


@pytest.mark.parametrize(
    ("held", "hip", "kind"), [("cuda", None, "cuda"), ("cuda", "7.2", "rocm"), ("cpu", "7.2", "cpu")]
)
def test_what_holds_a_result_is_told_by_the_tensor(
    held: str, hip: str | None, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every host says the same of a tensor: its own name proves nothing."""
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.version, "hip", hip)
    tensor = SimpleNamespace(device=SimpleNamespace(type=held))
    assert {host.kind_of(tensor) for host in HOSTS.values()} == {kind}
