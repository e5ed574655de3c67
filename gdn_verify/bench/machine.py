"""The machine that a run was measured on: for the record, and for the size that makes its caches cold."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.util import find_spec

import torch

# What a read may hit beyond the L2 that the runtime reports: AMD's Infinity Cache. 256 MiB: CDNA 3 and CDNA 4
# architecture white papers; 64 MiB: specification of the Radeon RX 9070 XT.
_BEYOND_L2 = {"gfx942": 256 << 20, "gfx950": 256 << 20, "gfx1201": 64 << 20, "gfx1200": 32 << 20, "gfx90a": 0}
_LARGEST = 256 << 20
"""Assumed for an AMD chip that is not listed: too large only costs memory."""


@dataclass(frozen=True)
class Machine:
    """Device and toolchain of a run. `cache_bytes` is all that a read may find before device memory."""

    device: str
    arch: str
    cache_bytes: int
    torch: str
    triton: str
    python: str


def missing(dry_run: bool) -> str | None:
    """Why nothing can be measured here, in one line with the way out, or None."""
    if not find_spec("triton"):
        return "triton is not installed (pip install 'gdn-verify[interpreter]')"
    if dry_run or torch.cuda.is_available():
        return None
    return (
        "no CUDA or ROCm device is visible; --dry-run runs the whole flow on the processor, for numbers without meaning"
    )


def describe(dry_run: bool) -> Machine:
    """The first visible device, or the processor for a dry run."""
    import triton

    toolchain = (_torch_version(), triton.__version__, platform.python_version())
    if dry_run:
        return Machine("processor, Triton's interpreter", platform.machine(), 0, *toolchain)
    properties = torch.cuda.get_device_properties(0)
    arch = _arch()
    return Machine(properties.name, arch, properties.L2_cache_size + _beyond_l2(arch), *toolchain)


def _torch_version() -> str:
    builds = {"CUDA": torch.version.cuda, "HIP": torch.version.hip}
    return ", ".join([torch.__version__, *(f"{name} {version}" for name, version in builds.items() if version)])


def _arch() -> str:
    if torch.version.hip:
        return str(torch.cuda.get_device_properties(0).gcnArchName).split(":")[0]
    major, minor = torch.cuda.get_device_capability(0)
    return f"sm_{major}{minor}"


def _beyond_l2(arch: str) -> int:
    return _BEYOND_L2.get(arch, _LARGEST) if arch.startswith("gfx") else 0


def free_bytes(dry_run: bool) -> int:
    """Device memory that can be had now; a modest share of a processor's for a dry run."""
    if dry_run:
        return 1 << 30
    torch.cuda.empty_cache()
    return torch.cuda.mem_get_info()[0]
