"""Two kernels whose results give a wrong interpreter away. Importing this module imports triton."""

import torch
import triton
import triton.language as tl

SIZE = 16


@triton.jit
def bf16_store(source, target, SIZE: tl.constexpr):  # type: ignore[no-untyped-def]
    index = tl.arange(0, SIZE)
    tl.store(target + index, tl.load(source + index).to(tl.bfloat16))


@triton.jit
def bf16_dot(left, right, product, SIZE: tl.constexpr):  # type: ignore[no-untyped-def]
    index = tl.arange(0, SIZE)
    tile = index[:, None] * SIZE + index[None, :]
    tl.store(product + tile, tl.dot(tl.load(left + tile), tl.load(right + tile)))


def sing() -> list[str]:
    """Run both kernels on CPU tensors; one finding for each wrong result, none if all is right."""
    return [finding for finding in (_store_finding(), _dot_finding()) if finding]


def _store_finding() -> str | None:
    source = torch.linspace(1, 2, SIZE) + 2**-9  # most lie between two bfloat16 numbers
    target = torch.zeros(SIZE, dtype=torch.bfloat16)
    bf16_store[(1,)](source, target, SIZE)
    wrong = int((target != source.bfloat16()).sum())
    return f"{wrong} of {SIZE} bfloat16 stores are not rounded to nearest even" if wrong else None


def _dot_finding() -> str | None:
    left = torch.arange(-128, 128).reshape(SIZE, SIZE).remainder(9).sub(4).bfloat16()
    right = left.T.contiguous().neg()
    product = torch.zeros(SIZE, SIZE)
    bf16_dot[(1,)](left, right, product, SIZE)
    error = (product - left.float() @ right.float()).abs().max().item()
    return f"a bfloat16 dot of small integers is off by {error:g}" if error else None
