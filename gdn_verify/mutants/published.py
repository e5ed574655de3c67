"""What a published test is, as data: launches with inputs from its distribution, and how it compares their results."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.contract import Activation, DType, DTypes, Geometry, Options
from gdn_verify.cases.presentation import Presentation
from gdn_verify.mutants.comparisons import Comparison
from gdn_verify.mutants.draws import Draw

AS_IT_IS = Presentation()
NAN = math.nan


class Kernel(StrEnum):
    """What a test runs: one token a row from a pool of states, or rows of many tokens, step by step or in chunks."""

    DECODE = "decode"
    RECURRENT = "recurrent"
    CHUNK = "chunk"


class Part(StrEnum):
    """Of a layer, what some tests run and others do not; all run the recurrence."""

    CONV = "convolution"
    DRAFTS = "drafts"
    GRAPHS = "captured graphs"
    NORM = "norm of q and k"
    PACKING = "packed projections"
    SLOTS = "slot tables"
    Z = "z"


@dataclass(frozen=True)
class Setting:
    """One launch of a test: sizes, rows, types and what is drawn for it.

    `scale` is q's factor, None for K^-½. With `normalised` False the code under test has no norm of q and k.
    """

    label: str
    draw: Draw
    geometry: Geometry
    rows: tuple[Row, ...]
    activation: DType
    state: DType = DType.F32
    slots: int = 0
    scale: float | None = None
    normalised: bool = True
    shown: Presentation = AS_IT_IS

    @property
    def case(self) -> Case:
        """The launch as a case. The conv before the recurrence passes its input on."""
        dtypes = DTypes(activation=self.activation, state=self.state)
        options = Options(scale=self.scale, conv_activation=Activation.NONE)
        return Case(self.geometry, dtypes, self.slots or len(self.rows), (Batch(self.rows),), options=options)


@dataclass(frozen=True)
class Judge:
    """How a test compares: the output of live rows, their states, all other slots, and the output of padded rows.

    None: it does not look. `unwritten` is what an output holds before the launch, and `scratch` what memory does that a
    kernel allocates: NaN where the test fills it so; 0, as of fresh memory, where it does not say.
    """

    output: Comparison
    states: Comparison | None = None
    others: Comparison | None = None
    pads: Comparison | None = None
    unwritten: float = 0.0
    scratch: float = 0.0


@dataclass(frozen=True)
class Rule:
    """A published test: where it stands, what it feeds, what is smaller here than there, and its launches.

    `reference` is file, lines or function, and commit. `parts` are those of a layer that its launches run.
    """

    name: str
    project: str
    test: str
    reference: str
    inputs: str
    comparison: str
    reduced: str
    kernel: Kernel
    trials: tuple[tuple[Setting, Judge], ...]
    parts: frozenset[Part] = frozenset()


def rows_of(
    lengths: Iterable[int], slots: Iterable[int | None] | None = None, *, fresh: bool = False
) -> tuple[Row, ...]:
    """A row for each length, on these slots; row n on slot n by default."""
    lengths = tuple(lengths)
    places = range(len(lengths)) if slots is None else slots
    return tuple(Row(tokens, (slot,), fresh=fresh) for tokens, slot in zip(lengths, places, strict=True))
