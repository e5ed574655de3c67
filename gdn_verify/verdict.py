"""What a check found, and the word for it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Check(StrEnum):
    """The questions asked of an observation."""

    VALUES = "values"
    MEMORY = "memory"
    BIAS = "bias"
    POWER = "power"
    REACH = "reach"
    LAUNCHES = "launches"
    REPETITION = "repetition"
    LAWS = "laws"
    TABLES = "tables"
    MEMCHECK = "memcheck"
    RACECHECK = "racecheck"
    INITCHECK = "initcheck"
    SYNCCHECK = "synccheck"


SANITIZERS = (Check.MEMCHECK, Check.RACECHECK, Check.INITCHECK, Check.SYNCCHECK)
"""Each is a tool that watches a whole launch: whatever is wrong with a case, under it the case disagrees."""


class Outcome(StrEnum):
    """A verdict on one case under one check, by cause."""

    AGREES = "agrees"
    DISAGREES = "disagrees"
    REFUSED = "refused"
    MISSING = "missing"
    CRASHED = "crashed"
    VACUOUS = "vacuous"
    KNOWN = "known"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: which check, what kind, and a sentence that names the place."""

    check: Check
    kind: str
    message: str
    ratio: float = 0.0

    def __str__(self) -> str:
        return f"{self.check}/{self.kind}: {self.message}"


def ratio_words(ratio: float) -> str:
    """A noise ratio for a table: two decimals, or its size alone where it is far beyond every limit."""
    return f"{ratio:.2f}" if ratio < 1000 else f"{ratio:.0e}"
