"""The interpreter's builder under a memory checker: memory operations go by it first.

A store may wait for loads without a barrier: if its address, mask or value is made of a number that a whole block was
reduced to, it cannot come before the loads that the reduction took in. So such a number carries the count of accesses
made before it (`AFTER`), through arithmetic on it and into pointers. Which loads went in is not followed: all that were
made before are taken to have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Protocol
from unittest.mock import patch

import numpy as np
import triton.language as tl
from numpy.typing import NDArray
from triton._C.libtriton import ir
from triton.runtime import interpreter as stock

from gdn_verify.emulator import undefined
from gdn_verify.emulator.builder import Handle, RoundingBuilder
from gdn_verify.emulator.order import Order
from gdn_verify.emulator.undefined import Undefined

AFTER = "after"
ACQUIRES = (ir.MEM_SEMANTIC.ACQUIRE, ir.MEM_SEMANTIC.ACQUIRE_RELEASE)
RELEASES = (ir.MEM_SEMANTIC.RELEASE, ir.MEM_SEMANTIC.ACQUIRE_RELEASE)
Pointers = NDArray[np.uint64]
Mask = NDArray[np.bool_]


class Checks(Protocol):
    """What the builder asks before it touches memory: for addresses in memory, and the lanes to be followed."""

    order: Order

    def load(
        self, pointers: Pointers, mask: Mask, size: int, volatile: bool
    ) -> tuple[Pointers, Mask, Undefined | None]: ...

    def store(
        self, pointers: Pointers, mask: Mask, size: int, after: int, value: Undefined | None
    ) -> tuple[Pointers, Mask]: ...

    def atomic(
        self, pointers: Pointers, mask: Mask, size: int, acquire: bool, release: bool
    ) -> tuple[Pointers, Mask]: ...

    def use(self, value: Undefined, how: str) -> None: ...


class CheckedBuilder(RoundingBuilder):
    """`RoundingBuilder` whose memory operations are checked, and whose other ones hand on what values carry."""

    checks: Checks

    # -- memory ------------------------------------------------------------------------------------

    def create_masked_load(self, ptrs: Any, mask: Any, other: Any, *policy: Any) -> Any:
        mask = _as_handle(mask)
        self._use(ptrs, mask)
        pointers, lanes, unknown = self.checks.load(ptrs.data, mask.data, _size(ptrs), bool(policy[-1]))
        made = super().create_masked_load(Handle(pointers, ptrs.dtype), Handle(lanes, tl.int1), other, *policy)
        if unknown is not None:
            undefined.mark(made, unknown.mask, unknown.origin)
        return made

    def create_masked_store(self, ptrs: Any, value: Any, mask: Any, *policy: Any) -> Any:
        mask = _as_handle(mask)
        self._use(ptrs, mask)
        after = max(handle.attr.get(AFTER, 0) for handle in (ptrs, value, mask))
        pointers, lanes = self.checks.store(ptrs.data, mask.data, _size(ptrs), after, undefined.of(value))
        return super().create_masked_store(Handle(pointers, ptrs.dtype), value, Handle(lanes, tl.int1), *policy)

    def create_atomic_rmw(self, rmw_op: Any, ptr: Any, val: Any, mask: Any, sem: Any, scope: Any) -> Any:
        self._use(ptr, mask, val)
        pointers, lanes = self.checks.atomic(ptr.data, mask.data, _size(ptr), sem in ACQUIRES, sem in RELEASES)
        return super().create_atomic_rmw(rmw_op, Handle(pointers, ptr.dtype), val, Handle(lanes, tl.int1), sem, scope)

    def create_atomic_cas(self, ptr: Any, cmp: Any, val: Any, sem: Any, scope: Any) -> Any:
        self._use(ptr, cmp, val)
        everywhere = np.ones(ptr.data.shape, np.bool_)
        pointers, lanes = self.checks.atomic(ptr.data, everywhere, _size(ptr), sem in ACQUIRES, sem in RELEASES)
        if not lanes.all():  # it takes no mask: what must not be touched is led elsewhere
            elsewhere = np.zeros(1, np.uint64)
            pointers = np.where(lanes, pointers, np.uint64(elsewhere.ctypes.data))
        return super().create_atomic_cas(Handle(pointers, ptr.dtype), cmp, val, sem, scope)

    def create_barrier(self) -> None:
        self.checks.order.barrier()

    def _use(self, *handles: Any) -> None:
        """Addresses, masks, and what goes into an atomic: from here on an undefined value does harm."""
        for handle in handles:
            if handle.attr and (found := undefined.of(handle)) is not None:
                self.checks.use(found, "decides what is accessed")

    # -- what values carry ---------------------------------------------------------------------------

    def binary_op(self, lhs: Any, rhs: Any, op: Callable[..., Any]) -> Any:
        made = super().binary_op(lhs, rhs, op)
        return _carry(made, lhs, rhs) if lhs.attr or rhs.attr else made

    def ternary_op(self, lhs: Any, rhs: Any, other: Any, op: Callable[..., Any]) -> Any:
        made = super().ternary_op(lhs, rhs, other, op)
        if op is not np.where:
            return _carry(made, lhs, rhs, other)
        undefined.select(made, lhs, rhs, other)
        return _wait(made, lhs, rhs, other)

    def create_split(self, val: Any) -> Any:
        made = super().create_split(val)
        undefined.move(made, val, super().create_split)
        return made

    def create_splat(self, ret_ty: Any, arg: Any) -> Any:
        made = super().create_splat(ret_ty, arg)
        return _carry(made, arg) if arg.attr else made

    def create_join(self, lhs: Any, rhs: Any) -> Any:
        made = super().create_join(lhs, rhs)
        for part, nothing in ((lhs, rhs), (rhs, lhs)):
            zeros = Handle(np.zeros(nothing.data.shape, np.bool_), tl.int1)
            pair = super().create_join
            join = partial(pair, rhs=zeros) if part is lhs else partial(pair, zeros)
            undefined.move(made, part, join)
        return made

    def create_dot(self, a: Any, b: Any, d: Any, *rest: Any) -> Any:
        made = super().create_dot(a, b, d, *rest)
        undefined.multiply(made, a, b, d)
        return made


def _elementwise(name: str) -> Callable[..., Any]:
    plain = getattr(RoundingBuilder, name)

    def method(self: Any, *args: Any) -> Any:
        made = plain(self, *args)
        handles = [each for each in args if type(each) is Handle and each.attr]
        return _carry(made, *handles) if handles else made

    return method


def _moving(name: str) -> Callable[..., Any]:
    plain = getattr(RoundingBuilder, name)

    def method(self: Any, source: Any, *args: Any) -> Any:
        made = plain(self, source, *args)
        if source.attr:
            undefined.move(made, source, lambda mask: plain(self, mask, *args))
            _wait(made, source)
        return made

    return method


for _name in ("unary_op", "cast_impl", "create_fp_to_fp", "create_fma", "create_fabs", "create_ashr", "create_idiv",
              "create_addptr", "create_bitcast"):  # fmt: skip
    setattr(CheckedBuilder, _name, _elementwise(_name))
for _name in ("create_broadcast", "create_expand_dims", "create_reshape", "create_trans", "create_gather"):
    setattr(CheckedBuilder, _name, _moving(_name))


def _as_handle(mask: Any) -> Any:
    """A mask as others are: what checks the bounds of a block pointer hands on an array."""
    return Handle(mask, tl.int1) if isinstance(mask, np.ndarray) else mask


def _size(pointers: Any) -> int:
    return max(1, pointers.get_element_ty().primitive_bitwidth // 8)


def _carry(made: Any, *parts: Any) -> Any:
    undefined.spread(made, *parts)
    return _wait(made, *parts)


def _wait(made: Any, *parts: Any) -> Any:
    """A value waits for what its parts wait for."""
    for part in parts:
        if AFTER in part.attr:
            made.attr[AFTER] = max(made.attr.get(AFTER, 0), part.attr[AFTER])
    return made


@contextmanager
def checking(checks: Checks) -> Iterator[None]:
    """Within the block every memory operation asks `checks` first."""
    builder = stock.interpreter_builder
    CheckedBuilder.checks = checks
    builder.__class__ = CheckedBuilder
    try:
        with ExitStack() as stack:
            for owner in (stock.ReduceOps, stock.ScanOps):
                stack.enter_context(patch.object(owner, "apply", _followed(owner.apply, checks)))
            stack.enter_context(patch.object(tl.tensor, "__bool__", _branching(tl.tensor.__bool__, checks)))
            yield
    finally:
        builder.__class__ = RoundingBuilder


def _followed(apply: Callable[..., Any], checks: Checks) -> Callable[..., Any]:
    def follow(self: Any, source: Any) -> Any:
        result = apply(self, source)
        for each in result if isinstance(result, tuple) else (result,):
            if each.handle.data.size == 1:
                each.handle.attr[AFTER] = checks.order.next
        undefined.reduce(result, source, self.axis)
        return result

    return follow


def _branching(truth: Callable[..., bool], checks: Checks) -> Callable[..., bool]:
    def branch(self: Any) -> bool:
        if self.handle.attr:
            checks.order.wait(self.handle.attr.get(AFTER, 0))
            if (found := undefined.of(self.handle)) is not None:
                checks.use(found, "decides a branch")
        return truth(self)

    return branch
