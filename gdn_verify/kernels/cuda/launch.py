"""A kernel launched on torch's current stream, or where its tensors are on the cpu, emulated (`emulate`).

Nothing here waits for the device or asks it for memory, so launches can be captured in a graph; what a capture may not
do, loading a kernel, is done at its first launch on a device.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from typing import Any

import torch
from torch import Tensor

from gdn_verify.kernels.cuda import compile as nvrtc
from gdn_verify.kernels.cuda import emulate
from gdn_verify.kernels.cuda.arguments import Arguments
from gdn_verify.kernels.cuda.observe import tell
from gdn_verify.kernels.cuda.sources import NVIDIA, PROCESSOR, Constant, specialised

EMULATED = 0
"""The compute capability that stands for a plain processor."""
CLUSTERS = 90
"""The first compute capability with clusters and programmatic dependent launch."""


@dataclass(frozen=True, eq=False)
class Kernel:
    """A source file's kernel, specialised: what is compiled once for a chip. Keep it: it is found by its identity."""

    file: str
    name: str
    arguments: Arguments
    constants: Mapping[str, Constant]

    def source(self, machine: str = NVIDIA) -> str:
        """The whole text that is compiled."""
        return specialised(self.file, machine, self.arguments.text, self.constants)


@dataclass(frozen=True)
class Grid:
    """How many blocks of how many threads; `cluster` neighbours along x are one cluster.

    `ring_bytes` of dynamic shared memory a block. With `dependent` the launch may begin before the kernel in front of
    it in the stream has ended: ours wait for its end before they look at memory.
    """

    x: int
    y: int
    threads: int
    cluster: int = 1
    ring_bytes: int = 0
    dependent: bool = False


def missing(device_type: str) -> str | None:
    """Why the kernels cannot run on tensors of this type of device, in one line; None if they can."""
    if device_type == "cpu":
        return emulate.missing()
    if device_type != "cuda" or torch.version.hip:
        return f"the CUDA kernels do not run on {'ROCm' if torch.version.hip else device_type}"
    if not torch.cuda.is_available():
        return "no CUDA device is visible"
    return nvrtc.missing()


@cache
def capability(device: torch.device) -> int:
    """The compute capability of a device, 90 for 9.0; EMULATED for the cpu. Raises RuntimeError where none can run."""
    if (reason := missing(device.type)) is not None:
        raise RuntimeError(f"a CUDA kernel cannot be launched: {reason}")
    if device.type == "cpu":
        return EMULATED
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


def here() -> int:
    """The compute capability that a launch on this machine would be compiled for: the current card's, or EMULATED."""
    return capability(
        torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    )


def launch(device: torch.device, kernel: Kernel, grid: Grid, *values: Tensor | float | None) -> None:
    """One launch, its arguments in their order. Raises RuntimeError with the driver's word for what it refuses,
    CompileError, EmulationError.
    """
    arguments = kernel.arguments.packed(*values)
    if device.type == "cpu":

        def run() -> None:
            _emulated(kernel).launch(arguments, (grid.x, grid.y), grid.threads, grid.cluster, grid.ring_bytes)
    else:

        def run() -> None:
            _on_card(device, kernel, grid, arguments)

    run()
    tell(kernel.name, partial(_again, run, values))


def _again(run: Callable[[], None], values: tuple[object, ...]) -> None:
    """The same launch, of tensors that are there as long as it can be asked for."""
    run()


@cache
def _emulated(kernel: Kernel) -> emulate.Kernel:
    return emulate.Kernel(kernel.source(PROCESSOR), kernel.name)


def _on_card(device: torch.device, kernel: Kernel, grid: Grid, arguments: bytes) -> None:
    index = torch.cuda.current_device() if device.index is None else device.index
    function = _function(kernel, grid.ring_bytes, index)
    config = _config(grid, torch.cuda.current_stream(index).cuda_stream)
    held = ctypes.create_string_buffer(arguments, len(arguments))  # the driver copies it before the call returns
    pointers = (ctypes.c_void_p * 1)(ctypes.addressof(held))
    elsewhere = index != torch.cuda.current_device()
    with torch.cuda.device(index) if elsewhere else nullcontext():
        (status,) = _driver().cuLaunchKernelEx(config, function, ctypes.addressof(pointers), 0)
        if status == _driver().CUresult.CUDA_ERROR_INVALID_CONTEXT:  # as in `_function`
            _checked(_driver().cuCtxSetCurrent(_context(index)))
            (status,) = _driver().cuLaunchKernelEx(config, function, ctypes.addressof(pointers), 0)
    _checked((status,))


@cache
def _driver() -> Any:
    from cuda.bindings import driver

    return driver


def _checked(returned: tuple[Any, ...]) -> Any:
    status, *rest = returned
    if status != _driver().CUresult.CUDA_SUCCESS:
        raise RuntimeError(f"the CUDA driver returned {status.name}")
    return rest[0] if rest else None


@cache
def _context(index: int) -> Any:
    return _checked(_driver().cuDevicePrimaryCtxRetain(_checked(_driver().cuDeviceGet(index))))


@cache
def _library(kernel: Kernel, arch: str) -> Any:
    code = nvrtc.built(kernel.source(), arch).cubin
    return _checked(_driver().cuLibraryLoadData(code, [], [], 0, [], [], 0))  # which copies it


@cache
def _function(kernel: Kernel, ring_bytes: int, index: int) -> Any:
    """The kernel on a device, loaded there and allowed its dynamic shared memory: the driver's own limit is 48 KiB."""
    driver = _driver()
    torch.cuda.current_stream(index)  # which makes torch, and so the driver, begin
    arch = nvrtc.architecture(capability(torch.device("cuda", index)))
    with torch.cuda.device(index):
        _checked(driver.cuCtxSetCurrent(_context(index)))  # a thread that has not used the device yet has none
        found = _checked(driver.cuLibraryGetKernel(_library(kernel, arch), kernel.name.encode()))
        function = _checked(driver.cuKernelGetFunction(found))  # now, and not at a launch that may be captured
        if ring_bytes:
            wanted = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            _checked(driver.cuFuncSetAttribute(function, wanted, ring_bytes))
    return function


@lru_cache(maxsize=4096)
def _config(grid: Grid, stream: int) -> Any:
    driver = _driver()
    config = driver.CUlaunchConfig()
    config.gridDimX, config.gridDimY, config.gridDimZ = grid.x, grid.y, 1
    config.blockDimX, config.blockDimY, config.blockDimZ = grid.threads, 1, 1
    config.sharedMemBytes = grid.ring_bytes
    config.hStream = driver.CUstream(stream)
    config.attrs = [*_attributes(grid)]
    config.numAttrs = len(config.attrs)
    return config


def _attributes(grid: Grid) -> list[Any]:
    driver, found = _driver(), []
    names = driver.CUlaunchAttributeID
    if grid.cluster > 1:
        value = driver.CUlaunchAttributeValue()
        value.clusterDim.x, value.clusterDim.y, value.clusterDim.z = grid.cluster, 1, 1
        found.append((names.CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION, value))
    if grid.dependent:
        value = driver.CUlaunchAttributeValue()
        value.programmaticStreamSerializationAllowed = 1
        found.append((names.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION, value))
    attributes = []
    for name, value in found:
        attribute = driver.CUlaunchAttribute()
        attribute.id, attribute.value = name, value
        attributes.append(attribute)
    return attributes
