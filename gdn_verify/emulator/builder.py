"""The interpreter's arithmetic: what each Triton operation computes on numpy arrays.

Triton's stock builder computes on bfloat16's bit patterns as though they were integers. Here every
operation either widens its operands, computes, and rounds once to nearest even, as NVIDIA's sm_90 and
AMD's gfx9 do; or it only moves bits; or it raises.

Importing this module imports triton; `interpreter.install` has to have prepared the process first.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import triton.language as tl
from triton._C.libtriton import ir
from triton.runtime import interpreter as stock

from gdn_verify.emulator import formats

Handle = stock.TensorHandle
BITWISE = (np.bitwise_and, np.bitwise_or, np.bitwise_xor)


def is_fp8(dtype: Any) -> bool:
    """Whether the elements of a Triton type are of one of the fp8 formats."""
    return bool(dtype.scalar.is_fp8())


def widen(handle: Any) -> np.ndarray:
    """The handle's numbers in a numpy float type: float32 for bfloat16, as they are otherwise."""
    if handle.dtype.scalar is tl.bfloat16:
        return formats.bf16_to_f32(handle.data)
    if is_fp8(handle.dtype):
        raise NotImplementedError(f"the interpreter does not compute in {handle.dtype}; use float16 or wider")
    data: np.ndarray = handle.data
    return data


def narrow(data: np.ndarray, dtype: Any, toward_zero: bool = False) -> Any:
    """A handle of the scalar type `dtype` from numbers of any numpy type, rounded once."""
    scalar = dtype.scalar
    if is_fp8(scalar):
        raise NotImplementedError(f"the interpreter does not round to {scalar}; use float16 or wider")
    if scalar is tl.bfloat16:
        # Integers and float64 must not be rounded to float32 first (sm_90: cvt.rn.bf16.s32, .f64).
        fits_float32 = data.dtype in (np.float16, np.float32)
        to_bf16 = formats.f32_to_bf16 if fits_float32 else formats.f64_to_bf16
        return Handle(to_bf16(data, toward_zero), scalar)
    if toward_zero and scalar is tl.float16:
        return Handle(formats.f32_to_f16(data, toward_zero=True), scalar)
    if toward_zero:
        raise NotImplementedError(f"rounding toward zero to {scalar}")
    return Handle(data.astype(stock._get_np_dtype(scalar)), scalar)


class RoundingBuilder(stock.InterpreterBuilder):
    """`InterpreterBuilder` with right bfloat16 and single roundings; loads and stores are inherited."""

    options = stock.InterpreterOptions(debug=True, sanitize_overflow=False)  # device asserts are real
    tf32 = False

    # -- constants ---------------------------------------------------------------------------------

    def get_bf16(self, value: float) -> Any:
        return Handle(formats.f64_to_bf16(np.array([value], dtype=np.float64)), tl.bfloat16)

    def get_all_ones_value(self, type: Any) -> Any:
        return Handle(np.array([-1]).astype(stock._get_np_dtype(type)), type.scalar)

    # -- casts -------------------------------------------------------------------------------------

    def cast_impl(self, src: Any, dst_type: Any) -> Any:
        return narrow(widen(src), dst_type)

    def create_fp_to_fp(self, src: Any, dst_type: Any, rounding_mode: Any) -> Any:
        return narrow(widen(src), dst_type, toward_zero=rounding_mode == ir.ROUNDING_MODE.RTZ)

    # -- arithmetic --------------------------------------------------------------------------------

    def binary_op(self, lhs: Any, rhs: Any, op: Callable[..., Any]) -> Any:
        dtype = lhs.dtype.scalar
        if op in BITWISE:
            return Handle(op(lhs.data, rhs.data), dtype)
        output = op(widen(lhs), widen(rhs)) if dtype.is_floating() else op(lhs.data, rhs.data)
        return Handle(output, tl.int1) if output.dtype == np.bool_ else narrow_like(output, dtype)

    def create_ashr(self, lhs: Any, rhs: Any) -> Any:
        # An arithmetic shift of the bits; the operands themselves keep their type.
        signed = stock._get_signed_np_dtype(lhs.data.dtype)
        shifted = np.right_shift(lhs.data.view(signed), rhs.data.astype(signed))
        return Handle(shifted.view(lhs.data.dtype), lhs.dtype.scalar)

    # Triton's default minimum and maximum return the operand that is a number; numpy's propagate NaN.
    # Hardware orders -0.0 below 0.0.
    def create_minnumf(self, lhs: Any, rhs: Any) -> Any:
        return self.binary_op(lhs, rhs, lambda a, b: _zero_apart(np.fmin(a, b), a, b, np.signbit(a)))

    def create_maxnumf(self, lhs: Any, rhs: Any) -> Any:
        return self.binary_op(lhs, rhs, lambda a, b: _zero_apart(np.fmax(a, b), a, b, ~np.signbit(a)))

    def create_minimumf(self, lhs: Any, rhs: Any) -> Any:
        return self.binary_op(lhs, rhs, lambda a, b: _zero_apart(np.minimum(a, b), a, b, np.signbit(a)))

    def create_maximumf(self, lhs: Any, rhs: Any) -> Any:
        return self.binary_op(lhs, rhs, lambda a, b: _zero_apart(np.maximum(a, b), a, b, ~np.signbit(a)))

    def create_clampf(self, arg: Any, lo: Any, hi: Any, propagate_nans: Any) -> Any:
        if propagate_nans == tl.PropagateNan.ALL:
            return self.create_minimumf(self.create_maximumf(arg, lo), hi)
        return self.create_minnumf(self.create_maxnumf(arg, lo), hi)

    # Ordered "not equal" is false for NaN, the unordered comparisons are true.
    def create_fcmpONE(self, lhs: Any, rhs: Any) -> Any:
        return self.binary_op(lhs, rhs, lambda a, b: (a < b) | (a > b))

    def create_fcmpULT(self, lhs: Any, rhs: Any) -> Any:
        return self.binary_op(lhs, rhs, lambda a, b: ~(a >= b))

    def create_fcmpUGT(self, lhs: Any, rhs: Any) -> Any:
        return self.binary_op(lhs, rhs, lambda a, b: ~(a <= b))

    def create_fcmpULE(self, lhs: Any, rhs: Any) -> Any:
        return self.binary_op(lhs, rhs, lambda a, b: ~(a > b))

    def create_fcmpUGE(self, lhs: Any, rhs: Any) -> Any:
        return self.binary_op(lhs, rhs, lambda a, b: ~(a < b))

    def create_fcmpUEQ(self, lhs: Any, rhs: Any) -> Any:
        return self.binary_op(lhs, rhs, lambda a, b: ~((a < b) | (a > b)))

    def create_fma(self, x: Any, y: Any, z: Any) -> Any:
        dtype = z.dtype.scalar
        if dtype is tl.bfloat16:
            return Handle(formats.f64_to_bf16(formats.fma_odd(widen(x), widen(y), widen(z))), dtype)
        if dtype.is_floating():
            return narrow_like(formats.fma(widen(x), widen(y), widen(z)), dtype)
        return super().create_fma(x, y, z)

    def unary_op(self, arg: Any, op: Callable[[np.ndarray], np.ndarray]) -> Any:
        return narrow_like(op(widen(arg)), arg.dtype.scalar)

    def create_rsqrt(self, arg: Any) -> Any:
        return self.unary_op(arg, lambda x: 1 / np.sqrt(x))

    def create_erf(self, arg: Any) -> Any:
        return self.unary_op(arg, lambda x: stock.np_erf_fp64(x).astype(x.dtype))

    def create_fabs(self, arg: Any) -> Any:
        if is_fp8(arg.dtype):
            widen(arg)
        bits = arg.data.view(f"uint{8 * arg.data.itemsize}")
        return Handle((bits & (np.iinfo(bits.dtype).max >> 1)).view(arg.data.dtype), arg.dtype.scalar)

    # -- matrices ----------------------------------------------------------------------------------

    def create_dot(self, a: Any, b: Any, d: Any, input_precision: Any, max_num_imprecise_acc: int) -> Any:
        """Exact products accumulated in float32 (int32, float64), then one rounding to d's type."""
        if not a.dtype.scalar.is_floating():
            product = np.matmul(a.data, b.data, dtype=d.data.dtype)
            return Handle(product + d.data, d.dtype.scalar)
        lhs, rhs = self._operand(a, input_precision), self._operand(b, input_precision)
        accumulator = np.float64 if lhs.dtype == np.float64 else np.float32
        output = np.matmul(lhs.astype(accumulator), rhs.astype(accumulator)) + widen(d).astype(accumulator)
        return narrow_like(output, d.dtype.scalar)

    def _operand(self, handle: Any, input_precision: Any) -> np.ndarray:
        if self.tf32 and handle.dtype.scalar is tl.float32 and input_precision == ir.INPUT_PRECISION.TF32:
            return formats.tf32(handle.data)
        return widen(handle)

    def create_dot_scaled(self, *operands: Any) -> Any:
        raise NotImplementedError("tl.dot_scaled is not emulated: its operands are fp8 and narrower")

    # -- memory ------------------------------------------------------------------------------------

    def create_tensor_pointer_load(self, ptr: Any, boundary_check: Any, padding: Any, *policy: Any) -> Any:
        if padding != ir.PADDING_OPTION.PAD_NAN or ptr.base.get_element_ty() is not tl.bfloat16:
            return super().create_tensor_pointer_load(ptr, boundary_check, padding, *policy)
        pointers, mask = ptr.materialize_pointers(boundary_check)
        return self.create_masked_load(pointers, Handle(mask, tl.int1), _nan_like(pointers), *policy)

    def create_atomic_rmw(self, rmw_op: Any, ptr: Any, val: Any, *rest: Any) -> Any:
        _refuse_narrow_atomic(val)
        return super().create_atomic_rmw(rmw_op, ptr, val, *rest)

    def create_atomic_cas(self, ptr: Any, cmp: Any, val: Any, sem: Any, scope: Any) -> Any:
        _refuse_narrow_atomic(val)
        return super().create_atomic_cas(ptr, cmp, val, sem, scope)

    # -- checks ------------------------------------------------------------------------------------

    def create_assert(self, condition: Any, message: str) -> None:
        if not np.all(condition.data):
            raise AssertionError(f"tl.device_assert in program {self.grid_idx}: {message}")

    def create_assume(self, condition: Any) -> None:
        if not np.all(condition.data):
            raise AssertionError(f"tl.assume does not hold in program {self.grid_idx}")


def narrow_like(data: np.ndarray, dtype: Any) -> Any:
    """`narrow` without a copy where the data has its type already."""
    if dtype is not tl.bfloat16 and data.dtype == stock._get_np_dtype(dtype):
        return Handle(data, dtype)
    return narrow(data, dtype)


def _zero_apart(chosen: np.ndarray, a: np.ndarray, b: np.ndarray, take_a: np.ndarray) -> np.ndarray:
    """`chosen`, but of two zeros the one that the sign decides for."""
    return np.where((a == 0) & (b == 0), np.where(take_a, a, b), chosen)


def _nan_like(pointers: Any) -> Any:
    return Handle(np.full(pointers.data.shape, 0x7FC0, dtype=np.uint16), tl.bfloat16)


def _refuse_narrow_atomic(val: Any) -> None:
    # The native atomics see bfloat16 as an integer, and a load and a store in their place would hide
    # from a memory checker that the access is atomic.
    if val.dtype.scalar is tl.bfloat16 or is_fp8(val.dtype):
        raise NotImplementedError(f"atomics on {val.dtype} are not emulated")
