"""Kernels that reduce with combine functions of their own, for `test_reductions`."""

import torch
import triton
import triton.language as tl


@triton.jit
def _larger(a, b):
    found = b
    if a > b:
        found = a
    return found


@triton.jit
def _sum_and_product(sum_a, product_a, sum_b, product_b):
    return sum_a + sum_b, product_a * product_b


@triton.jit
def _reduce(x_ptr, y_ptr, out_ptr, which: tl.constexpr, N: tl.constexpr):
    index = tl.arange(0, N)
    x = tl.load(x_ptr + index)
    y = tl.load(y_ptr + index)
    if which == "all":
        total, product = tl.reduce((tl.reshape(x, [2, N // 2]), tl.reshape(y, [2, N // 2])), None, _sum_and_product)
        result = tl.where(index % 2 == 0, total, product)
    elif which == "rows":
        total, product = tl.reduce((tl.reshape(x, [N // 2, 2]), tl.reshape(y, [N // 2, 2])), 1, _sum_and_product)
        result = tl.reshape(tl.join(total, product), [N])
    else:  # of each half
        larger = tl.reduce(tl.reshape(x, [2, N // 2]), -1, _larger)
        result = tl.reshape(larger[:, None] + tl.zeros([2, N // 2], x.dtype), [N])
    tl.store(out_ptr + index, result)


def reduced(which: str, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Sum of x and product of y, over all or over neighbours; or the larger numbers of x, found by branches."""
    out = torch.zeros_like(x)
    _reduce[(1,)](x, y, out, which, x.numel())
    return out
