"""A driver for a device that is not there, so that autotuners and architecture probes have an answer."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.autotuner import Autotuner

ConfigChoice = Callable[[str, int], int]
"""From a kernel's name and the number of its autotune configurations to the index of the one to run."""

_SHARED_MEMORY = {"cuda": 232448, "hip": 65536}


def first_config(kernel: str, count: int) -> int:
    """Choose the first configuration, as a pinned run does."""
    return 0


class FakeDriver:
    """What Triton and kernel libraries ask of a driver, answered for CPU tensors."""

    def __init__(self, backend: str, arch: str | int) -> None:
        self.target = GPUTarget(backend, arch, 64 if backend == "hip" else 32)
        self.utils = self

    def get_device_properties(self, device: int) -> dict[str, int]:
        shared = _SHARED_MEMORY[self.target.backend]
        return {"max_shared_mem": shared, "multiprocessor_count": 132, "warpSize": self.target.warp_size}

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")

    def get_device_interface(self) -> Any:
        return torch.cpu

    def get_current_device(self) -> int:
        return 0

    def set_current_device(self, device: int) -> None:
        pass

    def get_current_stream(self, device: int = 0) -> int:
        return 0


def install(backend: str, arch: str | int, choose: ConfigChoice) -> None:
    """Activate the driver, let `choose` replace autotuning, and answer torch's questions about the device."""
    driver.set_active(FakeDriver(backend, arch))
    _replace_autotuning(choose)
    if not hasattr(torch.cpu, "device"):
        torch.cpu.device = lambda index=None: contextlib.nullcontext()  # type: ignore[attr-defined]
    # Libraries enter the device of their tensors before they launch: that of a CPU tensor is None, which torch refuses.
    torch.cuda.device = lambda device=None: contextlib.nullcontext()  # type: ignore[assignment,misc]
    if backend == "cuda":
        # Libraries ask torch, not Triton, which NVIDIA architecture they run on.
        torch.cuda.get_device_capability = lambda device=None: divmod(int(arch), 10)
        torch.cuda.get_device_name = lambda device=None: f"interpreted sm_{arch}"


def _replace_autotuning(choose: ConfigChoice) -> None:
    """Nothing is timed: one configuration is chosen and the kernel runs once."""
    prune = Autotuner.prune_configs

    def prune_configs(self: Any, kwargs: dict[str, Any]) -> Sequence[Any]:
        configs = prune(self, kwargs)
        return [configs[choose(self.base_fn.__name__, len(configs))]]

    Autotuner.prune_configs = prune_configs
    Autotuner._bench = lambda self, *args, config, **meta: [0.0, 0.0, 0.0]
