"""Where the kernels cannot run, one line says why and what would change it; all else works."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
import torch

from gdn_verify.kernels import fast, ops
from gdn_verify.kernels.cuda import compile as nvrtc
from gdn_verify.kernels.cuda import emulate
from gdn_verify.kernels.cuda import launch as launching
from gdn_verify.kernels.cuda.arguments import Arguments
from gdn_verify.kernels.cuda.config import Config
from gdn_verify.kernels.dispatch import gated_delta_net_packed
from gdn_verify.paths import find

from ..triton.families import operands
from ..triton.problems import Problem
from .launching import check, launch


@pytest.fixture(autouse=True)
def asked_anew() -> None:
    """What a process finds out once."""
    for function in (launching.capability, fast.kernels_missing):
        function.cache_clear()


def test_a_cpu_tensor_without_the_variable(monkeypatch):
    """Nobody emulates by mistake."""
    monkeypatch.delenv(emulate.VARIABLE)
    with pytest.raises(
        RuntimeError, match="a CUDA kernel cannot be launched: the tensors are on the cpu, and GDN_EMUL"
    ):
        check(Problem())


def test_without_a_compiler(monkeypatch):
    """The path is missing, with the reason."""
    monkeypatch.setattr(emulate, "_compiler", lambda: None)
    missing = find("cuda-decode").missing("emulated-cuda")
    assert str(missing) == "there is no C++ compiler (set CXX, or install g++ or clang++)"
    assert emulate.missing() == missing.reason


def test_without_cuda_bindings(monkeypatch):
    """The package to install."""
    monkeypatch.setattr(nvrtc, "find_spec", lambda name: None)
    assert nvrtc.missing() == "cuda-bindings is not installed (pip install 'gdn-verify[cuda]')"
    assert str(find("cuda-decode").missing("cuda")) == nvrtc.missing()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_without_a_card():
    """Told before any package is asked for."""
    assert launching.missing("cuda") == "no CUDA device is visible"


def test_a_card_that_is_too_old():
    """Compute capability 7.5 has no bfloat16."""
    with pytest.raises(RuntimeError, match=r"need compute capability 8.0 or later; this is 7.5"):
        nvrtc.architecture(75)
    assert [nvrtc.architecture(n) for n in (80, 86, 89, 90, 100, 120)] == [
        "sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_120",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [({"splits": 3}, "splits=3 is not one of 1, 2, 4, 8"), ({"lanes": 64}, "lanes=64"), ({"depth": 0}, "depth=0")],
)
def test_a_configuration_that_is_none(change, words):
    """The field and its value."""
    with pytest.raises(ValueError, match=words):
        Config(**change)


def test_operands_that_do_not_fit_are_told_as_by_the_triton_kernels():
    """The checks are the same."""
    problem = Problem()
    on = problem.buffers()
    wrong = replace(on, pool=replace(on.pool, view=on.pool.view.double()))
    with pytest.raises(ValueError, match=r"pool has dtype torch\.float64"):
        launch(problem, wrong)


def test_arguments_are_counted_and_typed():
    """Before anything is launched."""
    arguments = Arguments(pointer=("x",), int32=("n",), float32=("eps",))
    x = torch.zeros(3)
    assert arguments.names == ("x", "n", "eps")
    assert arguments.packed(x, 7, 0.5) == struct.pack("Pif", x.data_ptr(), 7, 0.5)
    assert arguments.packed(None, 7, 0.5)[:8] == bytes(8)
    with pytest.raises(TypeError, match="2 arguments are given; the kernel has 3"):
        arguments.packed(x, 7)
    with pytest.raises(struct.error):
        arguments.packed(x, 0.5, 7)
    with pytest.raises(struct.error):
        arguments.packed(x, 2**31, 0.5)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_the_dispatcher_says_why_it_cannot(monkeypatch):
    """A forced kernel is an error, and nothing is written; "auto" is as before."""
    monkeypatch.delenv(emulate.VARIABLE)
    problem = Problem(starts=True)
    on = problem.buffers()
    with pytest.raises(ValueError, match="kernel='cuda' cannot serve this launch: the tensors are on the cpu, and GDN"):
        gated_delta_net_packed(*operands(problem, on)[:5], on.tables, kernel="cuda")
    with pytest.raises(RuntimeError, match="cuda_fused_decode cannot run: the tensors are on the cpu, and GDN_EMULATE"):
        ops.cuda.fused_decode(*operands(problem, on))
