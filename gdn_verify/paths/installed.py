"""What other projects' packages are installed, in which version, and the functions that they have."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any


def version_of(*packages: str) -> str:
    """The version of the first of these packages that is installed, "" where none is."""
    for package in packages:
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return ""


def release_of(found: str) -> tuple[int, ...]:
    """The numbers of a version, (0, 5, 23) of 0.5.23rc1; () of ""."""
    from packaging.version import Version

    return Version(found).release if found else ()


def function(entry: str) -> Callable[..., Any]:
    """What "module:name" stands for when it is called: a recorder may have taken its place."""
    module, _, name = entry.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found
