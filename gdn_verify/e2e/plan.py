"""What a whole run asks: which models, scenarios and cores, by which rule, and which faults are seeded."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gdn_verify.e2e.checkpoint import Kind
from gdn_verify.e2e.faults import CATALOGUE
from gdn_verify.e2e.scenario import BRIEF, CHUNKED, NGRAM, PREEMPTION, PREFIX, SEEDED, Scenario, in_type
from gdn_verify.e2e.variant import STOCK

FALLBACK = "dispatch-o"
"""This project's dispatcher: on the cpu its fallback, in the interpreter its Triton kernels."""


class Rule(StrEnum):
    """What a candidate owes its baseline: every token, or a difference that noise explains."""

    EQUAL = "equal"
    EXPLAINED = "explained"


@dataclass(frozen=True)
class Part:
    """One engine: a model, a scenario, a host, and who is held to the float64 core in it.

    `candidates` are words of variants. With `reference` that core is itself held to transformers, token for token.
    `faults` are planted in `FALLBACK`, in a scenario of their own if `seeded_in` is one, on the same engine. `sites` is
    the path by whose roundings noise is made.
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

    @property
    def name(self) -> str:
        """For reports."""
        return f"{self.kind} {self.scenario.settings.dtype} {self.scenario.name}" + self._where

    @property
    def _where(self) -> str:
        return "" if self.host == "cpu" else f" ({self.host})"


def faults_in(scenario: Scenario) -> tuple[str, ...]:
    """The seeded faults that this scenario shows."""
    return tuple(fault.name for fault in CATALOGUE if fault.scenario == scenario.name)


STOCK_SITES = "vllm-cpu-core"


def whole() -> tuple[Part, ...]:
    """All of it, the longest first."""
    dense, experts = Kind.QWEN3_5, Kind.QWEN3_NEXT
    exact = (
        Part(dense, CHUNKED, (FALLBACK,), reference=True, faults=faults_in(SEEDED), seeded_in=SEEDED),
        *(
            Part(dense, scenario, (FALLBACK,), reference=True, faults=faults_in(scenario))
            for scenario in (NGRAM, PREFIX, PREEMPTION)
        ),
    )
    narrow = tuple(
        Part(kind, in_type(CHUNKED, "bfloat16"), (STOCK,), Rule.EXPLAINED, sites=STOCK_SITES) for kind in Kind
    )
    interpreted = Part(dense, BRIEF, (FALLBACK,), reference=True, host="interpreter")
    return (exact[0], interpreted, exact[1], Part(experts, CHUNKED, (FALLBACK,), reference=True), *narrow, *exact[2:])
