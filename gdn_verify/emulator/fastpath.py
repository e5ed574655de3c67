"""Short cuts through Triton's semantic checks for the operations kernels spend their time in.

A short cut is taken only where the checks could not change anything: both operands have the same type,
or one is a plain number that this type holds. Everything else goes the long way round.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import triton.language as tl
from triton.language.semantic import TritonSemantic
from triton.runtime import interpreter as stock

Operator = Callable[[Any, Any], Any]

ARITHMETIC: dict[str, Operator] = {"add": np.add, "sub": np.subtract, "mul": np.multiply}
COMPARISON: dict[str, Operator] = {
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
}
BITWISE: dict[str, Operator] = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}
_NUMBERS = (tl.int32, tl.int64, tl.float32, tl.float64, tl.float16, tl.bfloat16)
_FLOATS = (tl.float32, tl.float64)
_INTEGERS = {tl.int32: range(-(2**31), 2**31), tl.int64: range(-(2**63), 2**63)}


def install() -> None:
    """Replace the operators of `tl.tensor`, and make building a tensor cheap."""
    _look_types_up()
    for name, op in ARITHMETIC.items():
        _replace(f"__{name}__", op, _NUMBERS)
        _replace(f"__r{name}__", op, _NUMBERS, reflected=True)
    for name, op in COMPARISON.items():
        _replace(f"__{name}__", op, _NUMBERS, boolean=True)
    for name, op in BITWISE.items():
        _replace(f"__{name}__", op, (tl.int1, tl.int32, tl.int64))
    _replace("__truediv__", np.divide, _FLOATS)
    _replace("__rtruediv__", np.divide, _FLOATS, reflected=True)
    _add_pointers()
    tl.pointer_type.__hash__ = lambda self: hash(self.name)  # it defines __eq__ only; the caches need both
    _build_tensors_fast()
    stock.interpreter_semantic.__class__ = FastSemantic
    tl.dtype.to_ir = tl.pointer_type.to_ir = tl.block_type.to_ir = lambda self, builder: self
    tl.block_type.with_element_ty = lambda self, scalar: block_type(scalar, self.shape)


def _replace(name: str, op: Operator, dtypes: tuple[Any, ...], boolean: bool = False, reflected: bool = False) -> None:
    slow = getattr(tl.tensor, name)
    allowed = frozenset(map(id, dtypes))
    tensor, builder = tl.tensor, stock.interpreter_builder

    def fast(self: Any, other: Any) -> Any:
        dtype = self.dtype
        if id(dtype) not in allowed:
            return slow(self, other)
        if type(other) is tensor:
            if other.dtype is not dtype:
                return slow(self, other)
            handle, other_type = other.handle, other.type
        else:
            handle, other_type = constant(other, dtype), dtype
            if handle is None:
                return slow(self, other)
        kind = self.type if other_type is self.type else broadcast_type(self.type, other_type)
        operands = (handle, self.handle) if reflected else (self.handle, handle)
        result = builder.binary_op(*operands, op)
        return tensor(result, boolean_like(kind) if boolean else kind)

    # The long way round is called by keyword from Triton's own code.
    def method(self: Any, other: Any, _semantic: Any = None) -> Any:
        return fast(self, other)

    method.__name__ = name
    setattr(tl.tensor, name, method)


def _add_pointers() -> None:
    number_add = tl.tensor.__add__
    builder = stock.interpreter_builder

    def add(self: Any, other: Any, _semantic: Any = None) -> Any:
        if not self.dtype.is_ptr():
            return number_add(self, other)
        if type(other) is tl.tensor and other.dtype in _INTEGERS:
            kind = broadcast_type(self.type, other.type)
            return tl.tensor(builder.create_addptr(self.handle, other.handle), kind)
        offset = constant(other, tl.int32)
        if offset is None:
            return number_add(self, other)
        return tl.tensor(builder.create_addptr(self.handle, offset), self.type)

    tl.tensor.__add__ = add


def constant(value: Any, dtype: Any) -> Any:
    """A handle for a plain number that `dtype` holds, or None where the checks have to decide."""
    if type(value) is int and dtype in _INTEGERS:
        return _constant(value, dtype) if value in _INTEGERS[dtype] else None
    if dtype is tl.float32 and (type(value) is int or (type(value) is float and _is_float32(value))):
        return _constant(value, dtype)
    return None


def _is_float32(value: float) -> bool:
    """Whether Triton types this literal as float32; a tiny or huge one is float64 to it."""
    return not math.isfinite(value) or value == 0 or 2**-126 <= abs(value) <= (2 - 2**-23) * 2**127


@lru_cache(maxsize=4096, typed=True)
def _constant(value: int | float, dtype: Any) -> Any:
    data = np.array([value if value != 0 else 0], dtype=stock._get_np_dtype(dtype))  # Triton drops -0.0 too
    data.setflags(write=False)
    return stock.TensorHandle(data, dtype)


@lru_cache(maxsize=4096)
def _block_type(scalar: Any, shape: tuple[int, ...]) -> Any:
    return tl.block_type(scalar, list(shape))  # Triton's own tuple type hides the builtin one here


def block_type(scalar: Any, shape: Any) -> Any:
    """The block type of these elements; one object for equal arguments."""
    return _block_type(scalar.scalar, tuple(shape))


def broadcast_type(left: Any, right: Any) -> Any:
    """The type of two operands' result, with the left one's elements.

    Raises ValueError where the shapes do not broadcast.
    """
    scalar = left.scalar
    shapes = [x.shape for x in (left, right) if type(x) is tl.block_type]
    if not shapes:
        return scalar
    return block_type(scalar, shapes[0] if len(shapes) == 1 else _broadcast_shape(*map(tuple, shapes)))


@lru_cache(maxsize=4096)
def _broadcast_shape(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[int, ...]:
    return np.broadcast_shapes(left, right)


def boolean_like(kind: Any) -> Any:
    """The type of a comparison whose operands' common type is `kind`."""
    return block_type(tl.int1, kind.shape) if type(kind) is tl.block_type else tl.int1


def _build_tensors_fast() -> None:
    """Tensors of one type share their `shape` and `numel`, which are expensive to build."""
    build = tl.tensor.__init__

    def shape_of(type: Any) -> tuple[Any, Any]:
        example = object.__new__(tl.tensor)
        build(example, None, type)
        return example.shape, example.numel

    def init(self: Any, handle: Any, type: Any) -> None:
        self.handle = handle
        self.type = type
        self.dtype = type.scalar
        try:
            self.shape, self.numel = type._shape_and_numel
        except AttributeError:
            self.shape, self.numel = type._shape_and_numel = shape_of(type)

    tl.tensor.__init__ = init


def _look_types_up() -> None:
    """numpy's type and the largest element size of a Triton type, by name instead of by search."""
    find = stock._get_np_dtype
    numpy_types: dict[str, np.dtype] = {}
    sizes: dict[str, int] = {}

    def numpy_type(dtype: Any) -> np.dtype:
        try:
            return numpy_types[dtype.name]
        except KeyError:
            return numpy_types.setdefault(dtype.name, find(dtype))

    def size_fits(data: np.ndarray, dtype: Any) -> bool:
        try:
            return data.itemsize <= sizes[dtype.name]
        except KeyError:
            largest = 8 if dtype.is_ptr() else max(dtype.primitive_bitwidth // 8, 1)
            return data.itemsize <= sizes.setdefault(dtype.name, largest)

    stock._get_np_dtype = numpy_type
    stock._validate_np_data_size = size_fits


class FastSemantic(TritonSemantic):
    """Triton's type checks, with the answers that need no checking given at once."""

    _plain_casts = frozenset(
        {
            ("fp32", "bf16"),
            ("fp32", "fp16"),
            ("bf16", "fp32"),
            ("fp16", "fp32"),
            ("int32", "int64"),
            ("int32", "fp32"),
        }
    )

    def cast(self, input: Any, dst_ty: Any, fp_downcast_rounding: str | None = None) -> Any:
        scalar = dst_ty.scalar
        if scalar is input.dtype:
            return input
        if fp_downcast_rounding is not None or (input.dtype.name, scalar.name) not in self._plain_casts:
            return super().cast(input, dst_ty, fp_downcast_rounding)
        kind = block_type(scalar, input.type.shape) if type(input.type) is tl.block_type else scalar
        return tl.tensor(self.builder.cast_impl(input.handle, scalar), kind)

    def broadcast_impl_value(self, lhs: Any, rhs: Any) -> tuple[Any, Any]:
        left_block, right_block = (type(x.type) is tl.block_type for x in (lhs, rhs))
        if not left_block and not right_block:
            return lhs, rhs
        if not left_block:
            return self.splat(lhs, rhs.type.shape), rhs
        if not right_block:
            return lhs, self.splat(rhs, lhs.type.shape)
        if tuple(lhs.type.shape) == tuple(rhs.type.shape):
            return lhs, rhs
        return super().broadcast_impl_value(lhs, rhs)

    def splat(self, value: Any, shape: Any) -> Any:
        if len(shape) == 0 or value.type.is_block():
            return super().splat(value, shape)
        kind = block_type(value.dtype, (tl.core._unwrap_if_constexpr(n) for n in shape))
        return tl.tensor(self.builder.create_splat(kind, value.handle), kind)

    def expand_dims(self, input: Any, axis: int) -> Any:
        if not input.type.is_block() or input.handle.attr:  # what an element carries moves with it
            return super().expand_dims(input, axis)
        shape = list(input.type.shape)
        shape.insert(axis, 1)
        data = input.handle.data.reshape(shape)
        return tl.tensor(stock.TensorHandle(data, input.dtype), block_type(input.dtype, shape))
