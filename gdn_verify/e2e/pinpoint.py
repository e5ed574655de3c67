"""From the first wrong launch of a run to a case: the same rows on a small pool, which fails on the same core.

What an engine computes with does not fit a page; what goes wrong seldom depends on it. So the case has the launch's
rows and recipes for its values, in small heads if that will do, and as many launches before it as it takes. It counts
only once the suite's own runner, or for tables its own check of builders, has found it failing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from gdn_verify.cases.case import Batch, Case
from gdn_verify.cases.codec import CaseFile, dumps
from gdn_verify.cases.contract import ContractError, Geometry, Stage
from gdn_verify.cases.presentation import Presentation
from gdn_verify.cases.values import Betas, Fill, Gates, States, Taps, Values, Vectors
from gdn_verify.e2e.captured import Captured, renumbered
from gdn_verify.e2e.cores import ROW_PAD
from gdn_verify.e2e.faults import BUILDER, begin_of, of_tables, run_of
from gdn_verify.e2e.variant import OWN, Variant, path_of, whose
from gdn_verify.e2e.watch import Tier, Wrong
from gdn_verify.hosts import Host
from gdn_verify.oracles.compose import Array
from gdn_verify.paths import find_subject
from gdn_verify.paths.base import Path
from gdn_verify.paths.builder import Builder
from gdn_verify.runner import CaseResult, Effort, run_case, run_tables

LIVELY = Values(
    q=Vectors.NORMAL, k=Vectors.NORMAL, v=Fill.NORMAL, gates=Gates.WEAK, beta=Betas.NORMAL, state=States.NORMAL,
    conv=Taps.NORMAL, z=Fill.NORMAL,
)  # fmt: skip
"""Nothing is zero or one, nothing is forgotten at once."""
DEPTHS = (1, 2, 3, 5, 9, 17)
"""Launches that a case has, the wrong one last: a defect that remembers needs more than one."""
SMALL = Geometry(2, 4, 16, 16)
MOST_TOKENS = 600
"""Of one case."""


@dataclass(frozen=True)
class Pinpointed:
    """Where a run first went wrong, and the case that was made of it.

    `arrays` is the launch itself, by name. `case` is the text of a file, "" where none fails; `path` is whose, `found`
    what the suite says of it.
    """

    tier: Tier
    turn: int
    layer: str
    message: str
    arrays: Mapping[str, Array]
    case: str = ""
    path: str = ""
    found: str = ""

    @property
    def command(self) -> str:
        """How to run the case again."""
        return f"gdn-verify check CASE.json --path {self.path}" if self.case else ""


def pinpoint(wrong: Wrong, variant: Variant, host: Host) -> Pinpointed:
    """A case of the wrong launch that fails on the variant's core, if one is found."""
    place = Pinpointed(wrong.tier, wrong.turn, wrong.layer, wrong.message, wrong.launch.arrays())
    subject: Path | Builder
    if of_tables(variant.fault):
        builder = find_subject(BUILDER)
        assert isinstance(builder, Builder)
        subject = builder
    else:
        subject = path_of(whose(variant.core, host.name))
    for file in candidates(wrong, subject, variant):
        result = _result(file, subject, variant, host)
        if result.findings:
            finding = result.findings[0]
            text = dumps(replace(file, notes=f"{variant} in an engine, {wrong.layer}, turn {wrong.turn}"))
            return replace(
                place, case=text, path=subject.name, found=f"{finding.check}/{finding.kind}: {finding.message}"
            )  # fmt: skip
    return place


def candidates(wrong: Wrong, subject: Path | Builder, variant: Variant) -> Iterator[CaseFile]:
    """Cases to try, the smallest first: fewer launches, smaller heads."""
    shown = _presentation(subject, wrong.launch)
    for geometry in _geometries(wrong.launch.case.geometry, variant.core in OWN):
        for depth in DEPTHS:
            batches = wrong.history[-depth:]
            if depth > len(wrong.history) and depth != DEPTHS[0]:
                break
            if sum(batch.tokens for batch in batches) > MOST_TOKENS and depth > 1:
                break
            for values in (LIVELY, replace(LIVELY, seed=1, gates=Gates.NORMAL)):
                if (case := _case(wrong.launch.case, geometry, batches, values)) is not None:
                    yield CaseFile(case, shown)


def _geometries(own: Geometry, stock: bool) -> tuple[Geometry, ...]:
    small = replace(SMALL, W=own.W, num_spec=own.num_spec)
    return (own,) if stock else (small, own)


def _case(like: Case, geometry: Geometry, batches: tuple[Batch, ...], values: Values) -> Case | None:
    """The launches on a pool of the slots that they name; None where they do not follow each other."""
    named = sorted({slot for batch in batches for row in batch.rows for slot in row.slots if slot is not None})
    rows = tuple(renumbered(batch, named) for batch in batches)
    try:
        return Case(geometry, like.dtypes, len(named) + 1, rows, values, like.options)
    except ContractError:
        return None


def _presentation(subject: Path | Builder, launch: Captured) -> Presentation:
    """As the engine feeds it; a builder of tables has no layouts, and paths of packed projections have strides."""
    if isinstance(subject, Builder):
        return Presentation(first_slot=1)
    shown = replace(launch.presentation, first_slot=1)
    return replace(shown, row_pad=ROW_PAD) if subject.capabilities.span.first is Stage.UNPACK else shown


def _result(file: CaseFile, subject: Path | Builder, variant: Variant, host: Host) -> CaseResult:
    if isinstance(subject, Builder):
        return run_tables(file.case, file.presentation, subject, plant=lambda builder: begin_of(variant.fault))
    plant = (lambda path: run_of(path, variant.fault)) if variant.fault else None
    return run_case(file.case, file.presentation, subject, host, plant=plant, effort=Effort.HASTY)
