"""All paths and table builders that this installation knows: its own, and those of other packages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points

from gdn_verify.paths.base import Path
from gdn_verify.paths.builder import Builder

Subject = Path | Builder
"""What a gate judges: an implementation of stages, or of tables."""
GROUP = "gdn_verify.paths"
CONFIGURED = re.compile(r"([^:]+):(\w+=\d+(?:/\w+=\d+)*)")


class UnknownPathError(LookupError):
    """No path has this name; the message lists those that exist."""


class BrokenPluginError(ImportError):
    """Another package's entry point raises; the message names it."""


OURS = ("fallback", "stages", "fused", "cuda", "chunk", "cuda_chunk", "checkpoints", "norm", "dispatch")
THEIRS = (
    "transformers", "transformers_layer", "fla", "fla_layer", "vllm_triton", "vllm_cpu",
    "aiter", "flashinfer", "sglang",
)  # fmt: skip
"""Modules of this package, each of which has `paths()`: a line an implementation."""


def _own() -> Iterator[Subject]:
    from gdn_verify.paths import tables

    for name in (*OURS, *THEIRS):
        yield from import_module(f"gdn_verify.paths.{name}").paths()
    yield from tables.builders()


def registered() -> dict[str, Path]:
    """Every path of a layer by name, this project's own first. Raises as `subjects`."""
    return {name: subject for name, subject in subjects().items() if not isinstance(subject, Builder)}


@cache
def subjects() -> dict[str, Subject]:
    """Every path and table builder by name. Raises BrokenPluginError, and ValueError for a name used twice."""
    found: dict[str, Subject] = {}
    for path in (*_own(), *_theirs()):
        if path.name in found:
            raise ValueError(f"two paths are called {path.name!r}: {found[path.name]!r} and {path!r}")
        found[path.name] = path
    return found


def _theirs() -> Iterator[Subject]:
    for entry in entry_points(group=GROUP):
        try:
            yield from entry.load()()
        except Exception as error:
            words = (
                f"entry point {entry.name!r} = {entry.value!r} of group {GROUP} raised {type(error).__name__}: {error}"
            )
            raise BrokenPluginError(words) from error


def find(name: str) -> Path:
    """The path called `name`, another configuration of one (`Path.configured`), or several joined by "+" (`Relay`).

    Raises UnknownPathError.
    """
    known = subjects().get(name)
    if isinstance(known, Builder):
        layers = ", ".join(registered())
        raise UnknownPathError(f"{name!r} builds tables and computes no layer; paths that do are {layers}")
    path = known or _relay(name) or _configured(name)
    if path is None:
        raise UnknownPathError(f"no path is called {name!r}; known are {', '.join(subjects())}")
    return path


def find_subject(name: str) -> Subject:
    """The table builder called `name`, or the path that `find` finds. Raises UnknownPathError."""
    builder = subjects().get(name)
    return builder if isinstance(builder, Builder) else find(name)


@cache
def _relay(name: str) -> Path | None:
    """Several paths as one; raises ContractError where they do not fit together."""
    from gdn_verify.paths.relay import Relay

    members = name.split("+")
    return Relay([find(member) for member in members]) if len(members) > 1 else None


@cache
def _configured(name: str) -> Path | None:
    if (parts := CONFIGURED.fullmatch(name)) is None or (path := registered().get(parts[1])) is None:
        return None
    pairs = (pair.partition("=") for pair in parts[2].split("/"))
    other = path.configured({field: int(value) for field, _, value in pairs})
    if other is not None:
        other.name = name
    return other
