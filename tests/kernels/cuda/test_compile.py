"""NVRTC compiles every source for every chip, where it is installed; and what its assembler says is read."""

from __future__ import annotations

import re

import pytest

from gdn_verify.kernels.cuda import compile as nvrtc
from gdn_verify.kernels.cuda.launch import Kernel
from gdn_verify.kernels.cuda.plans import Source
from gdn_verify.kernels.cuda.samples import samples
from gdn_verify.kernels.cuda.sources import NVIDIA, PROCESSOR, read

LOG = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'gdn_cuda_decode' for 'sm_90a'
ptxas info    : Function properties for gdn_cuda_decode
ptxas         .     16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 118 registers, used 1 barriers, 16 bytes cumulative stack size, 1392 bytes smem
"""
SPILLED = {"gdn_cuda_chunk_delta": 16}
"""Bytes of a thread: of a whole head of 128 a word or two, once a chunk. All else spills nothing."""
installed = pytest.mark.skipif(nvrtc.missing() is not None, reason=str(nvrtc.missing()))
CHIPS = (80, 86, 89, 90, 100, 120)
CHUNKED = (
    "matrices.cuh", "chunk_block.cuh", "chunk_fetch.cuh", "chunk_fold.cuh", "chunk_scan.cuh", "chunk_delta.cu",
)  # fmt: skip
ROOMY = (80, 90, 100)
"""Chips of which a block has the shared memory for chunks of heads of 128, on the first for parts of V alone."""


def test_what_the_assembler_says_is_read():
    """A number that is not there is an error, not a zero; but for shared memory, of which it says nothing then."""
    found = nvrtc.Built(b"", LOG).resources
    assert found == {"registers": 118, "spill_bytes": 8, "scratch_bytes": 16, "shared_bytes": 1392}
    assert nvrtc.Built(b"", LOG.replace(", 1392 bytes smem", "")).resources["shared_bytes"] == 0
    with pytest.raises(nvrtc.CompileError, match="does not tell registers"):
        _ = nvrtc.Built(b"", LOG.replace("registers", "flags")).resources


def test_what_only_a_machine_has_is_in_its_file():
    """No PTX, no intrinsic and no header elsewhere; both machines have the same names."""
    words = ("asm", "__shfl", "__sync", "threadIdx", "blockIdx", "__cvta", "#include <", "__shared__", "atomic")
    for name in ("numbers.cuh", "layer.cuh", "tile.cuh", "block.cuh", "decode.cu", "spec.cu", *CHUNKED):
        text = read(f"source/{name}")
        assert not [word for word in words if word in text], name
    assert {"fused", "send", "load_words", "narrow", "cluster_wait"} <= names(PROCESSOR)
    assert names(NVIDIA) - {"shared_address"} == names(PROCESSOR)
    assert "#include" not in read(NVIDIA)


def names(machine: str) -> set[str]:
    """Functions of a machine."""
    return set(re.findall(r"^INLINE [\w<> ,:*&]*?(\w+)\(", read(machine), re.MULTILINE))


@installed
@pytest.mark.parametrize("chip", CHIPS)
def test_a_sample_of_each_kernel_compiles_and_spills_nothing(chip):
    """`gdn-verify crosscompile --paths cuda-kernels` has all of them."""
    first = {sample.plan.kernel.name: sample.plan.kernel for sample in samples(chip)}
    chunked = {"gdn_cuda_chunk_delta"} if chip in ROOMY else set()
    assert set(first) == {"gdn_cuda_decode", "gdn_cuda_spec"} | chunked
    for kernel in first.values():
        built = nvrtc.built(kernel.source(), nvrtc.architecture(chip))
        assert built.cubin[:4] == b"\x7fELF"
        assert built.resources["registers"] > 16
        assert built.resources["spill_bytes"] <= SPILLED.get(kernel.name, 0)


@installed
def test_a_source_that_is_refused_is_told_with_its_line():
    """The file's own line, though all of them are one text."""
    kernel = next(samples(90)).plan.kernel
    source = kernel.source().replace("KERNEL(gdn_cuda_decode) {", "KERNEL(gdn_cuda_decode) { int x = nothing;")
    line = read("source/decode.cu").splitlines().index("KERNEL(gdn_cuda_decode) {") + 1
    with pytest.raises(nvrtc.CompileError, match=rf"(?s)for sm_90a:.*decode\.cu\({line}\).*nothing"):
        nvrtc.built(source, "sm_90a")


@installed
def test_what_was_compiled_is_found_again(monkeypatch):
    """On disk: no compiler is asked."""
    source = next(samples(90)).plan.kernel.source()
    first = nvrtc.built(source, "sm_90a")
    nvrtc.built.cache_clear()
    monkeypatch.setattr(nvrtc, "_compiled", None)
    assert nvrtc.built(source, "sm_90a") == first


def test_kernels_are_told_apart_by_identity():
    """A launch must not hash a page of constants."""
    from gdn_verify.kernels.cuda.arguments import Arguments

    source = Source("decode.cu", "k", Arguments())
    assert Kernel(source.file, source.name, source.arguments, {}) != Kernel(
        source.file, source.name, source.arguments, {}
    )
