"""Two versions of one implementation on the same cases: the same bits, or how far apart in units of rounding noise.

Each version runs in a worker of its own, as two of one package cannot share a process. Both are this suite's paths, and
see the same bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from gdn_verify.cases.codec import CaseFile, dumps
from gdn_verify.hosts import HOSTS
from gdn_verify.hosts.worker import Worker, WorkerDiedError
from gdn_verify.oracles.compose import Array
from gdn_verify.oracles.noise import Expected

TARGET = "gdn_verify.compare_worker:serve"
PATIENCE = 600.0


@dataclass(frozen=True)
class Install:
    """Where a version is: a Python with its packages, and folders that are looked through before those.

    A folder with gdn_verify/kernels in it stands for this project's own kernels.
    """

    name: str
    python: str = sys.executable
    folders: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asked:
    """The first message to a worker: a path, its host and what the version's folders are."""

    path: str
    host: str
    folders: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """A result of a launch, o, out or h: its bits as stored, its values [..., n], and the budget of each row."""

    name: str
    bits: bytes
    values: Array
    budgets: Array


@dataclass(frozen=True)
class Ran:
    """What a version made of a case: results of all launches, seconds of the quickest, or why there are none."""

    results: tuple[Result, ...] = ()
    seconds: float = 0.0
    trouble: str = ""


@dataclass(frozen=True)
class Difference:
    """A case on both versions: the same bits, or the largest distance of a row in budgets, and in which result."""

    file: str
    same: bool
    ratio: float = 0.0
    result: str = ""
    trouble: str = ""
    seconds: tuple[float, float] = (0.0, 0.0)


@dataclass
class Comparison:
    """All cases; `versions` are those that were loaded."""

    versions: tuple[str, str] = ("", "")
    cases: list[Difference] = field(default_factory=list)

    @property
    def moved(self) -> list[Difference]:
        """Cases with other bits or with trouble, the farthest first."""
        return sorted((case for case in self.cases if not case.same), key=lambda case: -case.ratio)

    def exceeds(self, within: float) -> bool:
        """Whether a case moved by more than so many budgets; of 0, whether any bit did."""
        return any(case.ratio > within or (within == 0.0 and not case.same) for case in self.cases)

    @property
    def speed(self) -> float:
        """How many times as long the second took, in the median over cases; 0 where nothing was timed."""
        ratios = [b / a for a, b in (case.seconds for case in self.cases) if a and b]
        return float(np.median(ratios)) if ratios else 0.0


class NotLoadedError(RuntimeError):
    """A version cannot run; the message says which and why."""


def compare(path: str, host: str, installs: tuple[Install, Install], files: Sequence[CaseFile]) -> Comparison:
    """Run every case on both versions, in two workers side by side, one case after the other.

    Raises NotLoadedError.
    """
    found = Comparison()
    with _started(path, host, installs[0], 0) as first, _started(path, host, installs[1], 1) as second:
        found.versions = _version(first, installs[0]), _version(second, installs[1])
        for file in files:
            text = dumps(file)
            ran = [_ran(worker, text) for worker in (first, second)]
            found.cases.append(_difference(text, *ran))
    return found


def _started(path: str, host: str, install: Install, number: int) -> Worker:
    worker = Worker(HOSTS[host], TARGET, number, install.python, install.folders)
    worker.send(Asked(path, host, install.folders))
    return worker


def _version(worker: Worker, install: Install) -> str:
    try:
        answer: tuple[str, str] = worker.receive(PATIENCE)
    except WorkerDiedError as death:
        raise NotLoadedError(f"{install.name}: {death}") from None
    if answer[1]:
        raise NotLoadedError(f"{install.name}: {answer[1]}")
    return answer[0]


def _ran(worker: Worker, text: str) -> Ran:
    try:
        worker.send(text)
        answer: Ran = worker.receive(PATIENCE)
    except WorkerDiedError as death:
        raise NotLoadedError(f"a case ended the worker: {death}") from None
    return answer


def _difference(text: str, first: Ran, second: Ran) -> Difference:
    seconds = first.seconds, second.seconds
    if first.trouble or second.trouble:
        same = first.trouble == second.trouble
        return Difference(text, same, 0.0 if same else np.inf, "", first.trouble or second.trouble, seconds)
    pairs = [*zip(first.results, second.results, strict=True)]
    off = [(_ratio(a, b), a.name) for a, b in pairs if a.bits != b.bits]
    return Difference(text, not off, *max(off, default=(0.0, "")), seconds=seconds)


def _ratio(a: Result, b: Result) -> float:
    ratios = Expected(a.values, np.minimum(a.budgets, b.budgets)).ratios(b.values)
    both = np.isnan(a.values) & np.isnan(b.values)
    return 0.0 if both.all() else float(ratios.max(initial=0.0))
