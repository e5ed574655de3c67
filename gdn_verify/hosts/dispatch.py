"""Where Triton's own code tells the warps of a specialised kernel what to run: lines that no kernel's author wrote.

`warp_specialize` keeps the idle warps in a loop in front of the kernel. Each reads from shared memory which partition
it is to run; the first warps write that there, and all warps meet at one hardware barrier in between, at different
instructions of it. compute-sanitizer 2025.3.1 takes that for a race: seen on an H200 with Triton 3.6; where the
barriers are, in the machine code that Triton 3.7 makes of the same kernel.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from typing import Any

_SPECIALISED = "ttg.warp_specialize"
_FUNCTION = re.compile(r"tt\.func public @(?P<name>\w+)(?P<body>.*?\n  \} loc\(#(?P<begins>\w+)\))", re.DOTALL)
_PLACE = re.compile(r"^#(?P<name>loc\d*) = loc\(\"(?P<file>[^\"]+)\":(?P<line>\d+):\d+\)", re.MULTILINE)
_DISPATCH = re.compile(r"^    (?:\} : .* -> \(.*\)|tt\.return) loc\(#(?P<at>\w+)\)", re.MULTILINE)


def jit_functions() -> Iterator[Any]:
    """Every Triton kernel and device function of the process."""
    from triton.runtime.jit import JITFunction

    # By type: lazy modules answer `isinstance` with imports and warnings.
    return (thing for thing in gc.get_objects() if issubclass(type(thing), JITFunction))


def dispatches() -> Iterator[str]:
    """Of each specialised kernel that was compiled in this process: its name and the places, the function's first."""
    for function in jit_functions():
        for cache, *_ in function.device_caches.values():
            for kernel in cache.values():
                if words := places_in(kernel.asm.get("ttgir", "")):
                    yield words


def places_in(ttgir: str) -> str:
    """The name and the places, `file:line` each, of a kernel that is specialised; "" of another."""
    function = _FUNCTION.search(ttgir)
    if function is None or _SPECIALISED not in function["body"]:
        return ""
    places = {m["name"]: f"{m['file'].rpartition('/')[2]}:{m['line']}" for m in _PLACE.finditer(ttgir)}
    at = [function["begins"], *(match["at"] for match in _DISPATCH.finditer(function["body"]))]
    return " ".join(dict.fromkeys([function["name"], *(places[name] for name in at if name in places)]))
