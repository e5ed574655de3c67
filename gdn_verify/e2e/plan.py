"""What a whole run asks: which models, scenarios and cores, by which rule, and which faults are seeded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from gdn_verify.cases.contract import Kind as Launches
from gdn_verify.e2e.checkpoint import Kind
from gdn_verify.e2e.faults import CATALOGUE
from gdn_verify.e2e.scenario import (
    BRIEF,
    CHUNKED,
    MIXED,
    MTP,
    NGRAM,
    PREEMPTION,
    PREFIX,
    SEEDED,
    Scenario,
    by_way_of,
    in_type,
    seeded,
)
from gdn_verify.e2e.variant import CONV, STOCK, STOCK_PATHS

FALLBACK = "dispatch-o"
"""This project's dispatcher: on the cpu its fallback, in the interpreter its Triton kernels."""


class Rule(StrEnum):
    """What a candidate owes its baseline: every token, or a difference that noise explains."""

    EQUAL = "equal"
    EXPLAINED = "explained"


@dataclass(frozen=True)
class Question:
    """What is asked in one scenario of a part: words of `candidates`, whether transformers is too, faults to seed."""

    scenario: Scenario
    candidates: tuple[str, ...]
    sites: str = ""
    reference: bool = False
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """One engine: a model, a scenario, a host, and who is held to the float64 core in it.

    `candidates` are words of variants. With `reference` that core is itself held to transformers, token for token.
    `faults` are planted in `FALLBACK`, in a scenario of their own if `seeded_in` is one, on the same engine; where they
    are, the healthy `FALLBACK` is held as well: of a budget that flags health, a flagged fault says nothing. `sites` is
    the path by whose roundings noise is made. With `seeds` the pairs are asked again of other prompts.
    """

    kind: Kind
    scenario: Scenario
    candidates: tuple[str, ...]
    rule: Rule = Rule.EQUAL
    reference: bool = False
    host: str = "cpu"
    faults: tuple[str, ...] = ()
    seeded_in: Scenario | None = None
    sites: str = ""
    seeds: tuple[int, ...] = ()

    @property
    def questions(self) -> tuple[Question, ...]:
        """Scenario after scenario, and once again for each of the seeds, with other prompts."""
        asked = [Question(self.scenario, self.candidates, self.sites, self.reference)]
        if self.seeded_in is not None:
            # Without a path's name noise is the oracle's own, which is declared to round as the fallback does.
            asked.append(Question(self.seeded_in, ()))
        if self.faults or self.seeded_in is not None:
            last = asked.pop()
            asked.append(replace(last, candidates=_with(last.candidates, FALLBACK), faults=self.faults))
        again = (replace(each, scenario=seeded(each.scenario, n), faults=()) for n in self.seeds for each in asked)
        return (*asked, *again)

    @property
    def name(self) -> str:
        """For reports."""
        return f"{self.kind} {self.scenario.settings.dtype} {self.scenario.name}" + self._where

    @property
    def _where(self) -> str:
        seam = self.scenario.settings.seam
        words = [] if self.host == "cpu" else [self.host]
        words += [] if seam == "cpu" else [f"{seam}'s seam"]
        return f" ({', '.join(words)})" if words else ""


def _with(words: tuple[str, ...], word: str) -> tuple[str, ...]:
    return words if word in words else (*words, word)


def faults_in(scenario: Scenario) -> tuple[str, ...]:
    """The seeded faults that this scenario shows."""
    return tuple(fault.name for fault in CATALOGUE if fault.scenario == scenario.name)


FIRST_TEN = 10
"""Of the catalogue: those of which the separation was first measured. They are seeded in bfloat16 too."""


def whole() -> tuple[Part, ...]:
    """All of it, the longest first."""
    dense, experts = Kind.QWEN3_5, Kind.QWEN3_NEXT
    exact = Part(dense, CHUNKED, (FALLBACK,), reference=True, faults=faults_in(SEEDED), seeded_in=SEEDED)
    others = (
        Part(dense, scenario, (FALLBACK,), reference=True, faults=faults_in(scenario))
        for scenario in (NGRAM, PREFIX, PREEMPTION, MTP)
    )
    narrow = Part(dense, in_type(MIXED, "bfloat16"), (STOCK, CONV), Rule.EXPLAINED, sites=STOCK_PATHS["cpu"])
    # One kind of launch alone is ours, and the engine's own core serves the others.
    shared = tuple(f"{FALLBACK}@{kind}" for kind in (Launches.DECODE, Launches.PREFILL))
    few = replace(narrow, candidates=(*narrow.candidates, *shared), seeded_in=in_type(SEEDED, "bfloat16"))
    few = replace(few, faults=faults_in(SEEDED)[:FIRST_TEN])
    interpreted = Part(dense, BRIEF, (FALLBACK,), reference=True, host="interpreter")
    routed = Part(experts, CHUNKED, (FALLBACK,), reference=True)
    # The seams of GPUs, on a CPU whose layers go their ways; the engine's own cores there do not run on it.
    ways = (
        Part(kind, by_way_of(BRIEF, way), (FALLBACK,), reference=True)
        for kind, way in ((dense, "cuda"), (experts, "rocm"))
    )
    return (exact, interpreted, few, *others, routed, replace(narrow, kind=experts), *ways)
