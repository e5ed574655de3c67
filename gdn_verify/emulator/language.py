"""Teach `triton.language` to run on numpy, once per process.

Stock Triton rewires the language on every launch and on every call of a device function, and undoes it
after the launch; that is most of its running time, and leaves `exp = tl.exp` at module level pointing at
a function that refuses to run. Rewired once before any kernel module is imported, neither happens.
"""

import ast
import functools
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime import interpreter as stock

from gdn_verify.emulator import fastpath
from gdn_verify.emulator.builder import RoundingBuilder, narrow, widen


def install(tf32: bool) -> None:
    """Give the interpreter the rounding builder and rewire the language for good."""
    builder = stock.interpreter_builder
    builder.__class__ = RoundingBuilder
    builder.options = RoundingBuilder.options
    builder.tf32 = tf32
    _rewire_language()
    _teach_loops()
    _teach_reductions()
    fastpath.install()


class _NoScope:
    """Stands for the stock list of changes to undo: there are none."""

    def restore(self) -> None:
        pass


def _rewire_language() -> None:
    scope = stock._LangPatchScope()  # kept by nobody: these changes stay
    stock._patch_attr = _bind_semantic
    for module in (tl, tl.core):
        stock._patch_builtin(module, stock.interpreter_builder, scope)
    for owner in (tl.math, tl.tensor, tl.core.tensor_descriptor_base):
        stock._patch_builtin(owner, stock.interpreter_builder, scope)
    stock._patch_lang_tensor(tl.tensor, scope)
    for module in (tl, tl.core):
        stock._patch_lang_core(module, scope)
    stock._patch_lang = lambda fn: _NoScope()
    # numpy 2 refuses int() of an array of one element and more than no dimension.
    tl.tensor.__index__ = lambda self: int(self.handle.data.item())


def _bind_semantic(obj: Any, name: str, member: Callable[..., Any], builder: Any, scope: Any) -> None:
    semantic = stock.interpreter_semantic

    @functools.wraps(member)
    def bound(*args: Any, **kwargs: Any) -> Any:
        kwargs["_semantic"] = semantic
        return member(*args, **kwargs)

    if not hasattr(member, "_interpreted"):
        bound._interpreted = True  # type: ignore[attr-defined]
        setattr(obj, name, bound)


# -- loops ---------------------------------------------------------------------------------------------


def loop_range(arg1: Any, arg2: Any = None, step: Any = None, **hints: Any) -> Iterator[Any]:
    """`range` as compiled code sees it: the index is a tensor of the bounds' common integer type."""
    start, stop = (0, arg1) if arg2 is None else (arg1, arg2)
    bounds = [stock.interpreter_semantic.to_tensor(x) for x in (start, stop, 1 if step is None else step)]
    dtype = functools.reduce(stock.interpreter_semantic.integer_promote_impl, (x.dtype for x in bounds))
    numpy_dtype = stock._get_np_dtype(dtype)
    for value in range(*(int(x.handle.data.item()) for x in bounds)):
        yield tl.tensor(stock.TensorHandle(np.array([value], dtype=numpy_dtype), dtype), dtype)


def _teach_loops() -> None:
    tl.range = tl.core.range = loop_range
    # The rewriter copies its globals into the kernel's module, and so makes the name visible there.
    stock.gdn_verify_loop_range = loop_range

    def visit_for(self: Any, node: ast.For) -> ast.For:
        self.generic_visit(node)
        call = node.iter
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "range":
            call.func = ast.copy_location(ast.Name("gdn_verify_loop_range", ast.Load()), call.func)
        return node

    stock.ASTTransformer.visit_For = visit_for


# -- reductions ----------------------------------------------------------------------------------------


WARP = 32
"""Lanes that scan together: an NVIDIA warp. AMD's wavefronts are of 64 on some chips."""


def _teach_reductions() -> None:
    """Reductions and scans of bfloat16 and float16 round after every step, as the combine function does.

    Prefix sums of float32 are taken as a card takes them: in order they rise with positive terms, and code has relied
    on it; a card's need not (SGLang 0.5.23, `safe_exp`).
    """
    stock.ScanOps.cumsum = lambda self, tensor: [
        self.to_tensor(_prefix_sums(tensor.handle.data, self.axis), tensor.dtype)
    ]
    stock.ReduceOps.sum = _sum
    stock.ReduceOps.generic_reduce = _reduce
    stock.ReduceOps.min_max = _min_max
    scan = stock.ScanOps.apply_impl

    def scan_narrow(self: Any, tensors: Any) -> Any:
        if not any(_is_narrow(x.dtype) for x in tensors):
            return scan(self, tensors)
        if self.reverse:
            tensors = [self.to_tensor(np.flip(x.handle.data, axis=self.axis), x.dtype) for x in tensors]
        results = self.generic_scan(tensors)
        if self.reverse:
            for x in results:
                x.handle.data = np.flip(x.handle.data, axis=self.axis)
        return results

    stock.ScanOps.apply_impl = scan_narrow


def _prefix_sums(data: Any, axis: int) -> Any:
    """Each lane adds what stands 1, 2, 4, 8 and 16 lanes before it in its warp, and then what earlier warps come to.

    One element a lane (Triton 3.6, `ScanOpToLLVM.cpp`); other layouts of a compiler give a lane several.
    """
    if data.dtype.kind != "f":
        return np.cumsum(data, axis=axis)
    sums, steps = np.moveaxis(data, axis, 0).copy(), [1, 2, 4, 8, 16]
    warps = [sums[start : start + WARP] for start in range(0, len(sums), WARP)]
    for lanes in warps:
        for step in steps:
            lanes[step:] = lanes[:-step] + lanes[step:]
    for before, lanes in itertools.pairwise(warps):
        lanes += before[-1]
    return np.moveaxis(sums, 0, axis)


def _is_narrow(dtype: Any) -> bool:
    return bool(dtype.is_floating() and dtype.primitive_bitwidth < 32)


def _sum(self: Any, tensor: Any) -> Any:
    data = tensor.handle.data
    if not _is_narrow(tensor.dtype):
        return self.to_tensor(np.sum(data, axis=self.axis, keepdims=self.keep_dims), tensor.dtype)
    axis = 0 if self.axis is None else self.axis
    halves = data.reshape(-1) if self.axis is None else data
    # A balanced tree; Triton's block shapes are powers of two. Which order a GPU takes depends on layouts.
    while halves.shape[axis] > 1:
        lower, upper = (stock.TensorHandle(x, tensor.dtype) for x in np.split(halves, 2, axis=axis))
        halves = stock.interpreter_builder.create_fadd(lower, upper).data
    shape = [1] * data.ndim if self.axis is None and self.keep_dims else halves.shape
    total = halves.reshape(shape) if self.keep_dims else halves.squeeze(axis)
    return self.to_tensor(total if total.ndim else total[()], tensor.dtype)


class _BranchesError(Exception):
    """A combine function asked for the truth of a block."""


_number_by_number = stock.ReduceOps.generic_reduce


def _reduce(self: Any, tensors: Any) -> list[Any]:
    """Any combine function over any number of tensors: neighbours first, blocks at a time, as a balanced tree.

    One that branches is asked number by number, as stock Triton does always. Of several tensors without an axis stock
    Triton flattens only the first.
    """
    ndim = tensors[0].handle.data.ndim
    axis = 0 if self.axis is None else self.axis % ndim
    if self.axis is None:
        tensors = [self.to_tensor(x.handle.data.reshape(-1), x.dtype) for x in tensors]
    try:
        with _blocks_without_truth():
            parts = _tree(self, tensors, axis)
    except _BranchesError:
        reduced = _number_by_number(stock.ReduceOps(axis, self.combine_fn, True), tensors)
        parts = [x.handle.data for x in reduced]
    return [_packed(self, x, t.dtype, axis, ndim) for x, t in zip(parts, tensors, strict=True)]


@contextmanager
def _blocks_without_truth() -> Iterator[None]:
    truth = tl.tensor.__bool__

    def strict(self: Any) -> bool:
        if self.handle.data.size != 1:
            raise _BranchesError
        return bool(truth(self))

    tl.tensor.__bool__ = strict
    try:
        yield
    finally:
        tl.tensor.__bool__ = truth


def _tree(self: Any, tensors: Any, axis: int) -> list[Any]:
    parts, dtypes = [x.handle.data for x in tensors], [x.dtype for x in tensors]
    while (length := parts[0].shape[axis]) > 1:
        pairs = [np.split(x, [length - length % 2], axis=axis) for x in parts]
        halves = [[_every_other(even, axis, start) for even, _ in pairs] for start in (0, 1)]
        operands = [self.to_tensor(x, dtype) for half in halves for x, dtype in zip(half, dtypes, strict=True)]
        combined = self.combine_fn.fn(*operands)
        results = combined if isinstance(combined, tuple) else (combined,)
        shape = halves[0][0].shape
        kept = [np.broadcast_to(stock.interpreter_semantic.to_tensor(x).handle.data, shape) for x in results]
        parts = [np.concatenate([x, odd], axis=axis) for x, (_, odd) in zip(kept, pairs, strict=True)]
    return parts


def _every_other(x: Any, axis: int, start: int) -> Any:
    return x[(slice(None),) * axis + (slice(start, None, 2),)]


def _packed(self: Any, x: Any, dtype: Any, axis: int, ndim: int) -> Any:
    if not self.keep_dims:
        x = x.squeeze(axis)
    elif self.axis is None:
        x = x.reshape([1] * ndim)
    return self.to_tensor(x if x.ndim else x[()], dtype)


def _min_max(self: Any, tensors: Any, val_reduce_op: Any, idx_reduce_op: Any = None) -> Any:
    source = tensors[0] if isinstance(tensors, tuple) else tensors
    numbers = widen(source.handle)
    where = {"axis": self.axis, "keepdims": self.keep_dims}
    # The same results as nanmax and nanmin, without a Python warning where all are NaN.
    reduce = {np.nanmax: np.fmax.reduce, np.nanmin: np.fmin.reduce}.get(val_reduce_op, val_reduce_op)
    value = narrow(np.asarray(reduce(numbers, **where)), source.dtype).data
    value_tensor = self.to_tensor(value if value.ndim else value[()], source.dtype)
    if idx_reduce_op is None:
        return value_tensor
    return value_tensor, self.to_tensor(idx_reduce_op(numbers, **where), tl.int32)
