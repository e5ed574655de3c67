"""The interpreter's builder under a memory checker: memory operations go by it first.

A store may wait for loads without a barrier: if its address, mask or value is made of a number that a whole block was
reduced to, it cannot come before the loads that the reduction took in. So such a number carries the count of accesses
made before it (`AFTER`), through arithmetic on it and into pointers. Which loads went in is not followed: all that were
made before are taken to have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol
from unittest.mock import patch

import numpy as np
import triton.language as tl
from numpy.typing import NDArray
from triton._C.libtriton import ir
from triton.runtime import interpreter as stock

from gdn_verify.emulator.builder import Handle, RoundingBuilder
from gdn_verify.emulator.order import Order

AFTER = "after"
ACQUIRES = (ir.MEM_SEMANTIC.ACQUIRE, ir.MEM_SEMANTIC.ACQUIRE_RELEASE)
RELEASES = (ir.MEM_SEMANTIC.RELEASE, ir.MEM_SEMANTIC.ACQUIRE_RELEASE)
Pointers = NDArray[np.uint64]
Mask = NDArray[np.bool_]


class Checks(Protocol):
    """What the builder asks before it touches memory: for addresses in memory, and the lanes to be followed."""

    order: Order

    def load(self, pointers: Pointers, mask: Mask, size: int, volatile: bool) -> tuple[Pointers, Mask]: ...

    def store(self, pointers: Pointers, mask: Mask, size: int, after: int) -> tuple[Pointers, Mask]: ...

    def atomic(
        self, pointers: Pointers, mask: Mask, size: int, acquire: bool, release: bool
    ) -> tuple[Pointers, Mask]: ...


class CheckedBuilder(RoundingBuilder):
    """`RoundingBuilder` whose memory operations are checked."""

    checks: Checks

    # -- memory ------------------------------------------------------------------------------------

    def create_masked_load(
        self, ptrs: Any, mask: Any, other: Any, cache_modifier: Any, eviction_policy: Any, is_volatile: Any
    ) -> Any:
        pointers, lanes = self.checks.load(ptrs.data, mask.data, _size(ptrs), bool(is_volatile))
        return super().create_masked_load(
            Handle(pointers, ptrs.dtype), Handle(lanes, tl.int1), other, cache_modifier, eviction_policy, is_volatile
        )

    def create_masked_store(self, ptrs: Any, value: Any, mask: Any, cache_modifier: Any, eviction_policy: Any) -> Any:
        after = max(handle.attr.get(AFTER, 0) for handle in (ptrs, value, mask))
        pointers, lanes = self.checks.store(ptrs.data, mask.data, _size(ptrs), after)
        return super().create_masked_store(
            Handle(pointers, ptrs.dtype), value, Handle(lanes, tl.int1), cache_modifier, eviction_policy
        )

    def create_atomic_rmw(self, rmw_op: Any, ptr: Any, val: Any, mask: Any, sem: Any, scope: Any) -> Any:
        pointers, lanes = self.checks.atomic(ptr.data, mask.data, _size(ptr), sem in ACQUIRES, sem in RELEASES)
        return super().create_atomic_rmw(rmw_op, Handle(pointers, ptr.dtype), val, Handle(lanes, tl.int1), sem, scope)

    def create_atomic_cas(self, ptr: Any, cmp: Any, val: Any, sem: Any, scope: Any) -> Any:
        everywhere = np.ones(ptr.data.shape, np.bool_)
        pointers, lanes = self.checks.atomic(ptr.data, everywhere, _size(ptr), sem in ACQUIRES, sem in RELEASES)
        if not lanes.all():  # it takes no mask: what must not be touched is led elsewhere
            elsewhere = np.zeros(1, np.uint64)
            pointers = np.where(lanes, pointers, np.uint64(elsewhere.ctypes.data))
        return super().create_atomic_cas(Handle(pointers, ptr.dtype), cmp, val, sem, scope)

    def create_barrier(self) -> None:
        self.checks.order.barrier()

    # -- what a number that was reduced to goes into -----------------------------------------------

    def binary_op(self, lhs: Any, rhs: Any, op: Callable[..., Any]) -> Any:
        return _carry(super().binary_op(lhs, rhs, op), lhs, rhs)

    def ternary_op(self, lhs: Any, rhs: Any, other: Any, op: Callable[..., Any]) -> Any:
        return _carry(super().ternary_op(lhs, rhs, other, op), lhs, rhs, other)

    def cast_impl(self, src: Any, dst_type: Any) -> Any:
        return _carry(super().cast_impl(src, dst_type), src)

    def create_addptr(self, ptr: Any, offset: Any) -> Any:
        return _carry(super().create_addptr(ptr, offset), ptr, offset)

    def create_splat(self, ret_ty: Any, arg: Any) -> Any:
        return _carry(super().create_splat(ret_ty, arg), arg)

    def create_broadcast(self, arg: Any, shape: Any) -> Any:
        return _carry(super().create_broadcast(arg, shape), arg)

    def create_expand_dims(self, arg: Any, axis: Any) -> Any:
        return _carry(super().create_expand_dims(arg, axis), arg)


def _size(pointers: Any) -> int:
    return max(1, pointers.get_element_ty().primitive_bitwidth // 8)


def _carry(made: Any, *parts: Any) -> Any:
    for part in parts:
        if part.attr and AFTER in part.attr:
            made.attr[AFTER] = max(made.attr.get(AFTER, 0), part.attr[AFTER])
    return made


@contextmanager
def checking(checks: Checks) -> Iterator[None]:
    """Within the block every memory operation asks `checks` first."""
    builder, apply = stock.interpreter_builder, stock.ReduceOps.apply

    def reduce(self: Any, source: Any) -> Any:
        result = apply(self, source)
        for each in result if isinstance(result, tuple) else (result,):
            if each.handle.data.size == 1:
                each.handle.attr[AFTER] = checks.order.next
        return result

    CheckedBuilder.checks = checks
    builder.__class__ = CheckedBuilder
    try:
        with patch.object(stock.ReduceOps, "apply", reduce):
            yield
    finally:
        builder.__class__ = RoundingBuilder
