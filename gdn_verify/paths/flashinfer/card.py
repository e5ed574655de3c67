"""The compute capability of the first visible NVIDIA card, asked of the driver: torch would have to be imported."""

from __future__ import annotations

from ctypes import CDLL, byref, c_int
from functools import cache

LIBRARY = "libcuda.so.1"
MAJOR, MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and …_MINOR (CUDA driver API, `CUdevice_attribute`)."""


@cache
def capability() -> tuple[int, int] | None:
    """(9, 0) on an H100; None where no driver answers, or no card is visible. No context is made."""
    try:
        driver = CDLL(LIBRARY)
    except OSError:
        return None
    major, minor, device = c_int(), c_int(), c_int()
    calls = (
        lambda: driver.cuInit(0),
        lambda: driver.cuDeviceGet(byref(device), 0),
        lambda: driver.cuDeviceGetAttribute(byref(major), MAJOR, device),
        lambda: driver.cuDeviceGetAttribute(byref(minor), MINOR, device),
    )
    return None if any(call() for call in calls) else (major.value, minor.value)
