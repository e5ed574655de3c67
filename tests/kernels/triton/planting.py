"""Defects by their source: copies of the kernels' package with one place changed."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
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
_COPIES = count()
"""Numbers for the copies: a module of one name is imported once."""


@dataclass(frozen=True)
class Edit:
    """`wrong` in the place of `right` in a source file."""

    name: str
    file: str
    right: str
    wrong: str

    def __str__(self) -> str:
        return f"{self.file.removesuffix('.py')}: {self.name}"

    @contextmanager
    def copy(self) -> Iterator[str]:
        """The name of a package that is the kernels' but for this edit; it can be imported while the context lasts."""
        source = Path(import_module(PACKAGE).__path__[0])
        with TemporaryDirectory() as folder, patch.object(sys, "path", [folder, *sys.path]):
            copy = Path(folder) / f"planted_{next(_COPIES)}"
            shutil.copytree(source, copy)
            for path in copy.glob("*.py"):
                path.write_text(path.read_text().replace(PACKAGE, copy.name))
            self._plant(copy / self.file)
            yield copy.name

    def _plant(self, file: Path) -> None:
        text = file.read_text()
        times = text.count(self.right)
        assert times == 1, f"{self.file} has {self.right!r} {times} times; plant the defect anew"
        file.write_text(text.replace(self.right, self.wrong))


@contextmanager
def planted(edit: Edit, launchers: Launchers = PREFILL) -> Iterator[None]:
    """Whoever calls one of these functions from now on launches kernels of a copy."""
    with edit.copy() as package, ExitStack() as stack:
        for module, function in launchers:
            other = getattr(import_module(f"{package}.{module}"), function)
            stack.enter_context(patch.object(import_module(f"{PACKAGE}.{module}"), function, other))
        yield
