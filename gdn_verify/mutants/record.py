"""The record of a campaign: a row a mutant, as JSON that the next run takes up; and which mutants are not tried."""

from __future__ import annotations

import gzip
import json
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path as File
from typing import Any

from gdn_verify.cases.codec import loads
from gdn_verify.mutants.trial import Fate, Mutant, Verdict

SCHEMA = 1
PACKED = ".gz"
ARGUED = {Fate.EQUIVALENT: "equivalent.toml", Fate.ELSEWHERE: "elsewhere.toml"}
"""Fates that are a matter of argument and not of trial, each with the file that has the arguments, written by hand."""


@dataclass(frozen=True, kw_only=True)
class Row(Verdict):
    """A mutant and what became of it. `line` is where it is; `before` and `after` are what stands there.

    `operator` is its class; `bug` names what shipped elsewhere, where it is the like of that; `why` is why no trial
    was held.
    """

    name: str
    operator: str
    line: int
    before: str
    after: str
    why: str = ""
    bug: str = ""

    @classmethod
    def of(cls, mutant: Mutant, verdict: Verdict, why: str = "") -> Row:
        """The row of a verdict; `why` says why a mutant is not tried."""
        place = {"name": mutant.name, "operator": mutant.operator, "line": mutant.first, "why": why, "bug": mutant.bug}
        told: dict[str, Any] = {**vars(verdict), **place, "before": mutant.before, "after": mutant.after}
        return cls(**{**told, "seconds": round(verdict.seconds, 2)})

    @cached_property
    def tokens(self) -> int | None:
        """Tokens of the smallest case, all its launches; None where none was sought."""
        if not self.smallest:
            return None
        return sum(batch.tokens for batch in loads(self.smallest).case.batches)

    def is_of(self, mutant: Mutant) -> bool:
        """Whether the mutant is still the one that was tried."""
        return (self.name, self.before, self.after) == (mutant.name, mutant.before, mutant.after)


@dataclass(frozen=True)
class Summary:
    """How many mutants of each fate."""

    killed: int = 0
    survived: int = 0
    equivalent: int = 0
    stillborn: int = 0
    open: int = 0
    elsewhere: int = 0

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Summary:
        """Counted over rows."""
        return cls(**Counter(row.fate.value for row in rows))

    @property
    def score(self) -> float:
        """The share of killed ones, 0 to 1, among those that differ from the right kernels; 1 where there is none."""
        alive = self.survived + self.open + self.elsewhere
        return self.killed / (self.killed + alive) if self.killed + alive else 1.0


def load(file: File, existing: Iterable[Mutant]) -> dict[str, Row]:
    """The rows of an earlier run by name, of mutants that are still the same; none where there is no such file."""
    if not file.exists():
        return {}
    told = gzip.decompress(file.read_bytes()) if file.suffix == PACKED else file.read_bytes()
    rows = {row["name"]: Row(**{**row, "fate": Fate(row["fate"])}) for row in json.loads(told)["rows"]}
    return {m.name: rows[m.name] for m in existing if m.name in rows and rows[m.name].is_of(m)}


def waiting(mutants: Iterable[Mutant], rows: Mapping[str, Row]) -> list[Mutant]:
    """Those that are not settled by a trial, and of them those first that were never tried."""
    unsettled = [m for m in mutants if m.name not in rows or rows[m.name].fate in (Fate.OPEN, *ARGUED)]
    return sorted(unsettled, key=lambda mutant: mutant.name in rows)


def save(file: File, rows: Iterable[Row]) -> None:
    """Write all rows and their summary, whole or not at all; packed where the file's name ends in `PACKED`."""
    rows = sorted(rows, key=lambda row: row.name)
    summary = Summary.of(rows)
    data = {
        "schema": SCHEMA,
        "summary": {**asdict(summary), "score": round(summary.score, 4)},
        "rows": [asdict(row) for row in rows],
    }
    beside = file.with_suffix(file.suffix + ".new")
    text = json.dumps(data, indent=1).encode()
    beside.write_bytes(gzip.compress(text, mtime=0) if file.suffix == PACKED else text)
    beside.replace(file)


def arguments() -> dict[str, tuple[Fate, Mapping[str, str]]]:
    """By name: the fate of a mutant that is not tried; what stood there before and after, and why."""
    texts = {fate: (files("gdn_verify.mutants") / name).read_text() for fate, name in ARGUED.items()}
    return {name: (fate, entry) for fate, text in texts.items() for name, entry in tomllib.loads(text).items()}


def argued(mutant: Mutant, known: Mapping[str, tuple[Fate, Mapping[str, str]]]) -> tuple[Fate, str] | None:
    """The fate of a mutant that is not tried, and why; None of others.

    Raises LookupError where its place has changed since that was written.
    """
    if mutant.name not in known:
        return None
    fate, entry = known[mutant.name]
    if (entry["before"], entry["after"]) != (mutant.before, mutant.after):
        raise LookupError(
            f"{ARGUED[fate]}: {mutant.name} is {mutant.before!r} -> {mutant.after!r} now; look at it again"
        )
    return fate, entry["why"]
