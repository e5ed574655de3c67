"""Copies of the Triton kernels' package with places of its source changed. They live in memory; no file is touched.

A copy is a package of another name, whose modules import each other and nothing of the original. Whoever asks for a
function's source, as Triton does, is given the copy's.
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.abc import ExecutionLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from itertools import count
from pathlib import Path as FilePath
from types import ModuleType
from unittest.mock import patch

PACKAGE = "gdn_verify.kernels.triton"
Launchers = tuple[tuple[str, str], ...]
"""Modules, and functions in them that launch kernels."""
PREFILL: Launchers = (("chunk", "chunk_delta"), ("conv_prefill", "conv_prefill"))
DECODE: Launchers = (
    ("decode", "fused_decode"),
    ("spec", "fused_spec_decode"),
    ("two_launch", "conv_update"),
    ("two_launch", "delta_update"),
)
Change = tuple[str, str, str]
"""(file, what stands there once, what stands there instead)."""
_COPIES = count()
"""Numbers for the copies: a module of one name is imported once."""


class _Copy(ExecutionLoader, MetaPathFinder):
    """Finds and loads the modules of one copy."""

    def __init__(self, name: str, changes: Sequence[Change]) -> None:
        self.name = name
        self.folder = FilePath(next(iter(import_module(PACKAGE).__path__)))
        self.sources = {file.name: file.read_text() for file in self.folder.glob("*.py")}
        for change in changes:
            self._plant(*change)
        for file, text in self.sources.items():
            self.sources[file] = text.replace(PACKAGE, name)

    def _plant(self, file: str, right: str, wrong: str) -> None:
        times = self.sources[file].count(right)
        if times != 1:
            raise LookupError(f"{file} has {right!r} {times} times; plant the defect anew")
        self.sources[file] = self.sources[file].replace(right, wrong)

    def find_spec(self, fullname: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if self._file(fullname) not in self.sources:
            return None
        return ModuleSpec(fullname, self, origin=self.get_filename(fullname), is_package=fullname == self.name)

    def _file(self, fullname: str) -> str:
        if fullname == self.name:
            return "__init__.py"
        package, _, module = fullname.rpartition(".")
        return f"{module}.py" if package == self.name else ""

    def get_filename(self, fullname: str) -> str:
        return f"{self.name}/{self._file(fullname)}"

    def get_source(self, fullname: str) -> str:
        text, file = self.sources[self._file(fullname)], self.get_filename(fullname)
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
        return text


def copied(*changes: Change) -> str:
    """The name of a package that is the kernels' but for these changes; one that has no place raises LookupError."""
    copy = _Copy(f"planted_{next(_COPIES)}", changes)
    sys.meta_path.insert(0, copy)
    return copy.name


@contextmanager
def launching(package: str, launchers: Launchers = (*PREFILL, *DECODE)) -> Iterator[None]:
    """Whoever calls one of these functions within the block launches the kernels of `package`."""
    with ExitStack() as stack:
        for module, function in launchers:
            other = getattr(import_module(f"{package}.{module}"), function)
            stack.enter_context(patch.object(import_module(f"{PACKAGE}.{module}"), function, other))
        yield
