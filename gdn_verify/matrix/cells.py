"""What a matrix holds: a row for each path, version, host and device, a cell for each thing that was asked of it.

A cell is never silently green: it agrees in so many judged cases, disagrees, is known to, is refused for a reason,
missing with what would install it, or not reached.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

SCHEMA = 1


class MatrixError(ValueError):
    """A file that holds no matrix; the message names the file and what is wrong with it."""


class State(StrEnum):
    """What a cell says."""

    AGREES = "agrees"
    DISAGREES = "disagrees"
    KNOWN = "known"
    REFUSED = "refused"
    MISSING = "missing"
    UNREACHED = "not reached"


class Aspect(StrEnum):
    """What a cell is about: a kind of launch as a whole, a feature in it, and facts that are measured."""

    KIND = "kind"
    FEATURE = "feature"
    DETERMINISM = "determinism"
    INVARIANCE = "batch invariance"
    PADDING = "padding"
    HANDOVER = "hand-over"


@dataclass(frozen=True, order=True)
class Key:
    """Which cell of a row: its aspect, the kind of launch, and a name within them: "ratio: 3", "id -1", a producer."""

    aspect: Aspect
    kind: str = ""
    name: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.aspect.value, self.kind, self.name)))


@dataclass(frozen=True)
class Cell:
    """What was found: of how many `cases`, with what worst ratio, or `why` not.

    `against` counts cases that have the feature and disagree by another one. `case` is one that shows a disagreement.
    """

    state: State
    cases: int = 0
    against: int = 0
    ratio: float = 0.0
    why: str = ""
    case: str = ""


@dataclass(frozen=True)
class Row:
    """All cells of a path as it ran: its version, the host, the device, and the `date` of the run.

    Where it could not run, `missing` says why and what would change it; version and device are empty then.
    """

    path: str
    span: str
    host: str
    version: str = ""
    device: str = ""
    date: str = ""
    reach: float = 0.0
    missing: str = ""
    cells: Mapping[Key, Cell] = field(default_factory=dict)

    @property
    def id(self) -> tuple[str, str, str, str]:
        """What rows of several runs are told apart by."""
        return self.path, self.version, self.host, self.device

    def of(self, aspect: Aspect, kind: str | None = None) -> Iterator[tuple[Key, Cell]]:
        """The cells of one aspect, in order; with `kind`, of that kind."""
        return ((k, c) for k, c in self.cells.items() if k.aspect is aspect and kind in (None, k.kind))

    @property
    def ratio(self) -> float:
        """The worst noise ratio of its launches."""
        return max((cell.ratio for _, cell in self.of(Aspect.KIND)), default=0.0)

    def state(self, *aspects: Aspect) -> State:
        """The worst of its cells of these aspects, all by default; what is refused says nothing beside what is not."""
        if self.missing:
            return State.MISSING
        return worst([cell.state for key, cell in self.cells.items() if not aspects or key.aspect in aspects])


SEVERITY = (State.DISAGREES, State.KNOWN, State.AGREES, State.UNREACHED, State.REFUSED, State.MISSING)


def worst(states: list[State]) -> State:
    """What several cells come to in one word: any that disagrees, then what is known, then what agrees."""
    return min(states, key=SEVERITY.index, default=State.UNREACHED)


@dataclass(frozen=True)
class Run:
    """One run that a matrix is made of: when, of which command, on which devices, for how long, of how many cases."""

    date: str
    command: str
    devices: tuple[str, ...] = ()
    seconds: float = 0.0
    cases: int = 0


@dataclass(frozen=True)
class Matrix:
    """Rows, the runs they come from, and where runs contradict each other."""

    rows: tuple[Row, ...]
    runs: tuple[Run, ...] = ()
    conflicts: tuple[str, ...] = ()

    @property
    def ran(self) -> tuple[Row, ...]:
        """Rows of which something was asked."""
        return tuple(row for row in self.rows if not row.missing)

    @property
    def ok(self) -> bool:
        """Whether nothing disagrees."""
        return not any(True for _ in self.disagreements())

    def disagreements(self) -> Iterator[tuple[Row, Key, Cell]]:
        """Every cell that disagrees."""
        for row in self.rows:
            yield from ((row, k, c) for k, c in row.cells.items() if c.state is State.DISAGREES)

    def as_json(self) -> dict[str, Any]:
        """The matrix as data; `schema` is raised when a key changes its meaning."""
        return {
            "schema": SCHEMA,
            "runs": [asdict(run) for run in self.runs],
            "conflicts": list(self.conflicts),
            "rows": [{**asdict(replace(row, cells={})), "cells": _plain(row)} for row in self.rows],
        }


def _plain(row: Row) -> list[dict[str, Any]]:
    return [{**asdict(key), **asdict(cell), "ratio": min(cell.ratio, 1e300)} for key, cell in row.cells.items()]


def from_json(body: Any, name: str = "the matrix") -> Matrix:
    """The matrix that `as_json` gave. Raises MatrixError for anything else."""
    if not isinstance(body, dict) or body.get("schema") != SCHEMA or "rows" not in body:
        raise MatrixError(f"{name}: no matrix of schema {SCHEMA}; `gdn-verify matrix --json FILE` writes one")
    try:
        rows = tuple(_row(dict(row)) for row in body["rows"])
        runs = tuple(Run(**{**run, "devices": tuple(run["devices"])}) for run in body["runs"])
        return Matrix(rows, runs, tuple(body["conflicts"]))
    except (KeyError, TypeError, ValueError) as error:
        raise MatrixError(f"{name}: {type(error).__name__}: {error}") from None


def _row(body: dict[str, Any]) -> Row:
    cells = {}
    for each in map(dict, body.pop("cells")):
        key = Key(Aspect(each.pop("aspect")), each.pop("kind"), each.pop("name"))
        cells[key] = Cell(**{**each, "state": State(each["state"])})
    return Row(**body, cells=cells)
