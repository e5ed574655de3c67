"""The kernels with places of their source changed, as modules of the same names. They are in memory alone.

Adapters import a kernel when they launch it. Within `live`, whoever imports one gets the changed package.
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import ExecutionLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from itertools import count
from pathlib import Path as FilePath
from types import ModuleType

from gdn_verify.paths.base import Launch, Outputs, Path

PACKAGE = "gdn_verify.kernels"
Change = tuple[str, str, str]
"""(file, as "triton/chunk.py"; what stands there once; what stands there instead)."""
_NUMBERS = count()
"""Of changed files: Python keeps what it has read under a file's name."""


def folder() -> FilePath:
    """Where the kernels' sources are, without importing any of them."""
    spec = find_spec(PACKAGE)
    assert spec is not None
    assert spec.origin is not None
    return FilePath(spec.origin).parent


def changed(*changes: Change) -> dict[str, str]:
    """The changed files' text, by name. Raises LookupError for a place that is not there exactly once."""
    texts: dict[str, str] = {}
    for file, right, wrong in changes:
        text = texts.get(file) or (folder() / file).read_text()
        if (times := text.count(right)) != 1:
            raise LookupError(f"{file} has {right!r} {times} times; plant the defect anew")
        texts[file] = text.replace(right, wrong)
    return texts


class _Loader(ExecutionLoader, MetaPathFinder):
    """Finds the changed modules and loads them; all others are found as ever."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self.texts = {_module(file): text for file, text in texts.items()}
        self.number = next(_NUMBERS)

    def find_spec(self, fullname: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname not in self.texts:
            return None
        return ModuleSpec(fullname, self, origin=self.get_filename(fullname))

    def get_filename(self, fullname: str) -> str:
        return f"planted_{self.number}/{fullname.removeprefix(PACKAGE + '.').replace('.', '/')}.py"

    def get_source(self, fullname: str) -> str:
        # Triton asks for the source of a kernel, by its file's name.
        text, file = self.texts[fullname], self.get_filename(fullname)
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
        return text


def _module(file: str) -> str:
    return f"{PACKAGE}.{file.removesuffix('.py').replace('/', '.')}"


class Kernels:
    """The kernels' package with other texts in the place of some of its files."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._loader = _Loader(texts)
        self._modules: dict[str, ModuleType] = {}

    @contextmanager
    def live(self) -> Iterator[None]:
        """Whoever imports a kernel within the block gets one of this package."""
        right = _taken()
        _put(self._modules)
        sys.meta_path.insert(0, self._loader)
        try:
            yield
        finally:
            sys.meta_path.remove(self._loader)
            self._modules = _taken()
            _put(right)

    def running(self, path: Path) -> Callable[[Launch], Outputs]:
        """The path's `run` on these kernels."""

        def run(launch: Launch) -> Outputs:
            with self.live():
                return path.run(launch)

        return run

    def stay(self) -> None:
        """The same for the rest of this process."""
        _taken()
        sys.meta_path.insert(0, self._loader)


def _taken() -> dict[str, ModuleType]:
    """The kernels' modules, no longer among those imported."""
    names = [name for name in sys.modules if name == PACKAGE or name.startswith(f"{PACKAGE}.")]
    return {name: sys.modules.pop(name) for name in names}


def _put(modules: Mapping[str, ModuleType]) -> None:
    sys.modules.update(modules)
    if PACKAGE in modules:  # `import a.b` binds a, and finds b as its attribute
        parent, _, name = PACKAGE.rpartition(".")
        setattr(import_module(parent), name, modules[PACKAGE])


__all__ = ["PACKAGE", "Change", "Kernels", "changed", "folder"]
