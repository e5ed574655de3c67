"""One GPU for each process: which there are, which one a process is shown, and what is too late."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import fake_machine
import pytest

from gdn_verify.hosts import pin
from gdn_verify.hosts.pin import CUDA, HIP, ROCR, TooLateError, cards, device_for, pin_device


@pytest.fixture(autouse=True)
def _nobody_has_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable is set, no card is there, and nothing is open."""
    for name in (CUDA, HIP, ROCR):
        monkeypatch.setenv(name, "")  # so that what a test's own call sets is undone too
        monkeypatch.delenv(name)
    for place in ("DEVICES", "TOPOLOGY", "OPEN_FILES"):
        monkeypatch.setattr(pin, place, tmp_path / "nothing")


def _nvidia(monkeypatch: pytest.MonkeyPatch, folder: Path, count: int) -> None:
    for name in (*(f"nvidia{number}" for number in range(count)), "nvidiactl", "nvidia-uvm"):
        folder.joinpath(name).touch()
    monkeypatch.setattr(pin, "DEVICES", folder)


def _amd(monkeypatch: pytest.MonkeyPatch, folder: Path, count: int, others: int = 0) -> None:
    machine = fake_machine.machine(folder / "machine", count, others)
    monkeypatch.setattr(pin, "DEVICES", machine / "dev")
    monkeypatch.setattr(pin, "TOPOLOGY", machine / "nodes")


@pytest.mark.parametrize(("number", "seen"), [(0, "0"), (3, "3"), (5, "1")])
def test_workers_are_dealt_out_over_nvidia_cards(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, seen: str
) -> None:
    """Each worker sees one card; more workers than cards share them evenly."""
    _nvidia(monkeypatch, tmp_path, 4)
    pin_device(number)
    assert os.environ[CUDA] == seen
    assert HIP not in os.environ


@pytest.mark.parametrize(("number", "seen"), [(0, "0"), (1, "1"), (2, "0")])
def test_workers_are_dealt_out_over_amd_cards(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, seen: str
) -> None:
    """Neither a processor's node nor a card that only another container has is one of them."""
    _amd(monkeypatch, tmp_path, 2, others=3)
    pin_device(number)
    assert os.environ[HIP] == seen
    assert not {CUDA, ROCR} & {*os.environ}


def test_a_card_that_the_kernel_keeps_to_itself_is_not_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """To a container the kernel refuses the properties of others' cards."""
    _amd(monkeypatch, tmp_path, 2)
    (pin.TOPOLOGY / "2" / "properties").unlink()
    (pin.TOPOLOGY / "2" / "properties").mkdir()
    assert cards() == 1


@pytest.mark.parametrize("name", [CUDA, HIP])
@pytest.mark.parametrize("devices", ["4,7", "GPU-1f, GPU-2e", "MIG-a,MIG-b"])
def test_a_list_that_somebody_has_set_is_what_is_divided(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, devices: str
) -> None:
    """Whatever names the devices, and however many more there are."""
    _nvidia(monkeypatch, tmp_path, 8)
    monkeypatch.setenv(name, devices)
    first, second = (device.strip() for device in devices.split(","))
    assert [device_for(number) for number in range(3)] == [{name: first}, {name: second}, {name: first}]
    assert cards() == 2


def test_rocr_stands_and_hip_counts_within_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """ROCr takes its devices away first; HIP's numbers are places among those left."""
    _amd(monkeypatch, tmp_path, 4)
    monkeypatch.setenv(ROCR, "GPU-cafe,3")
    assert [device_for(number) for number in (0, 1, 2)] == [{HIP: "0"}, {HIP: "1"}, {HIP: "0"}]


@pytest.mark.parametrize(("devices", "left"), [("7", 1), ("", 1), ("-1", 1), ("2,-1,3", 1), ("2,3,-1,4", 2)])
def test_a_list_ends_at_the_first_that_is_none(monkeypatch: pytest.MonkeyPatch, devices: str, left: int) -> None:
    """As CUDA reads it; of one or none there is nothing to choose, and the variable stays as it was."""
    monkeypatch.setenv(CUDA, devices)
    assert cards() == left
    if left == 1:
        pin_device(1)
        assert os.environ[CUDA] == devices


def test_a_single_card_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """There is nothing to choose, and so nothing that could be too late."""
    _nvidia(monkeypatch, tmp_path, 1)
    _opened(monkeypatch, tmp_path / "fd", tmp_path / "nvidia-uvm")
    pin_device(3)
    assert CUDA not in os.environ


def test_a_process_that_is_pinned_stays_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also once it uses its card, and in the processes it starts, whatever their numbers."""
    _nvidia(monkeypatch, tmp_path, 4)
    pin_device(2)
    _opened(monkeypatch, tmp_path / "fd", tmp_path / "nvidia-uvm")
    pin_device(3)
    assert os.environ[CUDA] == "2"
    assert device_for(1) == {}


def _opened(monkeypatch: pytest.MonkeyPatch, folder: Path, node: Path) -> None:
    folder.mkdir()
    folder.joinpath("0").symlink_to("/dev/null")
    folder.joinpath("7").symlink_to(node)
    monkeypatch.setattr(pin, "OPEN_FILES", folder)


@pytest.mark.parametrize("node", ["nvidia-uvm", "kfd"])
def test_an_open_driver_is_too_late(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, node: str) -> None:
    """A CUDA or HIP runtime has read the variables as it began, whichever library began it."""
    _nvidia(monkeypatch, tmp_path, 2)
    _opened(monkeypatch, tmp_path / "fd", tmp_path / node)
    with pytest.raises(TooLateError, match=rf"worker 1 .*CUDA_VISIBLE_DEVICES=1.*{node} was opened"):
        pin_device(1)
    assert CUDA not in os.environ


def test_asking_for_cards_through_nvml_is_not_too_late(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """NVML opens the control node, and no context."""
    _nvidia(monkeypatch, tmp_path, 2)
    _opened(monkeypatch, tmp_path / "fd", tmp_path / "nvidiactl")
    pin_device(1)
    assert os.environ[CUDA] == "1"


def test_a_device_that_torch_has_initialised_is_too_late(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where open files cannot be read, torch's own word is left."""
    _nvidia(monkeypatch, tmp_path, 2)
    used = SimpleNamespace(cuda=SimpleNamespace(is_initialized=lambda: True))
    monkeypatch.setitem(sys.modules, "torch", used)  # type: ignore[arg-type]
    with pytest.raises(TooLateError, match="torch had initialised a device"):
        pin_device(0)
