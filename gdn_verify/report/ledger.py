"""The ledger of healthy runs: what was judged when, with which versions, and how often a right kernel was accused.

A file of JSON, a run a line. A gate that accuses right kernels is switched off, so every run of healthy paths counts.
"""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path as File
from typing import Any

from gdn_verify.report.tally import GIVEN_UP, STANDING, Report

PACKAGES = ("torch", "triton", "numpy", "numba", "fla-core", "transformers")
"""Whose versions are kept."""


@dataclass(frozen=True)
class Line:
    """Cases of one path, host and kind in a run: how many were judged, and how many of them some check accused."""

    path: str
    host: str
    kind: str
    version: str
    cases: int
    accused: int


@dataclass(frozen=True)
class Entry:
    """A run. `seed` names its cases; `commit` is "" where the sources are in no checkout."""

    date: str
    command: str
    profile: str
    seed: int
    commit: str
    versions: dict[str, str]
    devices: list[str]
    lines: list[Line]


def entry(report: Report, command: str, profile: str, seed: int) -> Entry:
    """What a finished run adds to a ledger."""
    today = datetime.now(UTC).date().isoformat()
    return Entry(today, command, profile, seed, _commit(), dict(versions()), report.devices, list(_lines(report)))


def _lines(report: Report) -> Iterator[Line]:
    accused = [failure for failure in report.failures if failure.finding.kind != GIVEN_UP]
    for row in report.rows:
        if row.check in STANDING and (ran := row.cases - row.refused - row.missing):
            files = {f.file for f in accused if (f.path, f.host, f.kind) == (row.path, row.host, row.kind)}
            yield Line(row.path, row.host, row.kind, row.version, ran, len(files))


def versions() -> Iterator[tuple[str, str]]:
    yield "python", platform.python_version()
    for package in PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            continue


def _commit() -> str:
    """The checkout's commit, with a + where files differ from it."""
    git = ["git", "-C", str(File(__file__).parent), "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def append(file: File, run: Entry) -> None:
    """Add a run to a ledger, which is made if it is not there."""
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(asdict(run)) + "\n")


def read(file: File) -> list[Entry]:
    """All runs of a ledger. Raises ValueError for a line that is none, with its number."""
    return [_parsed(file, number, text) for number, text in enumerate(file.read_text("utf-8").splitlines(), 1)]


def _parsed(file: File, number: int, text: str) -> Entry:
    try:
        data: dict[str, Any] = json.loads(text)
        return Entry(**{**data, "lines": [Line(**line) for line in data["lines"]]})
    except (TypeError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{file}:{number}: no run of a ledger ({error}); remove the line") from None


def totals(runs: Iterable[Entry]) -> list[Line]:
    """Distinct cases of each path, host and kind, and those accused; cases of one seed are the same ones."""
    most: dict[tuple[str, str, str], dict[tuple[str, int], Line]] = {}
    for run in runs:
        for line in run.lines:
            seeds = most.setdefault((line.path, line.host, line.kind), {})
            had = seeds.get((run.profile, run.seed))
            accused = max(line.accused, had.accused if had else 0)
            cases = max(line.cases, had.cases if had else 0)
            seeds[run.profile, run.seed] = Line(*_key(line), line.version, cases, accused)
    return [
        Line(*key, "", sum(line.cases for line in seeds.values()), sum(line.accused for line in seeds.values()))
        for key, seeds in sorted(most.items())
    ]


def _key(line: Line) -> tuple[str, str, str]:
    return line.path, line.host, line.kind
