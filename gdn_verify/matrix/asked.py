"""Facts of a path as cells: several questions in one worker, and each by itself where that worker dies of one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gdn_verify.facts import ask
from gdn_verify.hosts import Host
from gdn_verify.matrix.cells import Cell, Key
from gdn_verify.paths import Path

Place = tuple[str, str]


class Part(Protocol):
    """A question of a path on a host, in one worker or in several."""

    @property
    def path(self) -> str:
        """The path's name."""

    @property
    def host(self) -> str:
        """The host's."""

    def measured(self, path: Path, host: Host) -> Sequence[Any]:
        """The answers, in the worker."""

    def singly(self) -> Iterable[Part]:
        """The same as questions of one answer each."""

    def cells(self, answers: Sequence[Any]) -> dict[Key, Cell]:
        """The answers as cells."""

    def lost(self, reason: str) -> dict[Key, Cell]:
        """The cells of a question that has no answer."""


@dataclass(frozen=True)
class _Bundle:
    """All questions of a path on a host, for one worker."""

    path: str
    host: str
    parts: tuple[Part, ...]

    def measured(self, path: Path, host: Host) -> list[Sequence[Any]]:
        """The answers, part by part."""
        return [part.measured(path, host) for part in self.parts]


def measure(wanted: Iterable[Part], workers: int | None) -> dict[Place, dict[Key, Cell]]:
    """By path and host the cells of all questions."""
    grouped: dict[Place, list[Part]] = {}
    for part in wanted:
        grouped.setdefault((part.path, part.host), []).append(part)
    bundles = [_Bundle(*place, tuple(parts)) for place, parts in grouped.items()]
    found: dict[Place, dict[Key, Cell]] = {place: {} for place in grouped}
    alone: list[Part] = []
    for bundle, answers in zip(bundles, ask(bundles, workers=workers), strict=True):
        if isinstance(answers, str):
            alone += [one for part in bundle.parts for one in part.singly()]
            continue
        for part, answer in zip(bundle.parts, answers, strict=True):
            found[part.path, part.host] |= part.cells(answer)
    for part, answer in zip(alone, ask(alone, workers=workers), strict=True):
        found[part.path, part.host] |= part.lost(answer) if isinstance(answer, str) else part.cells(answer)
    return found


def last_line(reason: str) -> str:
    """What a traceback, or a death, comes to."""
    return reason.strip().splitlines()[-1] if reason.strip() else "no word"
