"""Words of a command line: names of paths, and of what else is listed. A word that is not known ends the command."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path as File
from typing import TypeVar

import typer
from rich.console import Console
from rich.text import Text

from gdn_verify.cases.codec import CaseFile, CaseFileError, load
from gdn_verify.hosts import DEFAULT, HOSTS
from gdn_verify.paths import (
    BrokenPluginError,
    Path,
    Subject,
    UnknownPathError,
    find,
    find_subject,
    registered,
    subjects,
)
from gdn_verify.probe import absence_of

USAGE = 2
"""Exit status of a command that could not be understood."""
T = TypeVar("T")


def refuse(message: str) -> typer.Exit:
    """Say why on stderr; what to raise."""
    Console(stderr=True).print(Text(f"gdn-verify: {message}", style="red"), soft_wrap=True)
    return typer.Exit(USAGE)


def paths_of(names: str) -> list[Path]:
    """Paths of a layer by their names, separated by commas; all for "". Raises typer.Exit for one that is unknown."""
    return _found(names, find, registered)


def subjects_of(names: str) -> list[Subject]:
    """Likewise, table builders too."""
    return _found(names, find_subject, subjects)


def _found(names: str, by_name: Callable[[str], T], known: Callable[[], Mapping[str, T]]) -> list[T]:
    try:
        return [by_name(name.strip()) for name in names.split(",")] if names else [*known().values()]
    except (UnknownPathError, BrokenPluginError) as error:
        raise refuse(str(error)) from None


def case_of(file: File) -> CaseFile:
    """The case of a file. Raises typer.Exit for one that cannot be read or holds none."""
    try:
        return load(file)
    except CaseFileError as error:
        raise refuse(str(error)) from None


def host_of(subject: Subject, given: str) -> str:
    """The host `given`, one of the subject's; for "" its first that can run here, or its first. Raises typer.Exit."""
    hosts = words_of(given, subject.hosts, f"host of {subject.name}")
    return next((name for name in hosts if absence_of(name) is None), hosts[0])


def hosts_of(given: str) -> list[str]:
    """The hosts `given`, separated by commas; for "" all that need not be asked for. Raises typer.Exit."""
    return words_of(given, HOSTS, "host") if given else list(DEFAULT)


def words_of(given: str, known: Iterable[str], what: str) -> list[str]:
    """The words `given`, separated by commas; all that are `known` for "". Raises typer.Exit for one that is not."""
    known = list(known)
    chosen = [word.strip() for word in given.split(",")] if given else known
    for word in chosen:
        if word not in known:
            raise refuse(f"no {what} is called {word!r}; known are {', '.join(known)}")
    return chosen
