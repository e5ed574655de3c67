"""The kernels behind the golden vectors; the same source runs on a GPU and in the interpreter."""

import torch
import triton
import triton.language as tl

TILE = 16


@triton.jit
def elementwise(x_ptr, y_ptr, z_ptr, out_ptr, WHICH: tl.constexpr, N: tl.constexpr):  # type: ignore[no-untyped-def]
    index = tl.arange(0, N)
    x = tl.load(x_ptr + index)
    y = tl.load(y_ptr + index)
    z = tl.load(z_ptr + index)
    if WHICH == "cast":
        result = x.to(out_ptr.dtype.element_ty)
    elif WHICH == "cast_rtz":
        result = x.to(out_ptr.dtype.element_ty, fp_downcast_rounding="rtz")
    elif WHICH == "add":
        result = x + y
    elif WHICH == "sub":
        result = x - y
    elif WHICH == "mul":
        result = x * y
    elif WHICH == "fma":
        result = tl.fma(x, y, z)
    elif WHICH == "maximum":
        result = tl.maximum(x, y)
    elif WHICH == "div":
        result = x / y
    elif WHICH == "div_rn":
        result = tl.div_rn(x, y)
    elif WHICH == "sqrt_rn":
        result = tl.sqrt_rn(x)
    elif WHICH == "sqrt":
        result = tl.sqrt(x)
    elif WHICH == "rsqrt":
        result = tl.rsqrt(x)
    elif WHICH == "exp":
        result = tl.exp(x)
    elif WHICH == "exp2":
        result = tl.exp2(x)
    elif WHICH == "log":
        result = tl.log(x)
    elif WHICH == "log2":
        result = tl.log2(x)
    elif WHICH == "sigmoid":
        result = tl.sigmoid(x)
    elif WHICH == "one_plus_exp":
        result = 1.0 + tl.exp(x)
    else:
        tl.static_assert(False, "unknown operation")
    tl.store(out_ptr + index, result.to(out_ptr.dtype.element_ty))


@triton.jit
def tile_dot(a_ptr, b_ptr, out_ptr, PRECISION: tl.constexpr, SIZE: tl.constexpr):  # type: ignore[no-untyped-def]
    index = tl.arange(0, SIZE)[:, None] * SIZE + tl.arange(0, SIZE)[None, :]
    product = tl.dot(tl.load(a_ptr + index), tl.load(b_ptr + index), input_precision=PRECISION)
    tl.store(out_ptr + index, product)


def evaluate(operation: str, inputs: list[torch.Tensor], dtype: torch.dtype, device: str) -> torch.Tensor:
    """One operation on vectors of a power of two elements, or "dot_ieee"/"dot_tf32" on 16x16 tiles.

    The result lies on the CPU and has the given dtype.
    """
    there = [x.to(device) for x in inputs]
    out = torch.zeros(inputs[0].shape, dtype=dtype, device=device)
    if operation.startswith("dot_"):
        tile_dot[(1,)](*there, out, operation.removeprefix("dot_"), TILE)
    else:
        x, y, z = there + [there[0]] * (3 - len(there))
        elementwise[(1,)](x, y, z, out, operation, x.numel())
    return out.cpu()
