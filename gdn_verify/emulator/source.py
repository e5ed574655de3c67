"""Where in a kernel's source an access happens."""

from __future__ import annotations

import linecache
import os
import sys
from types import CodeType

import triton

_TRITON = os.path.dirname(triton.__file__)
_HERE = os.path.dirname(__file__)
_MACHINERY = frozenset(
    os.path.join(_HERE, f"{name}.py")
    for name in (
        "builder",
        "checked_builder",
        "fastpath",
        "findings",
        "undefined",
        "language",
        "launch",
        "memory_check",
        "source",
    )
)
_is_machinery: dict[CodeType, bool] = {}

Line = tuple[CodeType, int]
"""A function and a line of its file."""


def line() -> Line:
    """The line of device code that is running."""
    frame = sys._getframe(1)
    while _inner(frame.f_code):
        frame = frame.f_back  # type: ignore[assignment]
    return frame.f_code, frame.f_lineno


def _inner(code: CodeType) -> bool:
    """Whether a function belongs to Triton or to the interpreter, not to a kernel."""
    try:
        return _is_machinery[code]
    except KeyError:
        file = code.co_filename
        return _is_machinery.setdefault(code, file.startswith(_TRITON) or file in _MACHINERY)


def calls() -> str:
    """The line that is running, its text, and the lines of the kernel by which it was reached."""
    frame = sys._getframe(1)
    lines: list[Line] = []
    while frame is not None and frame.f_code.co_name != "run_programs":
        if not _inner(frame.f_code):
            lines.append((frame.f_code, frame.f_lineno))
        frame = frame.f_back  # type: ignore[assignment]
    return ", called at ".join([written(*lines[0]), *(place(*each) for each in lines[1:])])


def place(code: CodeType, number: int) -> str:
    """File, line and function."""
    return f"{os.path.basename(code.co_filename)}:{number} in {code.co_name}"


def written(code: CodeType, number: int) -> str:
    """The place and the text of the line."""
    text = linecache.getline(code.co_filename, number).strip()
    return f"{place(code, number)} `{text}`" if text else place(code, number)
