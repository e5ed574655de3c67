"""Kernels and builder calls for the tests; imported in a process with the interpreter installed."""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from triton.language.extra import libdevice
from triton.runtime import interpreter as stock

exp_alias = tl.exp


def call_by_name(name: str, *args: Any) -> Any:
    """Call "module:function", importing the module here and not where the test runs."""
    module, function = name.split(":")
    return getattr(importlib.import_module(module), function)(*args)


def builder_methods() -> set[str]:
    """Every operation the interpreter's builder has, stock or overlaid."""
    return {name for name in dir(stock.interpreter_builder) if name.startswith("create_")}


def _handle(tensor: torch.Tensor) -> Any:
    names = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32", torch.float64: "fp64"}
    names |= {torch.int32: "i32", torch.int64: "i64", torch.bool: "i1", torch.uint8: "fp8e4nv"}
    bits = tensor.view(torch.int16).numpy().view(np.uint16) if tensor.dtype == torch.bfloat16 else tensor.numpy()
    return stock.TensorHandle(bits, tl.str_to_ty(names[tensor.dtype], None))


def _tensor(handle: Any) -> torch.Tensor:
    data = np.array(handle.data)
    if handle.dtype.is_bf16():
        return torch.from_numpy(data.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(data)


def build(method: str, tensors: list[torch.Tensor], *rest: Any) -> torch.Tensor:
    """Call one builder method on tensors (uint8 stands for fp8e4nv) and further plain arguments."""
    with np.errstate(all="ignore"):
        return _tensor(getattr(stock.interpreter_builder, method)(*map(_handle, tensors), *rest))


def cast(method: str, tensor: torch.Tensor, target: str, *rest: Any) -> torch.Tensor:
    """Call a casting method of the builder; `target` is Triton's name of the type."""
    return build(method, [tensor], tl.str_to_ty(target, None), *rest)


@triton.jit
def _expressions(x_ptr, y_ptr, z_ptr, out_ptr, which: tl.constexpr, N: tl.constexpr):
    index = tl.arange(0, N)
    x, y, z = tl.load(x_ptr + index), tl.load(y_ptr + index), tl.load(z_ptr + index)
    if which == "add":
        result = x + y
    elif which == "sub":
        result = x - y
    elif which == "mul":
        result = x * y
    elif which == "div":
        result = x / y
    elif which == "neg":
        result = -x
    elif which == "scale":
        result = x * 0.7
    elif which == "shift":
        result = 0.3 + x
    elif which == "abs":
        result = tl.abs(x)
    elif which == "less":
        result = x < y
    elif which == "equal":
        result = x == y
    elif which == "unequal":
        result = x != y
    elif which == "where":
        result = tl.where(x > y, x, z)
    elif which == "maximum":
        result = tl.maximum(x, y)
    elif which == "minimum":
        result = tl.minimum(x, y)
    elif which == "maximum_nan":
        result = tl.maximum(x, y, propagate_nan=tl.PropagateNan.ALL)
    elif which == "clamp":
        result = tl.clamp(x, -1.0, 1.0)
    elif which == "fma":
        result = tl.fma(x, y, z)
    elif which == "full":
        result = tl.full([N], 1.01, x.dtype)
    elif which == "cumsum":
        result = tl.cumsum(x, 0)
    elif which == "reverse_cumsum":
        result = tl.cumsum(x, 0, reverse=True)
    elif which == "scan":
        result = tl.associative_scan(x, 0, _multiply)
    elif which == "sum_scan":
        result = tl.associative_scan(x, 0, tl.standard._sum_combine)
    elif which == "sum":
        result = tl.sum(x, 0) + tl.zeros([N], x.dtype)
    elif which == "max":
        result = tl.max(x, 0) + tl.zeros([N], tl.float32)
    elif which == "reduce":
        result = tl.reduce(x, 0, _multiply) + tl.zeros([N], x.dtype)
    elif which == "sqrt":
        result = tl.sqrt(x.to(tl.float32))
    elif which == "toward_zero":
        result = x.to(out_ptr.dtype.element_ty, fp_downcast_rounding="rtz")
    elif which == "exp_without_cast":
        result = tl.exp(x)
    tl.store(out_ptr + index, result.to(out_ptr.dtype.element_ty))


@triton.jit
def _multiply(a, b):
    return a * b


def expression(which: str, x: torch.Tensor, y: torch.Tensor, z: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Evaluate one expression of `_expressions` on vectors of a power of two elements."""
    out = torch.zeros(x.numel(), dtype=dtype)
    _expressions[(1,)](x, y, z, out, which, x.numel())
    return out


@triton.jit
def _dot(a_ptr, b_ptr, c_ptr, out_ptr, precision: tl.constexpr, N: tl.constexpr):
    tile = tl.arange(0, N)[:, None] * N + tl.arange(0, N)[None, :]
    product = tl.dot(tl.load(a_ptr + tile), tl.load(b_ptr + tile), tl.load(c_ptr + tile), input_precision=precision)
    tl.store(out_ptr + tile, product)


def dot(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor, precision: str = "tf32") -> torch.Tensor:
    """a @ b + c for square tiles; the result has c's type."""
    out = torch.zeros_like(c)
    _dot[(1,)](a, b, c, out, precision, a.shape[0])
    return out


@triton.jit
def _block_pointers(x_ptr, y_ptr, rows, cols, N: tl.constexpr):
    source = tl.make_block_ptr(x_ptr, (rows, cols), (cols, 1), (0, 0), (N, N), (1, 0))
    target = tl.make_block_ptr(y_ptr, (rows, cols), (cols, 1), (0, 0), (N, N), (1, 0))
    block = tl.load(source, boundary_check=(0, 1), padding_option="nan")
    tl.store(target, block + 1.0, boundary_check=(0, 1))


def add_one_by_block_pointer(x: torch.Tensor, block: int) -> torch.Tensor:
    """x + 1 through block pointers larger than x."""
    y = torch.zeros_like(x)
    _block_pointers[(1,)](x, y, *x.shape, block)
    return y


@triton.jit
def _atomic(x_ptr):
    tl.atomic_add(x_ptr, tl.load(x_ptr))


def atomic_add(x: torch.Tensor) -> torch.Tensor:
    """Double the first element by an atomic."""
    _atomic[(1,)](x)
    return x


@triton.jit
def _loops(out_ptr, n, N: tl.constexpr):
    total = tl.zeros([1], tl.int64)
    for i in range(n):
        total += i.to(tl.int64)
    for i in range(N):
        total += i.to(tl.int64)
    for i in tl.range(0, n, 2, num_stages=2):
        total += i.to(tl.int64)
    for i in tl.static_range(N):
        total += i
    for i in range(n - 1, -1, -1):
        total += i.to(tl.int64)
    tl.store(out_ptr + tl.arange(0, 1), total)


def loops(n: int, constant: int) -> int:
    """The sum of all indices of five kinds of loop."""
    out = torch.zeros(1, dtype=torch.int64)
    _loops[(1,)](out, n, constant)
    return int(out)


@triton.jit
def _loaded_bound(bounds_ptr, out_ptr):
    count = 0
    for _ in range(tl.load(bounds_ptr), tl.load(bounds_ptr + 1)):
        count += 1
    tl.store(out_ptr, count)


def loop_to_loaded_bound(start: int, stop: int) -> int:
    """How often a loop runs whose bounds were read from memory."""
    out = torch.zeros(1, dtype=torch.int32)
    _loaded_bound[(1,)](torch.tensor([start, stop]), out)
    return int(out)


@triton.jit
def _alias(x_ptr, out_ptr):
    tl.store(out_ptr, exp_alias(tl.load(x_ptr)))


def alias(x: torch.Tensor) -> torch.Tensor:
    """exp through a module-level alias of tl.exp."""
    out = torch.zeros_like(x)
    _alias[(1,)](x, out)
    return out


@triton.jit
def _assert(x_ptr):
    tl.device_assert(tl.load(x_ptr) > 0, "x must be positive")


def device_assert(x: torch.Tensor) -> None:
    """Assert on the device that the first element is positive."""
    _assert[(1,)](x)


@triton.jit
def _libdevice(x_ptr, out_ptr, which: tl.constexpr, N: tl.constexpr):
    x = tl.load(x_ptr + tl.arange(0, N))
    if which == "log1p":
        result = libdevice.log1p(x)
    elif which == "expm1":
        result = libdevice.expm1(x)
    elif which == "tanh":
        result = libdevice.tanh(x)
    elif which == "fast_expf":
        result = libdevice.fast_expf(x)
    elif which == "rsqrt":
        result = libdevice.rsqrt(x)
    elif which == "pow":
        result = libdevice.pow(x, 2.0)
    else:
        result = libdevice.erfcinv(x)
    tl.store(out_ptr + tl.arange(0, N), result)


def device_function(which: str, x: torch.Tensor) -> torch.Tensor:
    """One libdevice function on a vector."""
    out = torch.zeros_like(x)
    _libdevice[(1,)](x, out, which, x.numel())
    return out


@triton.autotune([triton.Config({"TAG": 1}), triton.Config({"TAG": 2})], key=["n"])
@triton.jit
def _tuned(out_ptr, n, TAG: tl.constexpr):
    tl.store(out_ptr, tl.load(out_ptr) + TAG)


def tuned() -> int:
    """The sum of the tags of all configurations that ran in one launch."""
    out = torch.zeros(1, dtype=torch.int32)
    _tuned[(1,)](out, 1)
    return int(out)


@triton.jit
def _copies(x_ptr, out_ptr):
    tl.store(out_ptr + tl.program_id(0), tl.load(x_ptr + tl.program_id(0)))


def counted_grid() -> list[float]:
    """What a kernel copies whose grid gives it another tensor to read, of as many elements as there are programs."""
    out = torch.zeros(2)

    def grid(arguments: dict[str, Any]) -> tuple[int]:
        arguments["x_ptr"] = torch.full_like(arguments["out_ptr"], 5.0)
        return (arguments["out_ptr"].numel(),)

    _copies[grid](torch.zeros(2), out)
    copied: list[float] = out.tolist()
    return copied


def recorded(function: Callable[..., Any], *args: Any) -> list[tuple[str, tuple[int, int, int]]]:
    """Names and grids of the kernels a call launches."""
    from gdn_verify.emulator.interpreter import launches

    with launches() as ran:
        function(*args)
    return [(x.kernel, x.grid) for x in ran]


@triton.jit
def _integers(x_ptr, y_ptr, out_ptr, which: tl.constexpr, N: tl.constexpr):
    index = tl.arange(0, N)
    x, y = tl.load(x_ptr + index), tl.load(y_ptr + index)
    if which == "floordiv":
        result = x // y
    elif which == "mod":
        result = x % y
    elif which == "shift":
        result = (x >> 1) + x
    elif which == "invert":
        result = ~x
    elif which == "wrap":
        result = x * 65537 + y
    elif which == "promote":
        result = (x.to(tl.int64) * 65537 + y) >> 3
    tl.store(out_ptr + index, result)


def integers(which: str, x: torch.Tensor, y: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """One integer expression on vectors."""
    out = torch.zeros(x.numel(), dtype=dtype)
    _integers[(1,)](x, y, out, which, x.numel())
    return out
