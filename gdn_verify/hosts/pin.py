"""One GPU for one process, chosen before a driver is loaded."""

from __future__ import annotations

import os
from pathlib import Path


def cards() -> int:
    """How many of this machine's GPUs this process may use, by their nodes; 1 where it has none."""
    nodes = [*Path("/dev").glob("nvidia[0-9]*")] or [*Path("/dev/dri").glob("renderD*")]
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES", os.environ.get("HIP_VISIBLE_DEVICES"))
    return max(len(nodes) if chosen is None else len(chosen.split(",")), 1)


def device_for(number: int) -> dict[str, str]:
    """The environment that shows worker `number` one of this machine's GPUs, round robin; empty with one or none.

    Devices are counted by their nodes, since asking the driver would already attach this process to one. A choice
    that somebody has made in the environment stands.
    """
    nvidia = sorted(Path("/dev").glob("nvidia[0-9]*"))
    amd = sorted(Path("/dev/dri").glob("renderD*")) if Path("/dev/kfd").exists() else []
    found = {"CUDA_VISIBLE_DEVICES": nvidia, "HIP_VISIBLE_DEVICES": amd}
    return {
        variable: str(number % len(devices))
        for variable, devices in found.items()
        if len(devices) > 1 and variable not in os.environ
    }


def pin_device(number: int) -> None:
    """Show this process, and those it starts, one GPU. Call it before anything touches a device."""
    os.environ.update(device_for(number))
