"""One GPU for one process, chosen before a driver is loaded.

Devices are counted by what the kernel shows: asking a driver would attach this process to one of them, and torch's way
to ask without one (NVML, AMD SMI) costs its import. NVIDIA has a node for each card in /dev. An AMD card is a node of
the KFD topology whose render node is here: integrated graphics of others are none, and a container that was given some
cards shows the topology of all.

A choice in the environment is what is divided, whatever it is made of: indices, UUIDs, MIG instances. AMD cards that
nobody has chosen are numbered in HIP_VISIBLE_DEVICES: it counts within what ROCR_VISIBLE_DEVICES leaves, which so
stands, and HIP prefers it to CUDA_VISIBLE_DEVICES.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import takewhile
from pathlib import Path

DEVICES = Path("/dev")
TOPOLOGY = Path("/sys/class/kfd/kfd/topology/nodes")
OPEN_FILES = Path("/proc/self/fd")
CUDA, HIP, ROCR = "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"
ATTACHED = ("nvidia-uvm", "kfd")
"""Nodes in /dev that a process has open once its CUDA or HIP runtime has begun, and not for asking NVML."""


class TooLateError(RuntimeError):
    """A device is in use already, and which one is no longer this process's choice."""


def cards() -> int:
    """How many of this machine's GPUs this process may use; 1 where it has none."""
    return max([1, *(len(devices) for devices in _visible().values())])


def device_for(number: int) -> dict[str, str]:
    """The environment that shows worker `number` one of the GPUs, round robin; empty where there is no choice."""
    return {name: devices[number % len(devices)] for name, devices in _visible().items() if len(devices) > 1}


def pin_device(number: int) -> None:
    """Show this process, and those it starts, one GPU. Raises TooLateError where it uses one already.

    Doing it again changes nothing: one device is left to choose from.
    """
    chosen = device_for(number)
    if chosen and (sign := attached()):
        wanted = ", ".join(f"{name}={device}" for name, device in chosen.items())
        raise TooLateError(
            f"worker {number} was to get a GPU of its own ({wanted}), but {sign} before pytest was configured; "
            "move what touches a device out of conftest.py and plugins, into a test or a fixture"
        )
    os.environ.update(chosen)


def attached() -> str | None:
    """What shows that a driver has seen this process, which then cannot choose another device; or None."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return "torch had initialised a device"
    nodes = {str(DEVICES / name) for name in ATTACHED}
    found = sorted(nodes & {*_open_files()})
    return f"{found[0]} was opened" if found else None


def _open_files() -> Iterator[str]:
    for entry in OPEN_FILES.iterdir() if OPEN_FILES.is_dir() else ():
        with suppress(OSError):  # the listing's own is closed by now
            yield os.readlink(entry)


def _visible() -> dict[str, list[str]]:
    """By variable, the devices that this process may choose from."""
    chosen = {name: _listed(name) for name in (CUDA, HIP) if name in os.environ}
    return chosen or {CUDA: _numbered(_nvidia_cards()), HIP: _numbered(_amd_cards())}


def _listed(name: str) -> list[str]:
    """A variable's devices, up to the first that is none: CUDA and HIP read no further."""
    words = (word.strip() for word in os.environ[name].split(","))
    return [*takewhile(lambda word: word and not word.startswith("-"), words)]


def _numbered(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def _nvidia_cards() -> int:
    return len([*DEVICES.glob("nvidia[0-9]*")])


def _amd_cards() -> int:
    if ROCR in os.environ:
        return len(_listed(ROCR))
    return sum(_has_render_node(node) for node in TOPOLOGY.glob("*"))


def _has_render_node(node: Path) -> bool:
    """Whether a node of the topology is a card that this process may open; processors are nodes too."""
    with suppress(OSError):  # another container's card: the kernel refuses to tell
        found = re.search(r"^drm_render_minor (\d+)$", (node / "properties").read_text(encoding="utf-8"), re.MULTILINE)
        return bool(found and int(found[1]) and (DEVICES / "dri" / f"renderD{found[1]}").exists())
    return False
