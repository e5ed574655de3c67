"""The interpreter introduced to vLLM: a platform of its own, and the one that Triton can run on.

vLLM imports Triton only where exactly one of Triton's drivers says that it is active, or where it is built for
processors and Triton has a backend "cpu" (triton_utils/importing.py). Both are true of Triton while it interprets, but
only the interpreter's host knows. On the platform "cpu" vLLM would put its C++ and torch code in the place of the Triton
functions (causal_conv1d.py:1137 in 0.33.0), so an out-of-tree platform is announced, as plugins have them: neither
CUDA's nor ROCm's branches are taken, and no compiled kernels are asked for.
"""

from __future__ import annotations

from types import SimpleNamespace
from unittest.mock import patch

COMPUTE_UNITS = 132
"""As many as the interpreter's driver answers when Triton asks: grids and tiles of some kernels depend on it."""


def introduce() -> None:
    """Import vLLM so that it sees the interpreter. Call it where nothing of vLLM has been imported; again it is idle."""
    from vllm import platforms

    if "current_platform" in vars(platforms):
        return
    platforms.current_platform = _platform()
    interpreter = SimpleNamespace(driver=SimpleNamespace(is_active=lambda: True))
    with patch("triton.backends.backends", {"cpu": interpreter, "interpreter": interpreter}):
        from vllm.triton_utils import HAS_TRITON
    assert HAS_TRITON, "vLLM was imported before and has found no Triton"


def _platform() -> object:
    from vllm.platforms.interface import Platform, PlatformEnum

    class Interpreter(Platform):  # type: ignore[misc]
        _enum = PlatformEnum.OOT
        device_name = "interpreter"
        device_type = "cpu"
        dispatch_key = "CPU"

        @classmethod
        def import_kernels(cls) -> None:
            """None are compiled for it."""

        @classmethod
        def num_compute_units(cls, device_id: int = 0) -> int:
            return COMPUTE_UNITS

    return Interpreter()
