"""The table of instructions made two compiled functions: one that computes 64 lanes, one that computes a scalar.

They are generated, so that an instruction is written in one place. Of each an `if` is made, which LLVM turns into one
jump, with a loop over lanes that it makes SIMD code of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gdn_verify.emulator.amdgpu import bits
from gdn_verify.emulator.amdgpu.bits import inlined
from gdn_verify.emulator.amdgpu.numbering import SCALAR_OPERATIONS, VECTOR_OPERATIONS
from gdn_verify.emulator.amdgpu.table import Operation

_READ = {
    "f": "f32({})",
    "d": "f64({})",
    "h": "f16({})",
    "u": "np.int64({} & M32)",
    "i": "signed32({})",
    "w": "np.int64({} & M16)",
    "s": "signed16({})",
    "q": "np.uint64({})",
    "l": "np.int64({})",
}
_WRITE = {
    "f": "bits_of_f32(np.float32({}))",
    "d": "bits_of_f64({})",
    "h": "bits_of_f16(np.float32({}))",
    "u": "np.uint64({})",
    "i": "np.uint64({})",
    "w": "np.uint64({}) & M16",
    "s": "np.uint64({}) & M16",
    "q": "np.uint64({})",
    "l": "np.uint64({})",
}
_NAMES: dict[str, Any] = {"np": np, "M16": np.uint64(0xFFFF), "M32": np.uint64(0xFFFFFFFF)}
_NAMES |= {name: getattr(bits, name) for name in ("f32", "f64", "f16", "bits_of_f32", "bits_of_f64", "bits_of_f16")}
_NAMES |= {"signed32": bits.signed32, "signed16": bits.signed16}


def vector_function(operations: Sequence[Operation] = VECTOR_OPERATIONS) -> Callable[..., None]:
    """`vector(op, a, b, c, mask, table, out, flag)` on arrays of 64 lanes, uint64 and bool."""
    lines = ["def vector(op, a, b, c, mask, table, out, flag):"]
    for number, operation in enumerate(operations):
        call = _call(operation, number, ("a[n]", "b[n]", "c[n]"), "mask[n]")
        lines += [f" if op == {number}:", "  for n in range(64):"]
        lines += [f"   {line}" for line in _results(operation, call, "out[n]", "flag[n]")]
        lines += ["  return"]
    return _compiled("vector", lines, operations)


def scalar_function(operations: Sequence[Operation] = SCALAR_OPERATIONS) -> Callable[..., Any]:
    """`scalar(op, a, b, scc)` gives (result, SCC) as uint64 and bool; what an instruction does not give stays."""
    lines = ["def scalar(op, a, b, scc):", " out, flag = np.uint64(0), scc"]
    for number, operation in enumerate(operations):
        call = _call(operation, number, ("a", "b"), "scc")
        lines += [f" if op == {number}:"]
        lines += [f"  {line}" for line in _results(operation, call, "out", "flag")]
        lines += ["  return out, flag"]
    return _compiled("scalar", [*lines, " return out, flag"], operations)


def _call(operation: Operation, number: int, sources: tuple[str, ...], mask: str) -> str:
    arguments, rest = [], iter(sources)
    for letter in operation.arguments:
        if letter in "mv":
            arguments.append(mask)
        elif letter == "k":
            arguments.append("table")
        elif letter in "FD":  # what the destination held is always the third
            arguments.append(_READ[letter.lower()].format(sources[2]))
        else:
            arguments.append(_READ[letter].format(next(rest)))
    return f"do_{number}({', '.join(arguments)})"


def _results(operation: Operation, call: str, out: str, flag: str) -> list[str]:
    if operation.results == "m":
        return [f"{flag} = {call}"]
    if operation.results.endswith("m"):
        return [f"x, y = {call}", f"{out} = {_WRITE[operation.results[0]].format('x')}", f"{flag} = y"]
    return [f"{out} = {_WRITE[operation.results].format(call)}"]


def _compiled(name: str, lines: list[str], operations: Sequence[Operation]) -> Callable[..., Any]:
    functions = {operation.function: inlined(operation.function) for operation in operations if operation.function}
    names = dict(_NAMES)
    names |= {f"do_{n}": functions[each.function] for n, each in enumerate(operations) if each.function}
    exec("\n".join(lines), names)
    return inlined(names[name])
