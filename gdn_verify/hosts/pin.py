"""One GPU for one process, chosen before a driver is loaded."""

from __future__ import annotations

import os
from pathlib import Path


def pin_device(number: int) -> None:
    """Make one of this machine's GPUs the only visible one, unless somebody has chosen already.

    Devices are counted by their nodes, since asking the driver would already attach this process to one.
    """
    nvidia = sorted(Path("/dev").glob("nvidia[0-9]*"))
    amd = sorted(Path("/dev/dri").glob("renderD*")) if Path("/dev/kfd").exists() else []
    for variable, devices in (("CUDA_VISIBLE_DEVICES", nvidia), ("HIP_VISIBLE_DEVICES", amd)):
        if len(devices) > 1:
            os.environ.setdefault(variable, str(number % len(devices)))
