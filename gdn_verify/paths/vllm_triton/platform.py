"""The interpreter introduced to vLLM: a platform of its own, and the one that Triton can run on.

vLLM imports Triton only where exactly one of Triton's drivers says that it is active, or where it is built for
processors and Triton has a backend "cpu" (triton_utils/importing.py). Both are true of Triton while it interprets, but
only the interpreter's host knows. On the platform "cpu" vLLM would put its C++ and torch code in the place of Triton's
functions (causal_conv1d.py, at the end), so an out-of-tree platform is announced, as plugins have them: branches of
neither CUDA nor ROCm are taken, and no compiled kernels are asked for.
"""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

COMPUTE_UNITS = 132
"""As many as the interpreter's driver answers when Triton asks: grids and tiles of some kernels depend on it."""


def introduce() -> None:
    """Import vLLM so that it sees the interpreter. To be called before anything imports vLLM."""
    platforms = import_module("vllm.platforms")
    if "current_platform" in vars(platforms):
        return
    vars(platforms)["current_platform"] = _platform()
    interpreter = SimpleNamespace(driver=SimpleNamespace(is_active=lambda: True))
    with patch("triton.backends.backends", {"cpu": interpreter, "interpreter": interpreter}):
        found = import_module("vllm.triton_utils")
    assert found.HAS_TRITON, "vLLM was imported before and has found no Triton"


def _platform() -> Any:
    """What vLLM asks of the machine; tensors are the processor's."""
    interface = import_module("vllm.platforms.interface")
    said = {
        "_enum": interface.PlatformEnum.OOT,
        "device_name": "interpreter",
        "device_type": "cpu",
        "dispatch_key": "CPU",
        "import_kernels": classmethod(lambda cls: None),
        "is_pin_memory_available": classmethod(lambda cls: False),
        "num_compute_units": classmethod(lambda cls, device_id=0: COMPUTE_UNITS),
    }
    return type("Interpreter", (interface.Platform,), said)()
