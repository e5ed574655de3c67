"""How results of launches must relate: Σ factor · trial = of_base · base, place by place."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from gdn_verify.checks.laws.shots import Breaks, Chain, Numbers


class Likeness(Enum):
    """How alike the two sides must be."""

    BITS = "the same bits"
    EQUAL = "equal numbers"
    NEAR = "within both budgets"


@dataclass(frozen=True)
class Trial:
    """A chain of launches whose results, times `factor`, stand for the base's.

    `heads` gives, for each value head of the trial, the base's, and `channels` likewise; None where they are the same.
    `breaks` makes of the trial's problems what they would be if the law were broken; None stands for zero results.
    `shows` are chains' token numbers by which a broken law shows, where those that are compared cannot.
    """

    chain: Chain
    factor: float = 1.0
    heads: tuple[int, ...] | None = None
    channels: tuple[int, ...] | None = None
    breaks: Breaks | None = None
    shows: tuple[Numbers, ...] | None = None


@dataclass(frozen=True)
class Relation:
    """What must hold between a base and some trials, `says` in words.

    `base` is the setting's launch unless given. Trials cover parts of the base, or `adds` up. `copies` tells that z and
    histories must be the same too, bit for bit. `kept`: there is no trial; states must be what they were before.
    `floor`: numbers below it on both sides need only be near.
    """

    says: str
    trials: tuple[Trial, ...] = ()
    base: Chain | None = None
    of_base: float = 1.0
    adds: bool = False
    likeness: Likeness = Likeness.NEAR
    copies: bool = True
    states: bool = True
    outputs: bool = True
    kept: bool = False
    kept_breaks: Breaks | None = None
    floor: float = 0.0
