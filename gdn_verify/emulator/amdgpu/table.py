"""The instructions that are known, each with its encoding and what it does: one table, which everything is made from.

An instruction is a small function on the numbers of one lane, with a signature in letters: results, a colon, arguments.

    f float32   d float64   h float16 (a float32 whose result is rounded to float16)
    u uint32    i int32     w uint16    s int16      (all as int64, results are cut to the width)
    q uint64    l int64                              (64 bits, as uint64 and int64)
    m a bit of a lane mask, or SCC of a scalar instruction; as an argument v is one that is always VCC
    k a constant of the instruction

An argument that is also what the destination held before is the last one, and its letter is a capital.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Family(StrEnum):
    """How an instruction is encoded; of vector ones, the shortest form."""

    SOP1 = "SOP1"
    SOP2 = "SOP2"
    SOPC = "SOPC"
    SOPK = "SOPK"
    SOPP = "SOPP"
    SMEM = "SMEM"
    VOP1 = "VOP1"
    VOP2 = "VOP2"
    VOPC = "VOPC"
    VOP3 = "VOP3"
    VOP3P = "VOP3P"
    DS = "DS"
    FLAT = "FLAT"
    GLOBAL = "GLOBAL"
    SCRATCH = "SCRATCH"
    MUBUF = "MUBUF"


SCALAR = (Family.SOP1, Family.SOP2, Family.SOPC, Family.SOPK, Family.SOPP)
VECTOR = (Family.VOP1, Family.VOP2, Family.VOPC, Family.VOP3, Family.VOP3P)

WIDTH = {"f": 1, "h": 1, "u": 1, "i": 1, "w": 1, "s": 1, "d": 2, "q": 2, "l": 2, "m": 0}
"""Registers that a letter takes."""


@dataclass(frozen=True)
class Operation:
    """An instruction: `name` is the assembler's without its encoding's suffix; `code` the number in its family.

    `traits` are what has no place in a signature: the size of a memory access, a matrix's shape.
    """

    name: str
    family: Family
    code: int
    results: str = ""
    arguments: str = ""
    function: Callable[..., Any] | None = None
    traits: dict[str, Any] = field(default_factory=dict, compare=False)

    def __str__(self) -> str:
        return self.name


OPERATIONS: dict[str, Operation] = {}
"""Every known instruction by name."""

BY_CODE: dict[tuple[Family, int], Operation] = {}
"""The same by family and code."""


def add(operation: Operation) -> Operation:
    """Enter an instruction; raises ValueError where its name or code is taken."""
    key = operation.family, operation.code
    if operation.name in OPERATIONS or key in BY_CODE:
        raise ValueError(f"{operation.name} {key} is in the table already")
    OPERATIONS[operation.name] = BY_CODE[key] = operation
    return operation


Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def instruction(family: Family, code: int, signature: str, **traits: Any) -> Decorator:
    """Enter the decorated function under its own name."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        enter_as(function.__name__, family, code, signature, function, **traits)
        return function

    return enter


def enter_as(
    name: str, family: Family, code: int, signature: str, function: Callable[..., Any] | None, **traits: Any
) -> None:
    """Enter a function that several instructions share."""
    results, arguments = signature.split(":")
    add(Operation(name, family, code, results, arguments, function, traits))


def chosen(families: Iterable[Family]) -> list[Operation]:
    """Those of the families that compute, in a fixed order."""
    wanted = tuple(families)
    return [each for each in OPERATIONS.values() if each.family in wanted and each.function is not None]
