"""A code object as the loader sees it: segments, the kernel's descriptor, and what it asks the hardware to set up.

Sources: the ELF specification; LLVM's "User Guide for AMDGPU Backend", sections on kernel descriptors and on the
initial state of registers.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property

_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_PRELOADED = 256
"""Bytes before which a kernel with preloaded arguments loads them itself, for firmware that does not."""

ROUND_NEAREST, DENORMALS_KEPT = 0, 0xF


class CodeObjectError(ValueError):
    """Not a code object of AMD's, or one that asks for what is not modelled; the message says what."""


@dataclass(frozen=True)
class CodeObject:
    """The bytes of an .hsaco."""

    data: bytes

    def __post_init__(self) -> None:
        if self.data[:4] != b"\x7fELF" or self.data[18:20] != (224).to_bytes(2, "little"):
            raise CodeObjectError("not an ELF file for AMDGPU")

    @cached_property
    def sections(self) -> dict[str, tuple[int, int, int]]:
        """By name: address, offset in the file, size."""
        (start,), (count, names) = struct.unpack_from("<Q", self.data, 0x28), struct.unpack_from("<HH", self.data, 0x3C)
        table = [_SECTION.unpack_from(self.data, start + n * _SECTION.size) for n in range(count)]
        text = table[names][4]
        return {self._string(text + entry[0]): (entry[3], entry[4], entry[5]) for entry in table}

    def _string(self, at: int) -> str:
        return self.data[at : self.data.index(b"\0", at)].decode()

    @cached_property
    def symbols(self) -> dict[str, tuple[int, int]]:
        """By name: address and size."""
        _, start, size = self.sections[".symtab"] if ".symtab" in self.sections else self.sections[".dynsym"]
        strings = self.sections[".strtab" if ".symtab" in self.sections else ".dynstr"][1]
        entries = (_SYMBOL.unpack_from(self.data, start + n) for n in range(0, size, _SYMBOL.size))
        return {self._string(strings + name): (value, length) for name, _, _, _, value, length in entries}

    @cached_property
    def text(self) -> bytes:
        """The machine code."""
        _, start, size = self.sections[".text"]
        return self.data[start : start + size]

    def at(self, address: int, size: int) -> bytes:
        """Bytes by their address. Raises CodeObjectError where there are none."""
        for begin, start, length in self.sections.values():
            if begin and begin <= address and address + size <= begin + length:
                return self.data[start + address - begin : start + address - begin + size]
        raise CodeObjectError(f"no section holds {size} bytes at {address:#x}")

    def kernel(self, name: str) -> Descriptor:
        """The descriptor NAME.kd; raises CodeObjectError where there is none."""
        if f"{name}.kd" not in self.symbols:
            raise CodeObjectError(f"no kernel {name!r}; symbols: {', '.join(self.symbols)}")
        address, size = self.symbols[f"{name}.kd"]
        text, _, _ = self.sections[".text"]
        length = self.symbols[name][1]
        return Descriptor(name, self.at(address, size or 64), address - text, length)


@dataclass(frozen=True)
class Descriptor:
    """The 64 bytes of a kernel descriptor, at `place` from the text's first byte; `length` is the code's."""

    name: str
    data: bytes
    place: int
    length: int

    def _word(self, at: int) -> int:
        return int(struct.unpack_from("<I", self.data, at)[0])

    @property
    def shared_bytes(self) -> int:
        """Of shared memory whose size the compiler knew."""
        return self._word(0)

    @property
    def private_bytes(self) -> int:
        """Of memory of each lane."""
        return self._word(4)

    @property
    def kernarg_bytes(self) -> int:
        """Of all arguments."""
        return self._word(8)

    @property
    def start(self) -> int:
        """The first byte of the text that is executed."""
        (distance,) = struct.unpack_from("<q", self.data, 16)
        return int(self.place + distance) + (_PRELOADED if self.preloaded else 0)

    @property
    def end(self) -> int:
        """The first byte after the kernel's code."""
        (distance,) = struct.unpack_from("<q", self.data, 16)
        return int(self.place + distance) + self.length

    @property
    def preloaded(self) -> int:
        """Words of arguments that are in scalar registers from the start; from the first argument on."""
        length = self.data[58] & 0x7F
        if length and (self.data[58] >> 7 or self.data[59]):
            raise CodeObjectError(f"{self.name}: arguments preloaded from within")
        return length

    @property
    def user_registers(self) -> list[str]:
        """What the scalar registers hold at the start, a name a register; preloaded arguments follow."""
        properties = struct.unpack_from("<H", self.data, 56)[0]
        names = ("private_buffer", 4), ("dispatch", 2), ("queue", 2), ("kernarg", 2), ("dispatch_id", 2)
        names += ("flat_scratch", 2), ("private_size", 1)
        return [name for bit, (name, width) in enumerate(names) if (properties >> bit) & 1 for _ in range(width)]

    @property
    def group_axes(self) -> tuple[bool, bool, bool]:
        """Of which axes the workgroup's number is in a scalar register, after the user's."""
        word = self._word(52)
        return bool(word >> 7 & 1), bool(word >> 8 & 1), bool(word >> 9 & 1)

    def check(self) -> None:
        """Raises CodeObjectError for a mode that is not modelled."""
        word = self._word(48)
        rounding, denormals, ieee = word >> 12 & 0xF, word >> 16 & 0xF, word >> 23 & 1
        if rounding != ROUND_NEAREST or denormals != DENORMALS_KEPT or not ieee:
            mode = f"rounding {rounding:#x}, denormals {denormals:#x}, IEEE {ieee}"
            raise CodeObjectError(f"{self.name} runs in a mode that is not modelled: {mode}")
        if self._word(52) >> 10 & 1:
            raise CodeObjectError(f"{self.name} asks for the workgroup's info register")
        unknown = set(self.user_registers) - {"kernarg"}
        if unknown:
            raise CodeObjectError(f"{self.name} asks for {', '.join(sorted(unknown))} at its start: not modelled")
