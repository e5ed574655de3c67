"""What a worker of an emulated chip is asked to launch."""

from __future__ import annotations

from multiprocessing.connection import Connection

import torch
import triton
import triton.language as tl

from gdn_verify.hosts import Host


@triton.jit
def _add(x, y, out, n, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(out + at, tl.load(x + at, at < n) + tl.load(y + at, at < n), at < n)


@triton.jit
def _sums(x, out, C: tl.constexpr):
    row = tl.program_id(0)
    tl.store(out + row, tl.sum(tl.exp(tl.load(x + row * C + tl.arange(0, C))), 0))


@triton.jit
def _products(a, b, out, N: tl.constexpr):
    i, j = tl.arange(0, N)[:, None], tl.arange(0, N)[None, :]
    tl.store(out + i * N + j, tl.dot(tl.load(a + i * N + j), tl.load(b + i * N + j), input_precision="ieee"))


@triton.jit
def _counts(out, B: tl.constexpr):
    tl.atomic_add(out + tl.arange(0, B), tl.full([B], 1.0, tl.float32))


def add() -> bool:
    x, y, out = torch.randn(1000), torch.randn(1000), torch.zeros(1000)
    _add[(4,)](x, y, out, 1000, 256)
    return torch.equal(out, x + y)


def sums() -> bool:
    x, out = torch.randn(3, 512), torch.zeros(3)
    _sums[(3,)](x, out, 512)
    return torch.allclose(out, x.exp().sum(1), rtol=1e-6)


def products() -> bool:
    right = True
    for kind in (torch.float32, torch.float16, torch.bfloat16):
        for size in (16, 32, 64):
            a, b, out = torch.randn(size, size).to(kind), torch.randn(size, size).to(kind), torch.zeros(size, size)
            _products[(1,)](a, b, out, size)
            right &= torch.allclose(out.double(), a.double() @ b.double(), atol=1e-4)
    return right


def counts() -> bool:
    out = torch.zeros(128)
    _counts[(9,)](out, 128)
    return bool((out == 9).all())


KERNELS = {"add": add, "sums": sums, "products": products, "counts": counts}


def serve(host: Host, pipe: Connection) -> None:
    """Launch what is named; say what came of it."""
    torch.manual_seed(1)
    try:
        pipe.send(
            "right" if {"add": add, "sums": sums, "products": products, "counts": counts}[pipe.recv()]() else "wrong"
        )
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}")
