"""What is asked of the driver, of one that only listens: a card is needed for all else."""

from __future__ import annotations

import ctypes
import struct
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gdn_verify.kernels.cuda import compile as nvrtc
from gdn_verify.kernels.cuda import launch as launching
from gdn_verify.kernels.cuda.arguments import Arguments
from gdn_verify.kernels.cuda.launch import Grid, Kernel

OK, INVALID_CONTEXT, REFUSED = (SimpleNamespace(name=name) for name in ("SUCCESS", "INVALID_CONTEXT", "INVALID_VALUE"))
CARD = torch.device("cuda", 0)


class Driver:
    """The calls of `cuda.bindings.driver` that are made, noted; each answers with what is next in `answers`, or OK."""

    CUresult = SimpleNamespace(CUDA_SUCCESS=OK, CUDA_ERROR_INVALID_CONTEXT=INVALID_CONTEXT)
    CUlaunchAttributeID = SimpleNamespace(
        CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION="cluster", CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION="pdl"
    )
    CUfunction_attribute = SimpleNamespace(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES="dynamic")
    CUlaunchConfig = SimpleNamespace
    CUlaunchAttribute = SimpleNamespace

    def __init__(self, *answers: Any) -> None:
        self.answers, self.calls, self.sent = list(answers), [], b""

    def CUlaunchAttributeValue(self) -> Any:
        return SimpleNamespace(clusterDim=SimpleNamespace())

    def CUstream(self, number: int) -> Any:
        return ("stream", number)

    def cuLaunchKernelEx(self, config: Any, function: Any, pointers: int, extra: int) -> Any:
        address = ctypes.c_void_p.from_address(pointers).value
        assert address is not None
        self.sent = ctypes.string_at(address, 16)
        self.calls.append(("launch", config, function))
        return (self.answers.pop(0) if self.answers else OK,)

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            self.calls.append((name, *arguments))
            return OK, 41

        return call


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A machine whose torch has a card, its driver the one that a test gives."""
    for function in (launching._function, launching._library, launching._config, launching._context):
        function.cache_clear()
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda index: SimpleNamespace(cuda_stream=7 + index))
    monkeypatch.setattr(torch.cuda, "device", lambda index: nullcontext())
    monkeypatch.setattr(launching, "capability", lambda device: 90)
    monkeypatch.setattr(nvrtc, "built", lambda source, arch: nvrtc.Built(b"cubin " + arch.encode(), ""))

    def use(driver: Driver) -> Driver:
        monkeypatch.setattr(launching, "_driver", lambda: driver)
        return driver

    yield use
    for function in (launching._function, launching._library, launching._config, launching._context):
        function.cache_clear()


def a_kernel() -> Kernel:
    return Kernel("decode.cu", "k", Arguments(pointer=("x",), int32=("n",)), {"K": 1})


def launches(driver: Driver) -> list[Any]:
    return [call for call in driver.calls if call[0] == "launch"]


def test_a_launch_is_as_it_was_asked_for(card):
    """Grid, cluster, dynamic shared memory and its permission, programmatic launch, stream, and arguments."""
    driver, x = card(Driver()), torch.zeros(1)
    launching.launch(CARD, a_kernel(), Grid(16, 3, 128, cluster=8, ring_bytes=65536, dependent=True), x, 5)
    ((_, config, function),) = launches(driver)
    assert (config.gridDimX, config.gridDimY, config.gridDimZ) == (16, 3, 1)
    assert (config.blockDimX, config.blockDimY, config.blockDimZ) == (128, 1, 1)
    assert (config.sharedMemBytes, config.hStream, function) == (65536, ("stream", 7), 41)
    assert [attribute.id for attribute in config.attrs] == ["cluster", "pdl"]
    assert config.numAttrs == 2
    cluster = config.attrs[0].value.clusterDim
    assert (cluster.x, cluster.y, cluster.z) == (8, 1, 1)
    assert config.attrs[1].value.programmaticStreamSerializationAllowed == 1
    assert driver.sent == struct.pack("Pi4x", x.data_ptr(), 5)
    assert ("cuFuncSetAttribute", 41, "dynamic", 65536) in driver.calls
    assert ("cuLibraryLoadData", b"cubin sm_90a", [], [], 0, [], [], 0) in driver.calls


def test_what_is_not_asked_for_is_not_there(card):
    """No attribute, and no permission that nobody needs."""
    driver = card(Driver())
    launching.launch(CARD, a_kernel(), Grid(16, 3, 128), None, 5)
    ((_, config, _),) = launches(driver)
    assert (config.attrs, config.numAttrs) == ([], 0)
    assert not [call for call in driver.calls if call[0] == "cuFuncSetAttribute"]


def test_a_kernel_is_loaded_once(card):
    """Later launches call the driver once: under a capture nothing else may be asked of it."""
    driver, kernel = card(Driver()), a_kernel()
    for units in (1, 2, 1):
        launching.launch(CARD, kernel, Grid(units, 1, 32), None, 5)
    assert [call[0] for call in driver.calls].count("cuLibraryLoadData") == 1
    assert [call[0] for call in driver.calls][-2:] == ["launch", "launch"]


def test_a_thread_without_a_context_takes_the_primary_one(card):
    """Torch makes it current where it is first used; a driver's call of ours may be the first."""
    driver = card(Driver(INVALID_CONTEXT))
    launching.launch(CARD, a_kernel(), Grid(1, 1, 32), None, 5)
    names = [call[0] for call in driver.calls]
    assert names[-3:] == ["launch", "cuCtxSetCurrent", "launch"]


def test_what_the_driver_refuses_is_an_error(card):
    """With its word."""
    card(Driver(REFUSED))
    with pytest.raises(RuntimeError, match="the CUDA driver returned INVALID_VALUE"):
        launching.launch(CARD, a_kernel(), Grid(1, 1, 32), None, 5)
