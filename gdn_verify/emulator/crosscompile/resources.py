"""What compiled code needs of the chip, read from the compiler's own account of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from gdn_verify.emulator.crosscompile.targets import Chip

_SPILLED_REGISTER = 4
"""Bytes a thread."""


@dataclass(frozen=True)
class Resources:
    """One compiled configuration.

    Per thread: 32-bit vector `registers` (on AMD with the accumulation registers of the same file), `spill_bytes` of
    vector registers kept in memory, `scratch_bytes` of memory private to the thread, spills included. Per wave, AMD
    only: `scalar_registers` and `scalar_spills`, which go to lanes of vector registers before they go to scratch. Per
    block: `shared_bytes` and `threads`.
    """

    registers: int
    spill_bytes: int
    scratch_bytes: int
    shared_bytes: int
    threads: int
    scalar_registers: int = 0
    scalar_spills: int = 0


@dataclass(frozen=True)
class Compiled:
    """What came of one compilation: `resources`, or the compiler's `error`."""

    resources: Resources | None
    error: str = ""
    seconds: float = 0.0


class UnreadableError(ValueError):
    """The compiler's output lacks a number; the message says which."""


def read(compiled: Any, log: str, chip: Chip) -> Resources:
    """The resources of a kernel that `triton.compile` returned; `log` is what the compiler printed meanwhile.

    Raises UnreadableError where the account is not of the form known here: no number is ever assumed.
    """
    per_thread = _of_ptxas(log) if chip.backend == "cuda" else _of_amdgcn(compiled.asm["amdgcn"])
    threads = compiled.metadata.num_warps * chip.warp_size
    return Resources(shared_bytes=compiled.metadata.shared, threads=threads, **per_thread)


def _of_amdgcn(assembly: str) -> dict[str, int]:
    """From the metadata that the assembler puts beside the one kernel."""
    return {
        "registers": _number(r"\.vgpr_count:\s+(\d+)", assembly),
        "spill_bytes": _number(r"\.vgpr_spill_count:\s+(\d+)", assembly) * _SPILLED_REGISTER,
        "scratch_bytes": _number(r"\.private_segment_fixed_size:\s+(\d+)", assembly),
        "scalar_registers": _number(r"\.sgpr_count:\s+(\d+)", assembly),
        "scalar_spills": _number(r"\.sgpr_spill_count:\s+(\d+)", assembly),
    }


def _of_ptxas(log: str) -> dict[str, int]:
    """From `ptxas -v`: the kernel's own numbers, or the largest where it calls functions that were not inlined."""
    return {
        "registers": _number(r"Used (\d+) registers", log),
        "spill_bytes": _number(r"(\d+) bytes spill stores", log),
        "scratch_bytes": _number(r"(\d+) bytes stack frame", log),
    }


def _number(pattern: str, text: str) -> int:
    found = [int(number) for number in re.findall(pattern, text)]
    if not found:
        raise UnreadableError(f"nothing matches {pattern!r} in the compiler's {len(text)} characters of output")
    return max(found)
