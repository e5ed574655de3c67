"""What becomes of a wrong launch when one thing of it is otherwise: two experiments, each of which may tell its stage.

- Its inputs laid out densely, or packed the other way. Right then, and wrong again as they were, they are read wrongly.
- Its rows with more tokens, of states that last, where states that it stored are right ones rounded once more. If they
  are then off by more than that one rounding, they are rounded from token to token; if not, where they are stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from gdn_verify.cases.case import Case, Row
from gdn_verify.cases.contract import WRITE_BACK, Packing, Span, Stage
from gdn_verify.cases.presentation import Presentation
from gdn_verify.cases.values import Fill, Gates, States, Values, Vectors
from gdn_verify.located import Found, Localised, Raised
from gdn_verify.paths.base import Path
from gdn_verify.paths.refusal import refusal_of

Ask = Callable[[Case, Presentation], Found | None]
"""What is wrong with a case, without experiments."""
LENGTHS = (3, 9, 17, 33)
"""Tokens of rows that are made longer."""
LASTING = Values(1, Vectors.NORMAL, Vectors.NORMAL, Fill.NORMAL, Gates.WEAK, state=States.NORMAL)
"""States that are neither forgotten nor too small for a 16-bit type, so that errors add up."""


def retried(found: Found, case: Case, shown: Presentation, path: Path, ask: Ask) -> Found:
    """The same, with the stage that the experiments tell."""
    span = path.capabilities.span
    told = isinstance(found, Raised) and found.stage  # the stack knows
    if not told and found.stage != Stage.UNPACK and _is_read_wrongly(found, case, shown, path, ask):
        return replace(found, stage=str(Stage.UNPACK))
    states = isinstance(found, Localised) and found.stage == WRITE_BACK and found.rounded
    if states and Stage.DELTA in span and _is_rounded_again(found.launch, case, shown, path, ask):
        return replace(found, stage=str(Stage.DELTA))
    return found


def _is_read_wrongly(found: Found, case: Case, shown: Presentation, path: Path, ask: Ask) -> bool:
    """Whether the launch is right with its inputs laid out otherwise, and wrong as they were."""
    for other in _layouts(shown, path.capabilities.span):
        if not refusal_of(path, case, other) and _is_right(ask(case, other), found.launch):
            return not _is_right(ask(case, shown), found.launch)
    return False


def _layouts(shown: Presentation, span: Span) -> Iterator[Presentation]:
    """Where projections are packed they alone have strides between tokens."""
    if Stage.UNPACK in span and shown.row_pad:
        yield replace(shown, row_pad=0)
    if Stage.UNPACK in span and shown.packing is not Packing.FLAT:
        yield replace(shown, packing=Packing.FLAT)


def _is_right(found: Found | None, launch: int) -> bool:
    return found is None or found.launch > launch


def _is_rounded_again(launch: int, case: Case, shown: Presentation, path: Path, ask: Ask) -> bool:
    """Whether more tokens make more of the error. They do where it is made before a state is stored."""
    for tokens in LENGTHS:
        longer = _longer(case, launch, tokens)
        if refusal_of(path, longer, shown) or not _alike(path, case, longer, launch):
            continue
        seen = ask(longer, shown)
        if isinstance(seen, Localised) and seen.launch == launch and not (seen.result == "h" and seen.rounded):
            return True
    return False


def _longer(case: Case, launch: int, tokens: int) -> Case:
    """The case up to this launch, of lasting states, whose live rows have so many tokens, drafts as many as fit."""

    def long(row: Row) -> Row:
        most = len(row.slots) if row.spec else tokens
        return replace(row, tokens=max(row.tokens, min(tokens, most))) if row.live else row

    batch = case.batches[launch]
    last = replace(batch, rows=tuple(map(long, batch.rows)))
    return replace(case, values=LASTING, batches=(*case.batches[:launch], last))


def _alike(path: Path, case: Case, other: Case, launch: int) -> bool:
    """Whether the same part of a path serves the launch of both."""
    served = (path.serving(each.batches[launch], launch) for each in (case, other))
    return len({part.name for part in served}) == 1
