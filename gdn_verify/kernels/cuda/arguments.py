"""A kernel's arguments as one struct: its text in C++ and its bytes, from one declaration."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

_KINDS = {
    "pointer": ("void *", "P"),
    "int64": ("long long ", "q"),
    "int32": ("int ", "i"),
    "float32": ("float ", "f"),
}
"""In C++, and to `struct`. In this order in memory, so that nothing lies between two of them."""


@dataclass(frozen=True)
class Arguments:
    """Names of a kernel's arguments, by kind."""

    pointer: tuple[str, ...] = ()
    int64: tuple[str, ...] = ()
    int32: tuple[str, ...] = ()
    float32: tuple[str, ...] = ()

    @cached_property
    def text(self) -> str:
        """The struct in C++."""
        lines = "".join(f"  {_KINDS[kind][0]}{name};\n" for kind in _KINDS for name in getattr(self, kind))
        return f"struct Arguments {{\n{lines}}};\nstatic_assert(sizeof(Arguments) == {self._size});\n"

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All of them, in their order in memory."""
        return tuple(name for kind in _KINDS for name in getattr(self, kind))

    @cached_property
    def _format(self) -> struct.Struct:
        return struct.Struct("".join(code * len(getattr(self, kind)) for kind, (_, code) in _KINDS.items()))

    @property
    def _size(self) -> int:
        return -(-self._format.size // 8) * 8

    def packed(self, *values: Tensor | float | None) -> bytes:
        """The struct of these values, in the order of `names`: tensors, or None for a null, where there are pointers.

        Raises TypeError for a number of values, and struct.error for a value, that does not fit its place.
        """
        if len(values) != len(self.names):
            raise TypeError(f"{len(values)} arguments are given; the kernel has {len(self.names)}")
        pointers, numbers = values[: len(self.pointer)], values[len(self.pointer) :]
        addresses = [0 if x is None else x.data_ptr() for x in pointers]  # type: ignore[union-attr]
        return self._format.pack(*addresses, *numbers).ljust(self._size, b"\0")
