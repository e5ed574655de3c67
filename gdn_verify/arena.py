"""One memory model of a launch: every tensor that a kernel receives lives in one guarded arena.

    arena = Arena("cuda")
    q = arena.place("q", q_value, role=Role.INPUT)
    pool = arena.place("ssm", pool_value, role=Role.STATE, slot_stride=slot + 64, poisoned=free_slots)
    out = arena.place("out", shape=(T, HV, V), dtype=torch.bfloat16, role=Role.OUTPUT)
    arena.seal()
    kernel(q, pool, out)
    findings = arena.violations({"ssm": Writable.slots(8, live), "out": Writable(live_tokens)})
    findings += arena.unwritten("out", live_tokens)

Each buffer has guards on both sides; outputs, free slots, the holes of strided views and the guards hold
poison. After the launch every byte is compared with its sealed copy: 0.0 against -0.0 is a change, and so is
another NaN payload.

What the arena cannot see:

- a byte written with the value that it held, or changed and put back;
- a read of poison, until it spoils a live output (hence the recognisable NaN);
- an access that lands outside the arena, or past a guard in memory that may change;
- work in flight: on a GPU it compares in order on the current stream, so wait for other streams first.

An element that holds `Poison.NAN` was not computed: arithmetic makes the canonical NaN. But it may have been
*copied* from poison, and under the finite poisons an honest 16-bit result can equal the pattern. To tell,
run the launch again under a second poison and pass the first run's `still_poisoned` as `also`: an element
that holds one poison and then the other was never written (or is a copy of poison, which is as bad).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from gdn_verify._arena_findings import Fault, MemoryFinding, Region, changes, unwritten
from gdn_verify._arena_layout import ALIGNMENT, CARRIERS, Buffer, Layout, Poison, Role, Slab, footprint

__all__ = ["Arena", "Fault", "MemoryFinding", "Poison", "Region", "Role", "Writable"]

_SLAB_BYTES = 1 << 19  # a decode case fits in one slab; larger buffers get a slab of their own


@dataclass(frozen=True, eq=False)
class Writable:
    """Which elements of a buffer a launch may change.

    `mask` is a bool tensor. With fewer axes than the buffer it covers the leading ones (`[P]` picks whole
    slots, 0-d picks all or nothing); with as many it broadcasts as usual (`[P, 1, C]` picks columns a slot).
    """

    mask: torch.Tensor

    ALL: ClassVar[Writable]
    NOTHING: ClassVar[Writable]

    def __post_init__(self) -> None:
        if self.mask.dtype != torch.bool:
            raise TypeError(f"mask has dtype {self.mask.dtype}; give torch.bool (for slot ids, Writable.slots)")

    @classmethod
    def slots(cls, count: int, ids: Iterable[int]) -> Writable:
        """The slots (or rows) `ids` of a buffer with `count` of them. Raises ValueError for an id outside."""
        mask = torch.zeros(count, dtype=torch.bool)
        for slot in ids:
            if not 0 <= slot < count:
                raise ValueError(f"ids holds {slot}, outside [0, {count}); leave padded rows' ids out")
            mask[slot] = True
        return cls(mask)


Writable.ALL = Writable(torch.tensor(True))
Writable.NOTHING = Writable(torch.tensor(False))


class Arena:
    """Guarded, poisoned memory for the tensors of one launch, or of a chain of launches.

    `guard_bytes` is the least guard on each side of a buffer; buffers of role STATE get a guard of one slot
    if that is more, so that slots -1 and P are seen too.
    """

    def __init__(self, device: torch.device | str, *, poison: Poison = Poison.NAN, guard_bytes: int = 256) -> None:
        if guard_bytes < 1:
            raise ValueError(f"guard_bytes={guard_bytes}: a buffer without guards is not monitored; give 1 or more")
        self.device = torch.device(device)
        self.poison = poison
        self.guard_bytes = guard_bytes
        self._slabs: list[Slab] = []
        self._homes: dict[str, tuple[Slab, Buffer]] = {}
        self._sealed = False

    def __getitem__(self, name: str) -> torch.Tensor:
        """The view that `place` returned. Raises KeyError with the known names."""
        return self._home(name)[1].tensor

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._homes)

    def place(
        self,
        name: str,
        value: torch.Tensor | None = None,
        *,
        role: Role,
        shape: Sequence[int] | None = None,
        dtype: torch.dtype | None = None,
        strides: Sequence[int] | None = None,
        slot_stride: int | None = None,
        misalign_bytes: int = 0,
        poisoned: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """A view in the arena that holds a bit-exact copy of `value`, or poison where `value` is None.

        `shape` and `dtype` default to the value's; without a value both are needed. `strides` (elements)
        default to row-major; `slot_stride` (elements) replaces that of axis 0 and so opens holes between
        slots or rows. The address is a multiple of 256 plus `misalign_bytes`, a multiple of the element's
        size below 256. `poisoned`, a bool mask by the rule of `Writable`, picks elements that hold poison
        instead of the value: free slots, padded rows. The tensor has a storage of its own that spans the
        view; an empty one has no address. Placing undoes a seal.

        Raises ValueError for a name in use, a value of another shape or dtype, overlapping strides, a
        dtype without poison, and a misalignment that breaks the element.
        """
        if name in self._homes:
            raise ValueError(f"name={name!r} is already placed; give each tensor of the launch its own name")
        shape, dtype = _resolve(name, value, shape, dtype)
        if not 0 <= misalign_bytes < ALIGNMENT or misalign_bytes % dtype.itemsize:
            raise ValueError(
                f"misalign_bytes={misalign_bytes} of {name!r}: give a multiple of the {dtype.itemsize}-byte "
                f"element in [0, {ALIGNMENT})"
            )
        buffer = self._allocate(name, role, Layout.of(shape, dtype, strides, slot_stride), misalign_bytes)
        if value is not None:
            bits = _bits(buffer)
            bits.copy_(value.detach().view(bits.dtype))  # as integers: no conversion touches a NaN or a bool
        if poisoned is not None:
            self.repoison(name, poisoned)
        return buffer.tensor

    def repoison(self, name: str, where: torch.Tensor | None = None) -> None:
        """Put the poison back into the elements that `where` picks (a bool mask by the rule of `Writable`).

        For the next launch at the same addresses. Undoes a seal; raises KeyError for an unknown name.
        """
        buffer = self._home(name)[1]
        mask = self._aligned(Writable.ALL.mask if where is None else where, buffer)
        _bits(buffer).masked_fill_(mask, self.poison.bits(buffer.layout.dtype))
        self._sealed = False

    def seal(self) -> None:
        """Keep a copy of every byte, on the device. Call it after the last `place`, or between launches."""
        for slab in self._slabs:
            slab.seal()
        self._sealed = True

    def restore(self) -> None:
        """Put every byte back as sealed, for a repeat of the launch at the same addresses."""
        self._check_sealed()
        for slab in self._slabs:
            slab.restore()

    def violations(self, allowed: Mapping[str, Writable] | None = None, *, limit: int = 8) -> list[MemoryFinding]:
        """Every byte that changed since the seal and is not `allowed` to, in the order of placing.

        A buffer that `allowed` does not name must be bit-identical, except the elements of SCRATCH. Guards
        and holes must always be. A finding stands for one guard, for the holes, or for one slot of a
        buffer (at most `limit` slots a buffer); it names the first offending byte and counts them all.

        Raises KeyError for an unknown name, ValueError for an INPUT in `allowed` or a mask that does not
        fit, RuntimeError if the arena is not sealed.
        """
        self._check_sealed()
        masks = self._writable_masks(allowed or {})
        findings = []
        for slab in self._slabs:
            changed = slab.changed()
            for buffer in slab.buffers:
                if buffer.name in masks:
                    buffer.layout.over(changed, buffer.start).masked_fill_(masks[buffer.name], 0)
            if int(changed.view(torch.int64).count_nonzero()):  # a healthy launch ends here
                findings += self._locate(slab, changed, limit)
        return findings

    def still_poisoned(self, name: str) -> torch.Tensor:
        """bool, the view's shape, on the arena's device: elements that hold the poison's bit pattern."""
        buffer = self._home(name)[1]
        return _bits(buffer) == self.poison.bits(buffer.layout.dtype)

    def unwritten(
        self,
        name: str,
        must_write: torch.Tensor | None = None,
        *,
        also: torch.Tensor | None = None,
        limit: int = 8,
    ) -> list[MemoryFinding]:
        """Elements that had to be written but hold the poison, one finding a slot (at most `limit`).

        `must_write` is a bool mask by the rule of `Writable`, None for all elements. `also` is what
        `still_poisoned` gave for the same launch under another poison: only elements marked by both count,
        which clears results that happen to equal one pattern. Only elements that started as poison can be
        found; a value that a launch should have replaced is a matter of comparing results.

        Raises KeyError for an unknown name, ValueError for an INPUT or a mask that does not fit.
        """
        buffer = self._home(name)[1]
        _check_may_change(buffer)
        missing = self.still_poisoned(name)
        for mask in (must_write, also):
            if mask is not None:
                missing &= self._aligned(mask, buffer)
        return unwritten(buffer, missing, limit)

    def _allocate(self, name: str, role: Role, layout: Layout, misalign: int) -> Buffer:
        fill = self.poison.bits(layout.dtype)
        guard = max(self.guard_bytes, (layout.slot_bytes or 0) if role is Role.STATE else 0)
        size = footprint(layout, guard)
        if not self._slabs or self._slabs[-1].free < size:
            self._slabs.append(Slab(self.device, max(size, _SLAB_BYTES)))
        buffer = self._slabs[-1].add(name, role, layout, guard, misalign, fill)
        self._homes[name] = self._slabs[-1], buffer
        self._sealed = False
        return buffer

    def _writable_masks(self, allowed: Mapping[str, Writable]) -> dict[str, torch.Tensor]:
        scratch = {n: Writable.ALL for n, (_, b) in self._homes.items() if b.role is Role.SCRATCH}
        masks = {}
        for name, writable in (scratch | dict(allowed)).items():
            buffer = self._home(name)[1]
            _check_may_change(buffer)
            masks[name] = self._aligned(writable.mask, buffer)
        return masks

    def _locate(self, slab: Slab, changed: torch.Tensor, limit: int) -> list[MemoryFinding]:
        assert slab.sealed is not None
        lists = [changes(b, slab.sealed, slab.memory, changed, limit) for b in slab.buffers]
        return [finding for findings in lists for finding in findings]

    def _aligned(self, mask: torch.Tensor, buffer: Buffer) -> torch.Tensor:
        """The mask on the arena's device, expanded to the view's shape from the leading axes."""
        shape = buffer.layout.shape
        if mask.dtype != torch.bool:
            raise ValueError(f"the mask for {buffer.name!r} has dtype {mask.dtype}; give torch.bool")
        missing = (1,) * (len(shape) - mask.ndim)
        try:
            return mask.to(self.device).reshape((*mask.shape, *missing)).expand(shape)
        except RuntimeError:
            raise ValueError(
                f"the mask for {buffer.name!r} has shape {tuple(mask.shape)}, which does not cover the leading "
                f"axes of {shape} nor broadcast to it; give [{shape[0] if shape else ''}] for whole slots"
            ) from None

    def _home(self, name: str) -> tuple[Slab, Buffer]:
        if name not in self._homes:
            raise KeyError(f"no buffer {name!r} in the arena; placed are {', '.join(self._homes) or 'none'}")
        return self._homes[name]

    def _check_sealed(self) -> None:
        if not self._sealed:
            raise RuntimeError("the arena is not sealed; call seal() after the last place() and before the launch")


def _resolve(
    name: str, value: torch.Tensor | None, shape: Sequence[int] | None, dtype: torch.dtype | None
) -> tuple[tuple[int, ...], torch.dtype]:
    """Shape and dtype from the value where they are not given; a value must agree with what is given."""
    if value is None:
        if shape is None or dtype is None:
            raise ValueError(f"{name!r} has shape={shape}, dtype={dtype} and no value; give both or a value")
        return tuple(shape), dtype
    if (shape is not None and tuple(shape) != value.shape) or dtype not in (None, value.dtype):
        raise ValueError(
            f"the value of {name!r} is {value.dtype} {tuple(value.shape)}, but dtype={dtype}, shape={shape}; "
            "convert it first: the arena copies bits"
        )
    return tuple(value.shape), value.dtype


def _check_may_change(buffer: Buffer) -> None:
    if buffer.role is Role.INPUT:
        raise ValueError(f"{buffer.name!r} has role INPUT, which no launch may write; place it as OUTPUT or STATE")


def _bits(buffer: Buffer) -> torch.Tensor:
    """The view as integers, bit for bit."""
    return buffer.tensor.view(CARRIERS[buffer.layout.dtype.itemsize])
