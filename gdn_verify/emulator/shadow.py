"""What is known of every element of a storage: whether it holds a value, and who touched it last.

Accesses are numbered over a whole run (`order`), and a shadow keeps numbers: of the last write, of the last read, and
of the read by another program before that. Numbers that a launch began after mean nothing to it, so nothing is cleared
between launches. Most storages are never written by the kernels that read them; their reads are only listed until a
write shows that they matter.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from gdn_verify.emulator.access import Known

Indices = NDArray[np.int64]
Numbers = NDArray[np.int32]
Lanes = NDArray[np.int64]
"""Which lane of which block shape, as one number for each element accessed."""

UNWRITTEN, SEALED, LOOSE, FREE = 1, 2, 4, 8
MANY = -1
"""In place of a lane: more than one of them."""
MOST_LISTED = 1 << 21
"""Elements of reads that are listed at most, before they are looked into without need."""


class Touch(NamedTuple):
    """One access: its number, that of its program's first, and that of the first behind the last barrier."""

    number: int
    begin: int
    since: int


class Listed(NamedTuple):
    """A read that is only listed yet."""

    units: Indices
    lanes: Lanes
    touch: Touch


class Shadow:
    """The watch over one storage, in units of bytes `1 << bits`; `start` is its address in memory.

    Arrays are made when they are needed first. `tensor` is where torch's own writes show, by its version.
    """

    def __init__(self, start: int, nbytes: int, bits: int, tensor: torch.Tensor) -> None:
        self.start, self.nbytes, self.bits, self.tensor = start, nbytes, bits, tensor
        self.flags: NDArray[np.uint8] | None = None
        self.flagged = 0
        self.version = self._torch_version()
        self.listed: list[Listed] = []
        self.pending = 0
        self.atomics: Numbers | None = None
        self._first = 0
        self._writers: Numbers | None = None
        self._readers: Numbers | None = None
        self.others: Numbers = np.zeros(0, np.int32)
        self.read_lanes: Lanes = np.zeros(0, np.int64)
        self.write_lanes: Lanes = np.zeros(0, np.int64)

    @classmethod
    def of(cls, tensor: torch.Tensor) -> Shadow:
        """Over the storage of a tensor, in units of its elements; everything holds a value."""
        storage = tensor.untyped_storage()
        bits = tensor.element_size().bit_length() - 1
        return cls(storage.data_ptr(), storage.nbytes(), bits, tensor)

    @property
    def count(self) -> int:
        """Units of the storage."""
        return -(-self.nbytes >> self.bits)

    # -- what may be done ------------------------------------------------------------------------------

    def mark(self, known: Known) -> None:
        """Take over what is known of a view."""
        for mask, bit in (
            (known.unwritten, UNWRITTEN),
            (known.sealed, SEALED),
            (known.loose, LOOSE),
            (known.free, FREE),
        ):
            if mask is not None and bool(mask.any()):
                self._cells(known.tensor).bitwise_or_(mask.to(torch.uint8).mul_(bit))
                self.flagged |= bit

    def mark_unwritten(self) -> None:
        """Nothing here holds a value, nor must; unless torch's writes would not show."""
        if self.tensor.is_inference():
            return
        self.flags = np.full(self.count, UNWRITTEN | LOOSE, np.uint8)
        self.flagged = UNWRITTEN | LOOSE

    def unwritten(self, tensor: torch.Tensor) -> torch.Tensor:
        """Which elements of a view hold nothing: bool, the view's shape."""
        if not self.flagged & UNWRITTEN:
            return torch.zeros(tensor.shape, dtype=torch.bool)
        return (self._cells(tensor) & UNWRITTEN).bool()

    def _cells(self, tensor: torch.Tensor) -> torch.Tensor:
        """The flags of a view's elements, by the first unit of each."""
        if self.flags is None:
            self.flags = np.zeros(self.count, np.uint8)
        scale = tensor.element_size() >> self.bits
        strides = [step * scale for step in torch.Tensor.stride(tensor)]
        return torch.from_numpy(self.flags).as_strided(tensor.shape, strides, tensor.storage_offset() * scale)

    def heed_torch(self) -> None:
        """If torch has written to the storage since, all of it holds values."""
        version = self._torch_version()
        if version != self.version and self.flags is not None:
            self.flags &= np.uint8(0xFF ^ UNWRITTEN)
            self.flagged &= ~UNWRITTEN
        self.version = version

    def _torch_version(self) -> int:
        return -1 if self.tensor.is_inference() else self.tensor._version

    def allows(self, units: Indices, bit: int) -> NDArray[np.bool_] | None:
        """Which units do not have a flag; None if none has it."""
        if not self.flagged & bit:
            return None
        assert self.flags is not None
        return (self.flags[units] & bit) == 0

    # -- units -----------------------------------------------------------------------------------------

    def refine(self, bits: int) -> None:
        """Watch units of `1 << bits` bytes: something smaller than a unit is accessed."""
        times = 1 << (self.bits - bits)
        for name in ("flags", "_writers", "_readers", "others", "write_lanes", "read_lanes", "atomics"):
            if (array := getattr(self, name)) is not None:
                setattr(self, name, np.repeat(array, times))
        self.listed = [self._refined(each, times) for each in self.listed]
        self.bits = bits

    def _refined(self, each: Listed, times: int) -> Listed:
        units = (each.units[:, None] * times + np.arange(times)).reshape(-1)
        return Listed(units, np.repeat(each.lanes, times), each.touch)

    # -- who touched it --------------------------------------------------------------------------------

    def start_launch(self) -> None:
        """What was listed belongs to a launch that is over."""
        self.listed, self.pending = [], 0

    @property
    def is_written(self) -> bool:
        """Whether a kernel has written here, so that readers matter."""
        return self._writers is not None

    @property
    def writers(self) -> Numbers:
        """The number of the last write of each unit; 0 for none."""
        if self._writers is None:
            self._writers = np.zeros(self.count, np.int32)
            self.write_lanes = np.zeros(self.count, np.int64)
        return self._writers

    @property
    def readers(self) -> Numbers:
        """The number of the last read of each unit; all that was listed is in it."""
        if self._readers is None:
            self._readers = np.zeros(self.count, np.int32)
            self.others = np.zeros(self.count, np.int32)
            self.read_lanes = np.zeros(self.count, np.int64)
        if self.listed:
            listed, self.listed, self.pending = self.listed, [], 0
            for each in listed:
                self._note_read(self._readers, each)
        return self._readers

    def read(self, units: Indices, lanes: Lanes, touch: Touch, first: int) -> None:
        """Note a read in a launch whose accesses begin with number `first`."""
        self._first = first
        self.listed.append(Listed(units, lanes, touch))
        self.pending += len(units)
        if self.pending > MOST_LISTED:
            self.readers  # noqa: B018 - looks into the list

    def _note_read(self, readers: Numbers, each: Listed) -> None:
        units, lanes, touch = each.units, each.lanes, each.touch
        before = readers[units]
        if before.size and int(before.max()) >= self._first:
            foreign = (before >= self._first) & (before < touch.begin)
            if foreign.any():
                self.others[units[foreign]] = before[foreign]
            lanes = np.where((before >= touch.since) & (self.read_lanes[units] != lanes), MANY, lanes)
        readers[units] = touch.number
        self.read_lanes[units] = lanes
        shared = self.read_lanes[units] != lanes
        if shared.any():  # lanes of this read that share an element
            self.read_lanes[units[shared]] = MANY

    def unwrite(self, units: Indices) -> None:
        """What was stored there is no value."""
        if self.flags is None:
            self.flags = np.zeros(self.count, np.uint8)
        self.flags[units] |= UNWRITTEN
        self.flagged |= UNWRITTEN

    def write(self, units: Indices, lanes: Lanes, touch: Touch) -> NDArray[np.bool_]:
        """Note a write; which of its units another lane of it writes too."""
        self.writers[units] = touch.number
        self.write_lanes[units] = lanes
        if self.flagged & UNWRITTEN:
            assert self.flags is not None
            self.flags[units] &= 0xFF ^ UNWRITTEN
        return np.asarray(self.write_lanes[units] != lanes)

    def touch_atomically(self, units: Indices, number: int) -> None:
        """Note an atomic read and write."""
        if self.atomics is None:
            self.atomics = np.zeros(self.count, np.int32)
        self.atomics[units] = number
        if self.flags is not None:
            self.flags[units] &= 0xFF ^ UNWRITTEN
