"""Values that were read where nothing was written, followed until they matter.

A kernel may read what it then drops: a padded row's inputs, or the state of a row that has none. So a load of memory
that holds nothing is not a finding by itself. Its lanes are marked in the handle's attributes, and arithmetic hands the
marks on, element by element: a selection drops those that it does not choose, a product of zero and such a value is
such a value. Where one decides an address, a mask or a branch, or is stored where a value must be, the load is found.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import triton.language as tl
from numpy.typing import NDArray

from gdn_verify.emulator.access import Access
from gdn_verify.emulator.builder import Handle

UNDEFINED = "undefined"
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Undefined:
    """The elements of a block that hold nothing that was written, and a load that they came from."""

    mask: Mask
    origin: Access


def of(handle: Any) -> Undefined | None:
    """What of a handle is undefined."""
    found: Undefined | None = handle.attr.get(UNDEFINED)
    return found


def mark(handle: Any, mask: Mask, origin: Access) -> None:
    """Mark elements of a new handle, if there are any."""
    if mask.any():
        handle.attr[UNDEFINED] = Undefined(np.broadcast_to(mask, handle.data.shape), origin)


def spread(made: Any, *parts: Any) -> None:
    """Of an elementwise operation: an element is undefined if it is in one of its operands."""
    found = [each for part in parts if (each := of(part)) is not None]
    if found:
        mask = np.zeros(made.data.shape, np.bool_)
        for each in found:
            mask |= each.mask
        mark(made, mask, found[0].origin)


def select(made: Any, condition: Any, left: Any, right: Any) -> None:
    """Of a choice: the element chosen, and the choice itself."""
    origin = next((each.origin for part in (condition, left, right) if (each := of(part)) is not None), None)
    if origin is not None:
        chosen = np.where(condition.data, _mask(left), _mask(right))
        mark(made, chosen | _mask(condition), origin)


def move(made: Any, source: Any, again: Callable[[Any], Any]) -> None:
    """Of an operation that only moves elements: `again` moves those of another handle likewise."""
    found = of(source)
    if found is not None:
        moved = again(Handle(found.mask, tl.int1))
        for each, mask in zip(_several(made), _several(moved), strict=True):
            mark(each, mask.data.astype(np.bool_), found.origin)


def multiply(made: Any, a: Any, b: Any, d: Any) -> None:
    """Of a product of matrices: what a row of `a` or a column of `b` holds of it goes everywhere."""
    origin = next((each.origin for part in (a, b, d) if (each := of(part)) is not None), None)
    if origin is not None:
        rows = _mask(a).any(-1, keepdims=True)
        columns = _mask(b).any(-2, keepdims=True)
        mark(made, rows | columns | _mask(d), origin)


def reduce(results: Any, sources: Any, axis: int | None) -> None:
    """Of a reduction or a scan: along the axis, one is enough; over all results of several tensors."""
    found = [each for source in _several(sources) if (each := of(source.handle)) is not None]
    if not found:
        return
    mask = np.logical_or.reduce([each.mask for each in found])
    for result in _several(results):
        data = result.handle.data
        along = mask.any(axis=axis, keepdims=data.ndim == mask.ndim)
        mark(result.handle, along.reshape(data.shape) if along.size == data.size else along, found[0].origin)


def _mask(handle: Any) -> Mask:
    found = of(handle)
    return np.zeros(handle.data.shape, np.bool_) if found is None else found.mask


def _several(what: Any) -> tuple[Any, ...]:
    return tuple(what) if isinstance(what, (tuple, list)) else (what,)
