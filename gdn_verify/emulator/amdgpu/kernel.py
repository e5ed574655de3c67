"""A compiled kernel, ready to be executed: its rows, and what its waves begin with."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdn_verify.emulator.amdgpu.codeobject import CodeObject, CodeObjectError, Descriptor
from gdn_verify.emulator.amdgpu.encoding import Instruction, decode
from gdn_verify.emulator.amdgpu.lower import lower
from gdn_verify.emulator.amdgpu.schedule import Setup

_FORMATS = {
    "i1": "<b",
    "i8": "<b",
    "i16": "<h",
    "i32": "<i",
    "i64": "<q",
    "u1": "<B",
    "u8": "<B",
    "u16": "<H",
    "u32": "<I",
    "u64": "<Q",
    "fp16": "<e",
    "fp32": "<f",
    "f32": "<f",
    "fp64": "<d",
}


@dataclass(frozen=True, eq=False)
class Kernel:
    """One kernel of a code object, for a chip by its architecture's name; `waves` are those of a workgroup."""

    name: str
    code: CodeObject
    arch: str
    shared_bytes: int
    waves: int

    def __post_init__(self) -> None:
        self.descriptor.check()

    @cached_property
    def descriptor(self) -> Descriptor:
        """What the compiler asks of the hardware."""
        return self.code.kernel(self.name)

    @cached_property
    def instructions(self) -> list[Instruction]:
        """Decoded; raises UnknownInstructionError."""
        return list(decode(self.code.text[: self.descriptor.end], self.descriptor.start))

    @cached_property
    def program(self) -> NDArray[np.int64]:
        """The rows; raises UnknownInstructionError."""
        return lower(self.instructions, self.arch)

    def setup(self, grid: Sequence[int], kernarg: int, words: bytes) -> Setup:
        """What the waves of a launch begin with; `kernarg` is the address of the arguments, `words` their bytes."""
        preloaded = np.frombuffer(words[: 4 * self.descriptor.preloaded], np.uint32)
        address = np.array([kernarg & 0xFFFFFFFF, kernarg >> 32], np.uint32)
        scalars = np.concatenate([address, preloaded]) if self.descriptor.user_registers else preloaded
        following, axes = len(scalars), []
        for wanted in self.descriptor.group_axes:
            axes.append(following if wanted else -1)
            following += wanted
        return Setup(scalars, np.array(axes, np.int64), np.array(grid, np.int64), self.waves)


def pack(signature: Iterable[str], values: Iterable[Any], size: int) -> bytes:
    """Arguments as they lie in memory, each at a multiple of its size; padded to `size` bytes.

    Pointers are given as addresses. Raises CodeObjectError for a type that is not known, or arguments that are longer.
    """
    packed = bytearray()
    for kind, value in zip(signature, values, strict=True):
        form = "<Q" if kind.startswith("*") else _FORMATS.get(kind, "")
        if not form:
            raise CodeObjectError(f"an argument of type {kind!r} is not modelled")
        width = struct.calcsize(form)
        packed += b"\0" * (-len(packed) % width) + struct.pack(form, value)
    if len(packed) > size:
        raise CodeObjectError(f"{len(packed)} bytes of arguments for a kernel that takes {size}")
    return bytes(packed).ljust(size, b"\0")
