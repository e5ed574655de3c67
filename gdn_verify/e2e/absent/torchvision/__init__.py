"""In the place of torchvision: everything can be imported from it, and nothing can be called.

vLLM's module of Qwen3.5 imports the processors of the vision model beside it, and those import torchvision; the package
index's torchvision is built for CUDA and does not load beside a torch without it. A stand-in for some submodules alone
would be worse than none: transformers then goes on to import the others.
"""

from __future__ import annotations

import enum
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__version__ = "0.28.0"
__path__ = []


class InterpolationMode(enum.Enum):
    """Members are looked up while classes are made."""

    NEAREST = "nearest"
    NEAREST_EXACT = "nearest-exact"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    BOX = "box"
    HAMMING = "hamming"
    LANCZOS = "lanczos"


class _Absent(ModuleType):
    """A submodule, of which every name can be had."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "InterpolationMode":
            return InterpolationMode
        made = type(name, (), {}) if name[0].isupper() else _refusing(f"{self.__name__}.{name}")
        setattr(self, name, made)
        return made


def _refusing(name: str) -> Any:
    def refuse(*args: object, **kwargs: object) -> Any:
        raise RuntimeError(f"{name}: torchvision is not installed here, and this stands in for it while it is imported")

    return refuse


class _Finder(MetaPathFinder, Loader):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Every submodule exists."""
        return ModuleSpec(name, self, is_package=True) if name.startswith(f"{__name__}.") else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """A module of which every name can be had."""
        module = _Absent(spec.name)
        module.__path__ = []
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is left to do."""


sys.meta_path.insert(0, _Finder())


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    from importlib import import_module

    return import_module(f"{__name__}.{name}")
