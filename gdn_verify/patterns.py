"""What an error looks like: where it is, and what the numbers there are of the right ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gdn_verify.cases.contract import DType
from gdn_verify.oracles.compose import Array

ALIKE = 0.02
"""Numbers that are this near, relative to their norm, are taken for the same."""
FINE = 2.0**-5
"""An error below this share of a row is a loss of precision."""
NAMED = 6
"""Places that are named one by one; more are counted."""
FARTHEST = 4
"""How far away a place may be from which numbers are taken."""
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Place:
    """Wrong places along one axis, of so many: how they are called, and which they are."""

    name: str
    wrong: tuple[int, ...]
    size: int

    @property
    def everywhere(self) -> bool:
        """Whether no place is right."""
        return len(self.wrong) == self.size

    def __str__(self) -> str:
        first, last, count = self.wrong[0], self.wrong[-1], len(self.wrong)
        if self.everywhere:
            return f"every {self.name}" if self.size > 1 else f"the only {self.name}"
        if count == 1:
            return f"{self.name} {first}"
        if count == last - first + 1 and last == self.size - 1:
            return f"{self.name}s from {first} on"
        if count == last - first + 1:
            return f"{self.name}s {first} to {last}"
        if count <= NAMED:
            return f"{self.name}s {', '.join(map(str, self.wrong))}"
        return f"{count} of {self.size} {self.name}s, the first {first}"


def places(wrong: Mask, axes: Sequence[str]) -> list[Place]:
    """The wrong places along each axis of a mask that is not all false; `axes` are their names."""
    found = []
    for axis, name in enumerate(axes):
        others = tuple(other for other in range(wrong.ndim) if other != axis)
        index = np.flatnonzero(wrong.any(axis=others))
        found.append(Place(name, tuple(index.tolist()), wrong.shape[axis]))
    return found


def looks(got: Array, want: Array, wrong: Mask, axes: Sequence[str]) -> Iterator[str]:
    """What the wrong rows [..., n] of `got` look like beside `want`. `wrong` and `axes` have all axes but the last."""
    seen, right = got[wrong], want[wrong]
    finite = np.isfinite(seen)
    if not finite.all():
        yield f"{finite.size - finite.sum()} of {finite.size} numbers not finite"
        return
    if not seen.any():
        yield "zeros"
        return
    yield from _factor(seen, right)
    yield from _moved(got, want, wrong, axes)
    yield from _transposed(got, want, axes)
    error, size = (float(np.linalg.norm(x)) for x in (seen - right, right))
    if size and error / size < FINE:
        yield f"a loss of precision: relative error {error / size:.1e}"


def rounded_once(got: Array, want: Array, spare: Array) -> bool:
    """Whether rows [..., n] are the right ones rounded once to a 16-bit type; each may be off by so much more."""
    if not np.isfinite(got).all():
        return False
    error, size = np.abs(got - want), np.abs(want)
    with np.errstate(over="ignore"):
        narrow = got.astype(np.float32)
        half = narrow.astype(np.float16)
    held = {DType.BF16: (narrow.view(np.uint32) & 0xFFFF) == 0, DType.F16: narrow == half}
    return any(
        bool((fits & (error <= size * dtype.unit_roundoff + dtype.underflow + spare[..., None])).all())
        for dtype, fits in held.items()
    )


def _factor(seen: Array, right: Array) -> Iterator[str]:
    size = float((right * right).sum())
    factor = float((seen * right).sum()) / size if size else 0.0
    if not _alike(seen, factor * right) or abs(factor - 1.0) < ALIKE:
        return
    yield "the sign reversed" if abs(factor + 1.0) < ALIKE else f"{factor:.4g} times what is right"


def _moved(got: Array, want: Array, wrong: Mask, axes: Sequence[str]) -> Iterator[str]:
    """Numbers that belong to a place nearby: of the wrong rows those for which there is one."""
    for axis, name in enumerate(axes):
        for step in range(-FARTHEST, FARTHEST + 1):
            if step and abs(step) < want.shape[axis]:
                inside = np.zeros_like(wrong)
                kept = [slice(None)] * wrong.ndim
                kept[axis] = slice(max(0, -step), want.shape[axis] - max(0, step))
                inside[tuple(kept)] = True
                here = wrong & inside
                if here.any() and _alike(got[here], np.roll(want, -step, axis=axis)[here]):
                    yield f"what is right {abs(step)} {name}{'s' if abs(step) > 1 else ''} {_side(step)}"


def _side(step: int) -> str:
    return "further on" if step > 0 else "before"


def _transposed(got: Array, want: Array, axes: Sequence[str]) -> Iterator[str]:
    if axes[-1] != "V" or got.ndim < 2 or _alike(got, want):
        return
    V, K = want.shape[-2:]
    other = want.swapaxes(-1, -2).reshape(*want.shape[:-2], V, K)
    if _alike(got, other):
        yield "the state transposed"


def _alike(x: Array, y: Array) -> bool:
    size = float(np.linalg.norm(y))
    return bool(size > 0.0 and np.linalg.norm(x - y) <= ALIKE * size)
