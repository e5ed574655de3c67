"""Operators and short cuts of the overlay beside Triton's own; imported in a process with the interpreter installed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime import interpreter as stock

OPERATORS = {
    "add": ("__add__", lambda s, a, b: s.add(a, b, True)),
    "radd": ("__radd__", lambda s, a, b: s.add(b, a, True)),
    "sub": ("__sub__", lambda s, a, b: s.sub(a, b, True)),
    "rsub": ("__rsub__", lambda s, a, b: s.sub(b, a, True)),
    "mul": ("__mul__", lambda s, a, b: s.mul(a, b, True)),
    "rmul": ("__rmul__", lambda s, a, b: s.mul(b, a, True)),
    "truediv": ("__truediv__", lambda s, a, b: s.truediv(a, b)),
    "rtruediv": ("__rtruediv__", lambda s, a, b: s.truediv(b, a)),
    "lt": ("__lt__", lambda s, a, b: s.less_than(a, s.to_tensor(b))),
    "le": ("__le__", lambda s, a, b: s.less_equal(a, s.to_tensor(b))),
    "gt": ("__gt__", lambda s, a, b: s.greater_than(a, s.to_tensor(b))),
    "ge": ("__ge__", lambda s, a, b: s.greater_equal(a, s.to_tensor(b))),
    "eq": ("__eq__", lambda s, a, b: s.equal(a, s.to_tensor(b))),
    "ne": ("__ne__", lambda s, a, b: s.not_equal(a, s.to_tensor(b))),
    "and": ("__and__", lambda s, a, b: s.and_(a, b)),
    "or": ("__or__", lambda s, a, b: s.or_(a, b)),
    "xor": ("__xor__", lambda s, a, b: s.xor_(a, b)),
}
OPERAND_TYPES = ("int1", "int32", "uint32", "int64", "float16", "bfloat16", "float32")
SHAPES: tuple[tuple[int, ...], ...] = ((), (4,), (2, 4), (2, 1))
PLAIN = (0, 3, -2, 2**31, 2**40, True, 0.0, -0.0, 0.7, 1e300, 1e-40, float("nan"), float("inf"))


def _operands() -> list[Any]:
    """A tensor of every type and shape, a block and a scalar of pointers."""
    generator = np.random.default_rng(0)
    result = []
    for name in OPERAND_TYPES:
        dtype = getattr(tl, name)
        for shape in SHAPES:
            data = generator.choice([0, 1, 1.25, 3, 7, np.inf] if "float" in name else [0, 1, 3, 7], shape or (1,))
            source = stock.TensorHandle(data.astype(np.float64), tl.float64)
            handle = stock.interpreter_builder.cast_impl(source, dtype)
            result.append(tl.tensor(handle, tl.block_type(dtype, list(shape)) if shape else dtype))
    pointer = tl.pointer_type(tl.float32)
    for shape in ((), (4,)):
        handle = stock.TensorHandle(np.full(shape or (1,), 4096, dtype=np.uint64), pointer)
        result.append(tl.tensor(handle, tl.block_type(pointer, list(shape)) if shape else pointer))
    return result


def _outcome(call: Callable[..., Any], *args: Any) -> tuple[Any, ...]:
    try:
        with np.errstate(all="ignore"):
            result = call(*args)
    except Exception:
        return ("raises",)
    if isinstance(result, tuple):
        return tuple(map(_describe, result))
    return _describe(result)


def _describe(result: Any) -> tuple[Any, ...]:
    data = np.array(result.handle.data)
    shape = tuple(int(s) for s in result.type.shape) if result.type.is_block() else ()
    return str(result.dtype), shape, str(data.dtype), data.reshape(shape or (1,)).tobytes()


def operator_differences(which: str) -> tuple[int, list[str]]:
    """Compare a tensor operator with Triton's own checks on all pairs: the number compared, differences."""
    method, reference = OPERATORS[which]
    semantic = stock.TritonSemantic(stock.interpreter_builder)
    operands, differences, count = _operands(), [], 0
    for a in operands:
        for b in [*operands, *PLAIN]:
            fast = _outcome(getattr(tl.tensor, method), a, b)
            slow = _outcome(reference, semantic, a, b)
            count += fast != ("raises",)
            if fast != slow:
                differences.append(f"{a.type} {which} {b.type if isinstance(b, tl.tensor) else b}: {fast} {slow}")
    return count, differences


def semantic_differences() -> tuple[int, list[str]]:
    """Compare the short cuts inside the semantic with Triton's: casts, broadcasts and new dimensions."""
    fast, slow = stock.interpreter_semantic, stock.TritonSemantic(stock.interpreter_builder)
    operands = _operands()
    types = [getattr(tl, name) for name in (*OPERAND_TYPES, "int8", "uint8", "int16", "float64")]
    calls = [("cast", a, t) for a in operands for t in types]
    calls += [("broadcast_impl_value", a, b) for a in operands for b in operands]
    calls += [("expand_dims", a, axis) for a in operands for axis in range(len(a.shape) + 1)]
    calls += [("splat", a, shape) for a in operands for shape in ([], [4], [tl.constexpr(2), 4])]
    outcomes = [(c, _outcome(getattr(fast, c[0]), *c[1:]), _outcome(getattr(slow, c[0]), *c[1:])) for c in calls]
    return len(outcomes), [f"{c[0]} {c[1].type} {c[2]}: {f} {s}" for c, f, s in outcomes if f != s]
