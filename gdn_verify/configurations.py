"""Every configuration of a path as a path of its own: all tiles and autotuned choices, not only the ones it would take.

A configuration that never wins on one card wins on another, and is then run for the first time by a user.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from gdn_verify.facts import Question, measure
from gdn_verify.hosts import Host
from gdn_verify.paths import Path, find


@dataclass(frozen=True)
class ConfigurationsOf:
    """Asks a path for the names of all its configurations on a host, once it is loaded there."""

    path: str
    host: str

    def measured(self, path: Path, host: Host) -> Sequence[tuple[str, str]]:
        """(name, host) of each; the path itself where it has no choice."""
        names = [f"{path.name}:{_words(settings)}" for settings in path.configurations()]
        return [(name, host.name) for name in names or [path.name]]


def _words(settings: Mapping[str, int]) -> str:
    return "/".join(f"{field}={value}" for field, value in settings.items())


def configurations(
    paths: Iterable[Path],
    hosts: Iterable[str],
    *,
    workers: int | None = None,
    progress: Callable[[Question[tuple[str, str]]], None] = lambda question: None,
) -> tuple[list[tuple[Path, str]], dict[tuple[str, str], str]]:
    """Every configuration of `paths` with the host it is for, and by path and host why others could not be asked."""
    wanted = [ConfigurationsOf(path.name, host) for host in hosts for path in paths if host in path.hosts]
    found, absent = measure(wanted, workers=workers, progress=progress)
    return [(find(name), host) for name, host in found], absent
