"""Whose core runs in the engine: a path of this suite, with or without a planted defect, or the engine's own.

Words of a command line: `stock`, `oracle`, the name of any path that takes a whole core (`dispatch-o`), with `!DEFECT`
behind it for a defective copy (`dispatch-o!dropped_decay`), or `@KIND` for one kind of launch alone, all others being
left to the engine's own core (`oracle@decode`). `conv` is the engine's own core with this project's conv in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gdn_verify.cases.contract import Kind, Span, Stage
from gdn_verify.mutants import NAMES
from gdn_verify.paths import Path, UnknownPathError, find
from gdn_verify.paths.base import Launch, Outputs

STOCK = "stock"
ORACLE = "oracle"
CONV = "conv"
OWN = (STOCK, CONV)
"""Cores that are the engine's, or are inside it."""
STOCK_PATHS = {"cpu": "vllm-cpu-core", "cuda": "vllm-core", "rocm": "vllm-core"}
"""The path of this suite that runs the engine's own core, by the seam of the platform: it declares how that rounds."""
SPANS = (Span(Stage.CONV, Stage.DELTA), Span(Stage.UNPACK, Stage.DELTA))
"""What a core may span: an engine's own norm comes after it, and its own unpacking before."""


@dataclass(frozen=True)
class Variant:
    """A core by name: `core` is `stock`, `oracle` or a path; `fault` a defect, "" for none; `noise` which run of honest
    noise an oracle makes, 0 for none, by the roundings that the path `sites` declares."""

    core: str
    fault: str = ""
    noise: int = 0
    sites: str = ""
    only: Kind | None = None

    def __str__(self) -> str:
        marks = (("!", self.fault), ("@", self.only), ("~", self.noise))
        return self.core + "".join(f"{mark}{word}" for mark, word in marks if word)

    def leaves(self, kind: Kind) -> bool:
        """Whether launches of this kind are the engine's own core's."""
        return self.core in OWN or self.only not in (None, kind)


def whose(core: str, way: str) -> str:
    """The path that rounds as a core does: its own, and for the engine's, on the platform `way`, this suite's of it."""
    return STOCK_PATHS.get(way, STOCK_PATHS["cpu"]) if core in OWN else core


def variant(word: str) -> Variant:
    """The variant that a word names. Raises UnknownPathError for one that cannot run in an engine."""
    rest, _, kind = word.partition("@")
    core, _, fault = rest.partition("!")
    if kind and kind not in [*Kind]:
        raise UnknownPathError(f"no kind of launch is called {kind!r}; known are {', '.join(Kind)}")
    made = Variant(core, fault, only=Kind(kind) if kind else None)
    if core not in OWN:
        path_of(core)
    if fault and fault not in known_faults():
        raise UnknownPathError(f"no fault is called {fault!r}; known are {', '.join(known_faults())}")
    if fault and core in OWN:
        raise UnknownPathError(f"{word!r}: faults are planted in paths, not in the engine's own core; name a path")
    return made


def path_of(core: str) -> Path:
    """The path called so. Raises UnknownPathError where it does not take a whole core."""
    if core == ORACLE:
        from gdn_verify.e2e.oracle import Oracle

        return Oracle()
    path = find(core)
    if path.capabilities.span not in SPANS:
        spans = " or ".join(map(str, SPANS))
        raise UnknownPathError(f"{core!r} is a path of {path.capabilities.span}; a core in an engine is {spans}")
    return path


def known_faults() -> tuple[str, ...]:
    """Names of all defects that can be planted in an engine: the suite's own, and those of engines."""
    from gdn_verify.e2e.faults import PATH_FAULTS, TABLE_FAULTS

    return (*PATH_FAULTS, *TABLE_FAULTS, *NAMES)


def planted(path: Path, fault: str) -> Callable[[Launch], Outputs]:
    """The path's `run`, or that of a copy with the fault planted."""
    if not fault:
        return path.run
    from gdn_verify.e2e.faults import run_of

    return run_of(path, fault)
