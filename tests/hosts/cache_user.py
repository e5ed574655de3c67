"""A process that compiles one kernel for a card that is not here, at the moment at which others do: run as a script.

It says `ready`, waits for a file to appear, compiles, and prints a hash of the machine code it then has.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from pathlib import Path

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.cache import FileCacheManager


@triton.jit
def increase(x, out, n: tl.constexpr):  # type: ignore[no-untyped-def]
    places = tl.arange(0, n)
    tl.store(out + places, tl.load(x + places) + 1.0)


class Torn(FileCacheManager):  # type: ignore[misc]
    """The planted defect: a file is there before it is whole."""

    def put(self, data: bytes | str, filename: str, binary: bool = True) -> str:
        raw = data if isinstance(data, bytes) else str(data).encode()
        path = os.path.join(self.cache_dir, filename)
        with open(path, "wb", buffering=0) as file:
            file.write(raw[: len(raw) // 2])
            time.sleep(0.3)
            file.write(raw[len(raw) // 2 :])
        return path


def main(door: str) -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while not Path(door).exists():
        time.sleep(0.005)
    source = ASTSource(increase, {"x": "*fp32", "out": "*fp32", "n": "constexpr"}, {"n": 128})
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32))
    sys.stdout.write(hashlib.sha256(compiled.asm["cubin"]).hexdigest())


if __name__ == "__main__":
    main(sys.argv[1])
