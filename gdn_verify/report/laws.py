"""Laws in a report: what each came to on each path, counted and drawn."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from gdn_verify.cases.topics import Topic
from gdn_verify.checks.laws.judge import LawResult
from gdn_verify.verdict import Outcome

Held = Mapping[tuple[str, str, Topic], Mapping[str, "LawTally"]]
"""By path, host and kind: what each law came to."""


@dataclass
class LawTally:
    """Cases under one law. `reason` is why the first one refused was, `least_power` the lowest of those that agree."""

    cases: int = 0
    agrees: int = 0
    disagrees: int = 0
    refused: int = 0
    vacuous: int = 0
    worst_ratio: float = 0.0
    least_power: float = 0.0
    reason: str = ""

    def add(self, outcome: Outcome, law: LawResult) -> None:
        """Count one case."""
        self.cases += 1
        setattr(self, outcome.value, getattr(self, outcome.value) + 1)
        self.worst_ratio = max(self.worst_ratio, law.ratio)
        self.reason = self.reason or law.reason
        if outcome is Outcome.AGREES:
            self.least_power = min(self.least_power, law.power) if self.agrees > 1 else law.power

    def merge(self, other: LawTally) -> None:
        """Count the cases of another kind too."""
        for name in ("cases", "agrees", "disagrees", "refused", "vacuous"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.reason = self.reason or other.reason

    def as_json(self) -> dict[str, Any]:
        """The counts as data; JSON has no infinity."""
        largest = sys.float_info.max
        return {
            **{name: getattr(self, name) for name in ("cases", "agrees", "disagrees", "refused", "vacuous")},
            "worst_noise_ratio": min(self.worst_ratio, largest),
            "least_power": min(self.least_power, largest),
            "reason": self.reason,
        }


def table(held: Held) -> Table:
    """A line a law, a column a path and host; how many cases agree, or what else there is to say."""
    columns = _by_path(held)
    names = list(dict.fromkeys(name for laws in columns.values() for name in laws))
    drawn = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1), title="laws: cases that agree")
    drawn.add_column("law", no_wrap=True)
    for path, host in columns:
        drawn.add_column(f"{path}\n{host}".replace("-", "-\n"), justify="right", vertical="bottom")
    for name in names:
        drawn.add_row(name, *(_cell(laws.get(name)) for laws in columns.values()))
    return drawn


def _by_path(held: Held) -> dict[tuple[str, str], dict[str, LawTally]]:
    merged: dict[tuple[str, str], dict[str, LawTally]] = {}
    for (path, host, _), laws in held.items():
        into = merged.setdefault((path, host), {})
        for name, law in laws.items():
            into.setdefault(name, LawTally()).merge(law)
    return merged


def _cell(law: LawTally | None) -> str:
    """`12`, `12 ✗2` with two that disagree, `·` where all were refused, `?` where none could tell."""
    if law is None:
        return ""
    agrees = str(law.agrees) if law.agrees else "·" if law.refused == law.cases else "?"
    return f"{agrees} ✗{law.disagrees}" if law.disagrees else agrees


def refusals(held: Held) -> Iterator[str]:
    """Laws of which a path was held to none of its cases, with the reasons: one line a path."""
    for (path, host), laws in _by_path(held).items():
        idle = [f"{name} ({law.reason})" for name, law in laws.items() if law.refused == law.cases]
        if idle:
            yield f"laws refused: {path} on {host}: {'; '.join(idle)}"


def named(kind: str, known: Iterable[str]) -> str:
    """The law that a finding of this kind is about, "" for none."""
    law = kind.partition(":")[0]
    return law if law in known else ""
