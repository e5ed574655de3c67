"""Triton kernels that are wrong in one way each, and right where told so: for the tools of compute-sanitizer."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from triton.experimental import gluon
from triton.experimental.gluon import language as gl

N = 128
"""Elements of each, one a thread of four warps."""


@triton.jit
def planted_memcheck_kernel(x, COUNT: tl.constexpr):
    """Stores `COUNT` elements, however many there are."""
    at = tl.arange(0, COUNT)
    tl.store(x + at, at)


@triton.jit
def planted_initcheck_kernel(scratch, x, COUNT: tl.constexpr):
    """Reads scratch memory, whoever has written it."""
    at = tl.arange(0, COUNT)
    tl.store(x + at, tl.load(scratch + at))


UNORDERED = """{
    .shared .align 4 .b32 planted_words[128];
    .reg .b32 words, place, other;
    mov.u32 words, planted_words;
    mad.lo.u32 place, $1, 4, words;
    st.shared.b32 [place], $1;
    // here
    xor.b32 other, $1, 64;
    mad.lo.u32 place, other, 4, words;
    ld.shared.b32 $0, [place];
}"""
"""A store to shared memory, and a load of what a thread of another warp stores. In PTX, since between the accesses to
shared memory that Triton and Gluon know of they put a barrier themselves."""
ORDERED = UNORDERED.replace("// here", "bar.sync 0;")


@triton.jit
def planted_racecheck_kernel(x, COUNT: tl.constexpr, WORDS: tl.constexpr):
    """Runs a piece of PTX on the number of each thread."""
    at = tl.arange(0, COUNT)
    seen = tl.inline_asm_elementwise(WORDS, "=r,r", [at], dtype=tl.int32, is_pure=False, pack=1)
    tl.store(x + at, seen)


@gluon.jit
def take(words, x, COUNT: gl.constexpr, SHARED: gl.constexpr):
    """The first four warps: put numbers into shared memory and store what is there then, or just numbers."""
    LANES: gl.constexpr = gl.BlockedLayout([1], [32], [4], [0])
    at = gl.arange(0, COUNT, LANES)
    if SHARED:
        words.store((at + 1).to(gl.int64))
    gl.store(x + at, words.load(LANES).to(gl.int32) if SHARED else at)


@gluon.jit
def give(words, x, COUNT: gl.constexpr, SHARED: gl.constexpr):
    """The other four: put numbers into shared memory whenever they come to it, or into `x` behind the first ones'."""
    at = gl.arange(0, COUNT, gl.BlockedLayout([1], [32], [4], [0]))
    if SHARED:
        words.store(at.to(gl.int64))
    else:
        gl.store(x + COUNT + at, at)


@gluon.jit
def planted_warps_kernel(x, COUNT: gl.constexpr, SHARED: gl.constexpr):
    """Two groups of warps that meet in shared memory without a barrier, or nowhere.

    In 64 bits: narrower numbers move by stmatrix and ldmatrix, and racecheck 2025.3.1 accused none of five such ones.
    """
    words = gl.allocate_shared_memory(gl.int64, [COUNT], gl.SwizzledSharedLayout(1, 1, 1, [0]))
    gl.warp_specialize([(take, (words, x, COUNT, SHARED)), (give, (words, x, COUNT, SHARED))], [4], [64])


def store(right: bool) -> None:
    """Beyond the end of an allocation, or up to it."""
    planted_memcheck_kernel[(1,)](torch.empty(N if right else N // 2, dtype=torch.int32, device="cuda"), COUNT=N)


def scratch(right: bool) -> None:
    """A read of memory that nobody has written, or that was."""
    memory = torch.empty(N, dtype=torch.int32, device="cuda")
    if right:
        memory.fill_(1)
    planted_initcheck_kernel[(1,)](memory, torch.empty_like(memory), COUNT=N)


def race(right: bool) -> None:
    """Without a barrier between store and load, or with one."""
    words = ORDERED if right else UNORDERED
    planted_racecheck_kernel[(1,)](torch.empty(N, dtype=torch.int32, device="cuda"), COUNT=N, WORDS=words)


def warps(right: bool) -> None:
    """Groups of warps that share memory unordered, or none."""
    planted_warps_kernel[(1,)](torch.empty(2 * N, dtype=torch.int32, device="cuda"), COUNT=N, SHARED=not right)


PLANTED = {"memcheck": store, "initcheck": scratch, "racecheck": race, "warps": warps}
