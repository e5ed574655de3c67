"""What is said of where a launch goes wrong: by wrong values, by wrong memory alone, or by what the path raises."""

from __future__ import annotations

from dataclasses import dataclass

from gdn_verify.cases.contract import Stage
from gdn_verify.oracles.compose import Array
from gdn_verify.patterns import Place
from gdn_verify.verdict import Finding


@dataclass(frozen=True)
class Match:
    """A wrong oracle that gives what the launch gave; `ratio` is their largest distance in budgets."""

    name: str
    stage: Stage
    where: str
    ratio: float

    def __str__(self) -> str:
        return f"matches the oracle with {self.name}{self.where}, to {self.ratio:.2g} of its noise"


@dataclass(frozen=True)
class Localised:
    """What is wrong with a launch: `result` is o, out or h, or of an exposed stage; `stage` "" where nothing tells.

    `ratios` has the noise ratio of every row of the result, with axes of these names; `errors` the absolute errors.
    `rounded` says that wrong rows are right ones rounded once more, to a 16-bit type.
    """

    launch: int
    result: str
    stage: str
    place: tuple[Place, ...]
    looks: tuple[str, ...]
    axes: tuple[str, ...]
    ratios: Array
    errors: Array
    matches: tuple[Match, ...] = ()
    rounded: bool = False


@dataclass(frozen=True)
class Touched:
    """A launch whose values are right and whose memory is not: the first finding, and the stage that it belongs to."""

    launch: int
    finding: Finding
    stage: str


@dataclass(frozen=True)
class Raised:
    """A launch that the path does not finish: what it raised, with its traceback, and the stage that was under way."""

    launch: int
    finding: Finding
    stage: str


Found = Localised | Touched | Raised
