"""What a run left: a record a contender and setting, samples and all; runs of several machines and days in one file."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path as File
from typing import Any

from gdn_verify.bench.machine import Machine

SCHEMA = 2
READABLE = (1, SCHEMA)
"""Schema 1 had decodes only, and their records lack what has a default."""
NULL = "null"
TOUCH = "touch"
"""Names of the yardsticks: an empty launch, and (the beginning of) those of passes over the states."""


class Verdict(StrEnum):
    """What became of a contender at a setting; only the first two may have times."""

    AGREES = "agrees"
    YARDSTICK = "yardstick"
    DISAGREES = "disagrees"
    REFUSED = "refused"
    RAISED = "raised"


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of samples."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, samples: tuple[float, ...]) -> Spread:
        """Inclusive quartiles: every sample was seen, none is estimated. Raises ValueError without samples."""
        if not samples:
            raise ValueError("samples=(): a spread needs at least one sample")
        if len(samples) == 1:
            return cls(samples[0], samples[0], samples[0])
        low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
        return cls(median, low, high)


@dataclass(frozen=True, order=True)
class Column:
    """A column of a table: ordered by size, called by its label."""

    size: int
    rows: int
    label: str


@dataclass(frozen=True)
class Record:
    """One contender at one setting. Times are microseconds a layer; without them stands `words`, the reason.

    `span` is "" for a yardstick. `ratio` and `limit` are the error in budgets and its limit. `launches` a layer, None
    if unknown. `floor_bytes` is the least that these stages move.

    Of a prefill S is 0, `lengths` says in a word how many tokens its rows have, `tokens` how many all have, and `fresh`
    that no row had a state. `judged_heads` is how many value heads were held to the equations, 0 for all. `clock` is
    how this record was timed, "" for the run's clock.
    """

    contender: str
    version: str
    span: str
    H: int
    HV: int
    K: int
    V: int
    S: int
    rows: int
    state: str
    verdict: Verdict
    words: str = ""
    ratio: float = 0.0
    limit: float = 0.0
    layers: int = 0
    launches: float | None = None
    floor_bytes: int = 0
    device_us: tuple[float, ...] = ()
    host_us: tuple[float, ...] = ()
    tokens: int = 0
    lengths: str = ""
    fresh: bool = False
    judged_heads: int = 0
    clock: str = ""

    def __post_init__(self) -> None:
        if self.device_us and self.verdict not in (Verdict.AGREES, Verdict.YARDSTICK):
            raise ValueError(f"{self.contender}: verdict={self.verdict!r} has times; only what agrees is timed")

    @property
    def device(self) -> Spread:
        """Device time, µs a layer."""
        return Spread.of(self.device_us)

    @property
    def host(self) -> Spread:
        """The host's time for a launch, µs a layer."""
        return Spread.of(self.host_us)

    @property
    def rate(self) -> float:
        """Floor bytes over the median time, in TB/s."""
        return self.floor_bytes / self.device.median / 1e6

    @property
    def problem(self) -> tuple[int, int, int, int, int, str]:
        """H, HV, K, V, S and what the states are: what is shown together."""
        return self.H, self.HV, self.K, self.V, self.S, self.state + (", fresh" if self.fresh else "")

    @property
    def column(self) -> Column:
        """Where it stands in a table."""
        return Column(self.tokens or self.rows, self.rows, self.lengths or str(self.rows))


@dataclass(frozen=True)
class Run:
    """All records of one process on one machine. Ratios are formed within a run only.

    `missing` are contenders that could not be had, `stopped` settings that could not be measured, with the reasons.
    """

    machine: Machine
    date: str
    clock: str
    means_something: bool
    gdn_verify: str
    records: tuple[Record, ...]
    missing: tuple[str, ...] = ()
    stopped: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every setting was measured, and nobody was wrong."""
        wrong = (Verdict.DISAGREES, Verdict.RAISED)
        return not self.stopped and not any(record.verdict in wrong for record in self.records)


class RunFileError(ValueError):
    """A file that holds no runs of this schema; the message names the file."""


def dumps(runs: Iterable[Run]) -> str:
    """Runs as JSON."""
    return json.dumps({"schema": SCHEMA, "runs": [asdict(run) for run in runs]}, indent=1) + "\n"


def load(file: File) -> list[Run]:
    """The runs of a file that `dumps` filled. Raises RunFileError for anything else."""
    try:
        body = json.loads(file.read_text(encoding="utf-8"))
        if body["schema"] not in READABLE:
            raise RunFileError(f"{file}: schema {body['schema']!r}; this version reads up to {SCHEMA}")
        return [_run(run) for run in body["runs"]]
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise RunFileError(f"{file} holds no benchmark runs: {type(error).__name__}: {error}") from None


def _run(body: dict[str, Any]) -> Run:
    records = tuple(_record(record) for record in body["records"])
    lines = {name: tuple(body[name]) for name in ("missing", "stopped")}
    return Run(**{**body, **lines, "machine": Machine(**body["machine"]), "records": records})


def _record(body: dict[str, Any]) -> Record:
    samples = {name: tuple(body[name]) for name in ("device_us", "host_us")}
    return Record(**{**body, **samples, "verdict": Verdict(body["verdict"])})


def merge(groups: Iterable[Iterable[Run]]) -> list[Run]:
    """All runs, oldest first, each once."""
    runs = [run for group in groups for run in group]
    return sorted(dict.fromkeys(runs), key=lambda run: run.date)
