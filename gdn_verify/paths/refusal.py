"""Why a subject does not take a case as it is fed: what it declares, then what it says beyond that."""

from __future__ import annotations

from gdn_verify.cases.case import Case
from gdn_verify.cases.narrow import refuses
from gdn_verify.cases.presentation import Presentation
from gdn_verify.paths.base import Path
from gdn_verify.paths.builder import Builder


def refusal_of(subject: Path | Builder, case: Case, shown: Presentation) -> str | None:
    """The reason, or None where it takes the case. What `subject.refuses` raises is not caught."""
    declared = refuses(subject.capabilities, subject.conventions, case, shown)
    return declared or subject.refuses(case, shown)
