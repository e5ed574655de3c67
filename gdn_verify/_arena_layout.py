"""How a buffer lies in the arena's memory: fill patterns, strided layouts, and buffers with guards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import torch
from torch.utils.dlpack import from_dlpack, to_dlpack

ALIGNMENT = 256
"""Bytes. Every view starts at a multiple of this plus its declared misalignment."""

CARRIERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Integer dtype of the same size, by bytes an element: bits are compared, never values."""


class Role(Enum):
    """What a launch may do to a buffer unless `Arena.violations` is told otherwise."""

    INPUT = "input"
    """Read-only."""
    OUTPUT = "output"
    """Starts as poison; only the elements declared writable may change."""
    STATE = "state"
    """A pool of slots; only the slots declared writable may change. Its guards hold one slot or more."""
    SCRATCH = "scratch"
    """Every element may change; its guards and holes may not."""


class Poison(Enum):
    """What outputs, scratch, free slots, holes and guards hold before a launch.

    A kernel can hide each of them (`max` and `tl.where` swallow a NaN, a zero factor swallows a finite
    value, a check `id < 0` swallows a negative index), so presentations rotate through all three.
    """

    NAN = "nan"
    """Floats: a quiet NaN whose payload no arithmetic produces. Integers and bools: bytes of 0x7B."""
    HUGE = "huge"
    """Floats: finite, near the type's maximum. Integers: far below zero."""
    PLAUSIBLE = "plausible"
    """Floats: 0.49, as if left by an earlier launch. Integers: 1; bools: true."""

    def bits(self, dtype: torch.dtype) -> int:
        """The bits of one poisoned element, as a value of the integer dtype of the same size.

        Raises ValueError for a dtype without a pattern.
        """
        if dtype not in _PATTERNS:
            known = ", ".join(str(d).removeprefix("torch.") for d in _PATTERNS)
            raise ValueError(f"dtype={dtype} has no poison; use one of {known}, or view the data as one")
        return _PATTERNS[dtype][self]


def _patterns(nan: int, huge: int, plausible: int) -> dict[Poison, int]:
    return {Poison.NAN: nan, Poison.HUGE: huge, Poison.PLAUSIBLE: plausible}


# Hardware makes the NaNs 0x7FC00000, 0xFFC00000 and 0x7FFFFFFF (and their bfloat16 and float16 kin), and
# hands on the payload of a NaN that it reads: these payloads come from nowhere but the arena.
_PATTERNS: dict[torch.dtype, dict[Poison, int]] = {
    torch.float16: _patterns(0x7E7B, 0x7B7B, 0x37DB),
    torch.bfloat16: _patterns(0x7FDB, 0x7F7B, 0x3EFB),
    torch.float32: _patterns(0x7FC07B7B, 0x7F7B7B7B, 0x3EFB7B7B),
    torch.float64: _patterns(0x7FF87B7B7B7B7B7B, 0x7FEF7B7B7B7B7B7B, 0x3FDF7B7B7B7B7B7B),
    torch.int16: _patterns(0x7B7B, -0x7B7B, 1),
    torch.int32: _patterns(0x7B7B7B7B, -0x7B7B7B7B, 1),
    torch.int64: _patterns(0x7B7B7B7B7B7B7B7B, -0x7B7B7B7B7B7B7B7B, 1),
    torch.int8: _patterns(0x7B, 0x85, 1),
    torch.uint8: _patterns(0x7B, 0xFF, 1),
    torch.bool: _patterns(0x7B, 0xFF, 1),
}


@dataclass(frozen=True)
class Layout:
    """Shape, strides (elements) and dtype of one view, and what follows from them. Build it with `Layout.of`."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype
    numel: int
    span: int
    """Bytes from the first element to the end of the last one and of the hole behind it."""
    slot_bytes: int | None
    """Bytes from one index of axis 0 to the next, or None where axis 0 is not the outermost."""

    @classmethod
    def of(
        cls,
        shape: Sequence[int],
        dtype: torch.dtype,
        strides: Sequence[int] | None = None,
        slot_stride: int | None = None,
    ) -> Layout:
        """A checked layout: row-major unless `strides` says otherwise; `slot_stride` replaces axis 0's.

        Raises ValueError where two elements would share memory or two axes would interleave.
        """
        shape = tuple(shape)
        strides = _row_major(shape) if strides is None else tuple(strides)
        if slot_stride is not None:
            if not shape:
                raise ValueError(f"slot_stride={slot_stride} needs a leading axis, but shape=()")
            strides = (slot_stride, *strides[1:])
        reach = _reach(shape, strides)
        # The hole behind the last slot belongs to the span like the holes behind the others.
        slots = shape[0] * strides[0] if shape else 0
        numel = math.prod(shape)
        span = max(reach, slots) * dtype.itemsize if numel else 0
        slot_bytes = strides[0] * dtype.itemsize if numel and slots >= reach else None
        return cls(shape, strides, dtype, numel, span, slot_bytes)

    def offset(self, index: Sequence[int]) -> int:
        """Bytes from the start of the view to the element at `index`."""
        return sum(i * s for i, s in zip(index, self.strides, strict=True)) * self.dtype.itemsize

    def over(self, memory: torch.Tensor, start: int) -> torch.Tensor:
        """The view at byte `start` of `memory` (uint8), as integers of the element's size."""
        cells = memory.view(CARRIERS[self.dtype.itemsize])
        first = cells.storage_offset() + start // self.dtype.itemsize
        return torch.as_strided(cells, self.shape, self.strides, first)


def _row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides = [1] * len(shape)
    for axis in range(len(shape) - 1, 0, -1):
        strides[axis - 1] = strides[axis] * max(shape[axis], 1)
    return tuple(strides)


def _reach(shape: tuple[int, ...], strides: tuple[int, ...]) -> int:
    """Elements from the first to the last, both included, in memory; checks that the axes nest."""
    if len(shape) != len(strides) or min(shape + strides, default=0) < 0:
        raise ValueError(f"shape={shape} and strides={strides}: give one stride an axis, none negative")
    reach = 1
    for stride, size in sorted(zip(strides, shape, strict=True)):
        if size > 1 and stride < reach:
            raise ValueError(
                f"strides={strides} let elements of shape={shape} overlap or interleave: stride {stride} is less "
                f"than the {reach} elements that the inner axes span; place a materialised copy"
            )
        reach += stride * max(size - 1, 0)
    return reach


@dataclass(frozen=True)
class Buffer:
    """One placed tensor inside a slab: bytes [begin, end) are its own, the view starts at `start`."""

    name: str
    role: Role
    layout: Layout
    begin: int
    start: int
    end: int
    tensor: torch.Tensor


class Slab:
    """One allocation that buffers are laid into, front to back.

    `memory` and `sealed` are uint8, one cell a byte; `sealed` covers what was placed before the seal. Sweeps go
    by 8-byte words: an eighth of the elements, and torch runs up to 256 KiB of them on one thread. Waking its
    threads for so little costs ten times the work when the cores are busy.
    """

    def __init__(self, device: torch.device, nbytes: int) -> None:
        raw = torch.empty(nbytes + ALIGNMENT, dtype=torch.uint8, device=device)
        self.memory = raw[-raw.data_ptr() % ALIGNMENT :][:nbytes]
        self.buffers: list[Buffer] = []
        self.sealed: torch.Tensor | None = None

    @property
    def used(self) -> int:
        return self.buffers[-1].end if self.buffers else 0

    @property
    def free(self) -> int:
        return self.memory.numel() - self.used

    def add(self, name: str, role: Role, layout: Layout, guard: int, misalign: int, fill: int) -> Buffer:
        """Append a buffer; all of its bytes, guards and holes included, hold `fill`."""
        begin = self.used
        start = round_up(begin + guard) + misalign
        end = round_up(start + layout.span + guard)
        own = self.memory[begin:end]
        own.view(CARRIERS[layout.dtype.itemsize]).fill_(fill)
        tensor = _tensor_over(self.memory[start : start + layout.span], layout)
        self.buffers.append(Buffer(name, role, layout, begin, start, end, tensor))
        return self.buffers[-1]

    def seal(self) -> None:
        self.sealed = self._words().clone().view(torch.uint8)

    def restore(self) -> None:
        assert self.sealed is not None
        self._words().copy_(self.sealed.view(torch.int64))

    def changed(self) -> torch.Tensor:
        """uint8 [used]: zero for the bytes that are as sealed."""
        assert self.sealed is not None
        return (self._words() ^ self.sealed.view(torch.int64)).view(torch.uint8)

    def _words(self) -> torch.Tensor:
        return self.memory[: self.used].view(torch.int64)


def footprint(layout: Layout, guard: int) -> int:
    """An upper bound in bytes on what `Slab.add` takes for this layout."""
    return round_up(guard) + round_up(layout.span + guard) + 2 * ALIGNMENT


def round_up(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def _tensor_over(memory: torch.Tensor, layout: Layout) -> torch.Tensor:
    """A tensor with a storage of its own over `memory`.

    A plain view would share one storage with every other argument: torch.compile then takes them for
    aliases, and whoever bounds an access by the storage sees nothing but the whole slab.
    """
    if not layout.numel:  # torch gives an empty tensor no address, so there is nothing to place
        return torch.empty_strided(layout.shape, layout.strides, dtype=layout.dtype, device=memory.device)
    storage = from_dlpack(to_dlpack(memory)).untyped_storage()
    tensor = torch.empty(0, dtype=layout.dtype, device=memory.device)
    return tensor.set_(storage, 0, layout.shape, layout.strides)
