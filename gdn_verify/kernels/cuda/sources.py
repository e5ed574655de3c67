"""A kernel's whole source as one text without `#include`, for a compiler that has no headers.

It is, in this order: the machine (`source/machine.cuh`, or `emulated/machine.h` on a plain processor), the conversions
between numbers, the constants and types of this specialisation, the struct of its arguments, and the kernel with what
it includes. The text is all that a compiled kernel depends on, beside the compiler and its options.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import torch

NVIDIA = "source/machine.cuh"
PROCESSOR = "emulated/machine.h"
NUMBERS = "source/numbers.cuh"

TYPES = {torch.float32: "float", torch.bfloat16: "Bfloat16", torch.float16: "Float16"}
_INCLUDE = re.compile(r'^#include "([\w.]+)"\n', re.MULTILINE)

Constant = int | bool | torch.dtype


def specialised(kernel: str, machine: str, arguments: str, constants: Mapping[str, Constant]) -> str:
    """The source of `kernel` ("decode.cu") for these constants; `arguments` is the text of its struct."""
    said = "".join(_said(name, value) for name, value in constants.items())
    return whole(machine) + whole(NUMBERS) + said + arguments + whole(f"source/{kernel}")


def read(name: str) -> str:
    """A source file of this package."""
    return files("gdn_verify.kernels.cuda").joinpath(name).read_text()


@cache
def whole(name: str) -> str:
    """A file with its includes in their places, and line numbers that are the files' own."""
    folder = name.rpartition("/")[0]
    text, before, parts = read(name), 0, []
    for found in _INCLUDE.finditer(text):
        line = text.count("\n", 0, found.end()) + 1
        parts += [text[before : found.start()], whole(f"{folder}/{found[1]}"), f'#line {line} "{name}"\n']
        before = found.end()
    return "".join([f'#line 1 "{name}"\n', *parts, text[before:]])


def _said(name: str, value: Constant) -> str:
    if isinstance(value, torch.dtype):
        return f"using {name} = {TYPES[value]};\n"
    kind = "bool" if isinstance(value, bool) else "int"
    return f"constexpr {kind} {name} = {str(value).lower()};\n"
