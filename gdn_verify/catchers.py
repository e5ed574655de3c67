"""Which checks see which mutants of the catalogue, each mutant under all checks: what would be lost without one?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from gdn_verify import gate
from gdn_verify.cases.topics import topic
from gdn_verify.mutants.known import Known
from gdn_verify.paths import find_subject
from gdn_verify.profiles import PROFILES, Profile
from gdn_verify.report.tally import Report


def profile_of(cases: int) -> Profile:
    """The gate with so many cases of each kind, some of them made again and held to laws."""
    return replace(
        PROFILES["gate"], short=cases, long=cases, interpreted_short=cases, interpreted_long=cases, courses=cases,
        interpreted_courses=cases, watches=cases, laws=3, interpreted_laws=3,
    )  # fmt: skip


def jobs_of(mutant: Known, cases: int) -> list[gate.Job]:
    """The gate's jobs of its path, host and kinds, with it planted."""
    about = [topic(kind) for kind in mutant.kinds]
    return gate.plan([find_subject(mutant.path)], [mutant.host], about, profile_of(cases), mutant.plant)


def checks_of(mutant: Known, cases: int, workers: int | None = None) -> tuple[str, ...]:
    """Names of the checks that see it in so many cases. Those of pools, as bias, have too few here."""
    return seen(gate.run(jobs_of(mutant, cases), profile_of(cases), workers=workers))


def seen(report: Report) -> tuple[str, ...]:
    """Names of the checks with a finding."""
    report.finish()
    return tuple(sorted({failure.finding.check.value for failure in report.failures}))


def alone(found: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """By check, the mutants that no other sees."""
    only: dict[str, list[str]] = {}
    for name, checks in found.items():
        if len(own := list(checks)) == 1:
            only.setdefault(own[0], []).append(name)
    return only
