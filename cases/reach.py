"""Reach: the share of a fixed set of cases that a path accepts. It stands beside every verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import product

from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import Capabilities, Conventions, IdRule, Kind, Span, Stage
from gdn_verify.cases.kept import kept
from gdn_verify.cases.narrow import first_slot, refuses
from gdn_verify.cases.presentation import Presentation
from gdn_verify.cases.shapes import draw_cases
from gdn_verify.cases.situations import situations
from gdn_verify.cases.sizes import WIDE
from gdn_verify.cases.strategies import cases
from gdn_verify.cases.triggers import OUT_OF_REACH, TRIGGERS

__all__ = ["OUT_OF_REACH", "PROBES", "TRIGGERS", "probes", "reach", "situations"]

Refuses = Callable[[Case, Presentation], str | None]

PROBES = 300
_SEED = 1729

# A path that takes everything, and shares -1 for padding with all paths that do not reserve slot 0.
ANY_CONVENTIONS = Conventions(pads=tuple((stage, IdRule.MINUS_ONE) for stage in Stage))


def any_capabilities(span: Span) -> Capabilities:
    """Everything the contract allows, for one span."""
    return Capabilities(span, column_strides=True, separate_slots=True, beta_scales=frozenset({1.0, 2.0}))


@cache
def probes(first: Stage, qk_normalised: bool = False) -> tuple[tuple[Case, Presentation], ...]:
    """The probe set of one left edge: as many cases of each kind and rung, for a path that goes on to the end."""
    full = any_capabilities(Span(first, Stage.NORM, qk_normalised))
    return kept(f"probes-{first}-{qk_normalised:d}", lambda: _drawn(full))


def _drawn(full: Capabilities) -> tuple[tuple[Case, Presentation], ...]:
    rungs = _rungs(full)
    each = PROBES // (len(Kind) * len(rungs))
    return tuple(
        fed
        for rung, kind in product(rungs, Kind)
        for fed in draw_cases(cases(rung, ANY_CONVENTIONS, kind, size=WIDE), each, _SEED)
    )


def _rungs(full: Capabilities) -> tuple[Capabilities, ...]:
    """Three rungs of a ladder, so that a path which lacks one habit of the contract still shows a difference:
    plain rows in plain memory, then padding and options, then everything at once.
    """
    dense = replace(full, strided=False, misaligned=False, column_strides=False)
    fed = replace(dense, int64_indices=False, separate_slots=False)
    plain = replace(fed, paddings=frozenset(), scales=False, beta_scales=frozenset({1.0}))
    return plain, fed, full


def reach(
    capabilities: Capabilities, conventions: Conventions, also: Refuses = lambda case, presentation: None
) -> float:
    """The share, 0 to 1, of its left edge's probe set that a path takes; `also` may refuse beyond its capabilities.

    The sentinel and the first slot are translated to the path's own conventions, as whoever feeds it does;
    a path without any id for padding takes no padded row.
    """
    span = capabilities.span
    drawn = probes(span.first, span.qk_normalised)
    own = [(case, _own(conventions, case, presentation)) for case, presentation in drawn]
    taken = [fed for fed in own if refuses(capabilities, conventions, *fed) is None and also(*fed) is None]
    return len(taken) / len(drawn)


def _own(conventions: Conventions, case: Case, presentation: Presentation) -> Presentation:
    first = first_slot(conventions)
    ids = conventions.pad_ids(case.slots + first) or (presentation.sentinel,)
    return replace(presentation, sentinel=ids[0], first_slot=first)
