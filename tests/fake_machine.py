"""A ROCm machine that is not there: a KFD topology in a folder, and a host that judges for it (paths: `fake_cards`).

The host runs kernels in the interpreter and plain torch on the processor, and says of its results that an AMD card
held them. So it shows how the suite *deals* with such a machine; of HIP and of a card's arithmetic it shows nothing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path as File

from gdn_verify.hosts import HOSTS, pin
from gdn_verify.hosts.base import SINGLE_THREAD
from gdn_verify.hosts.interpreter import Interpreter

MACHINE, PLANT = "FAKE_ROCM_MACHINE", "FAKE_ROCM_PLANT"
"""Where the machine is laid out, and whether workers there are `unpinned`."""


@dataclass(frozen=True)
class FakeCard(Interpreter):
    """The interpreter under ROCm's name; its device is told by the variable that chose it."""

    def missing(self) -> str | None:
        return None if File(os.environ[MACHINE], "dev/kfd").exists() else "no rocm device is visible"

    def describe(self) -> str:
        return f"fake card {os.environ.get(pin.HIP, 'any')}"

    def kind_of(self, tensor: object) -> str:
        return "rocm"


def use() -> None:
    """Be on that machine. Called as the process begins: a worker finds its host before it finds paths."""
    machine = File(os.environ[MACHINE])
    pin.DEVICES, pin.TOPOLOGY = machine / "dev", machine / "nodes"
    environment = {**SINGLE_THREAD, "TRITON_INTERPRET": "1"}
    HOSTS["rocm"] = FakeCard(name="rocm", device="cpu", environment=environment)
    if os.environ.get(PLANT) == "unpinned":
        pin._visible = dict


def machine(folder: File, cards: int, others: int = 0) -> File:
    """Lay out a machine: a processor's node, nodes of cards, and nodes of `others`, whose render nodes are not here."""
    (folder / "dev" / "dri").mkdir(parents=True)
    (folder / "nodes").mkdir()
    _node(folder, 0, 0)
    for number in range(1, cards + others + 1):
        _node(folder, number, 127 + number)
    for number in range(1, cards + 1):
        (folder / "dev" / "dri" / f"renderD{127 + number}").touch()
    if cards:
        (folder / "dev" / "kfd").touch()
    return folder


def _node(folder: File, number: int, minor: int) -> None:
    node = folder / "nodes" / str(number)
    node.mkdir()
    node.joinpath("properties").write_text(f"simd_count 4\ndrm_render_minor {minor}\nnum_xcc 1\n", encoding="utf-8")


def enter(site: File) -> None:
    """Make every process that has `site` in its PYTHONPATH begin on the machine."""
    (site / "sitecustomize.py").write_text("import fake_machine\n\nfake_machine.use()\n", encoding="utf-8")
