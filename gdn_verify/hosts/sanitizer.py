"""NVIDIA's compute-sanitizer around a worker: its command line, its environment, and whether it is here.

It runs the rest of its command line and prints what it sees beside the worker's own words (`checks.sanitizer`).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace

from gdn_verify.hosts.base import Host
from gdn_verify.verdict import SANITIZERS

TOOLS = tuple(check.value for check in SANITIZERS)
ENVIRONMENT = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
"""Each tensor is an allocation of its own. In torch's pool, what lies behind a tensor is the pool's, and so allowed;
and scratch was written before, by whoever had it."""

_OPTIONS = (
    # Every thread may be an error of its own. A worker is not used again once a tool has spoken in it, so the errors
    # that are left out are of the case that those before them are of.
    *("--print-limit", "1000"),
    *("--show-backtrace", "device"),  # the host's is the Python interpreter's
    *("--destroy-on-device-error", "kernel"),  # the rest of the case is watched too
    *("--target-processes", "application-only"),  # not the compilers that Triton starts
    *("--launch-timeout", "0"),  # imports take long; the gate knows when a worker hangs
    *("--check-exit-code", "no"),  # and how it ended
)
# Allocations may lie end to end, and a call that fails is raised by torch: Triton and torch also try calls that may.
_OPTIONS_OF = {"memcheck": ("--padding", "4096", "--report-api-errors", "no")}
_TORCH = ("at6native", "at_cuda_detail")
"""In the mangled names of torch's kernels."""
_FILTERED = ("racecheck", "synccheck")
"""Tools that leave torch's kernels out. To initcheck, what an unwatched kernel has written is not written: the arena's
poison would be accused."""


@dataclass(frozen=True)
class Sanitizer:
    """A tool that watches the kernels of a worker.

    Those of torch are among them, but for `own_kernels` under a tool that can leave them out.
    """

    tool: str
    own_kernels: bool = False

    def missing(self, host: str) -> str | None:
        """Why no worker of `host` can be watched here, and what would change it; None if one can."""
        if host == "rocm":
            return "ROCm has no compute-sanitizer, which watches CUDA kernels alone"
        if _executable() is None:
            return "compute-sanitizer is not on PATH (it comes with the CUDA toolkit; or set CUDA_HOME to that)"
        return None

    def around(self, host: Host) -> Host:
        """The host, its workers started under this tool."""
        return replace(host, environment={**host.environment, **ENVIRONMENT}, under=self.command())

    def command(self) -> tuple[str, ...]:
        """The command that runs the rest of its line; call it where nothing is `missing`."""
        options = (*_OPTIONS, *_OPTIONS_OF.get(self.tool, ()), *self._filters())
        return (_executable() or "compute-sanitizer", "--tool", self.tool, *options)

    def _filters(self) -> Iterator[str]:
        for name in _TORCH if self.own_kernels and self.tool in _FILTERED else ():
            yield from ("--kernel-name-exclude", f"kns={name}")


def _executable() -> str | None:
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    folders = [os.environ.get("PATH", os.defpath), *(os.path.join(home, "bin") for home in homes if home)]
    return shutil.which("compute-sanitizer", path=os.pathsep.join(folders))
