"""Batch invariance as cells: what `invariance` measures, of all kinds of a path in one worker."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from gdn_verify.cases.codec import CaseFile, dumps
from gdn_verify.cases.contract import Kind
from gdn_verify.cases.sizes import BRIEF
from gdn_verify.cases.topics import Topic
from gdn_verify.hosts import Host
from gdn_verify.invariance import MANY, Fact, measure
from gdn_verify.matrix.asked import last_line
from gdn_verify.matrix.cells import Aspect, Cell, Key, State
from gdn_verify.paths import Path

FEW = replace(BRIEF, max_rows=6)
"""Launches in the interpreter, where each program costs much."""


@dataclass(frozen=True)
class InvarianceOf:
    """What to measure: `cases` launches of each of these kinds."""

    path: str
    host: str
    kinds: tuple[Kind, ...]
    cases: int

    def measured(self, path: Path, host: Host) -> list[Fact]:
        """The answers, in the worker."""
        size = FEW if host.name == "interpreter" else MANY
        return [measure(path, host, kind, self.cases, size) for kind in self.kinds]

    def singly(self) -> Iterator[InvarianceOf]:
        """The same, a kind each."""
        return (replace(self, kinds=(kind,)) for kind in self.kinds)

    def cells(self, answers: Sequence[Fact]) -> dict[Key, Cell]:
        """A cell a kind."""
        return {Key(Aspect.INVARIANCE, fact.kind): cell_of(fact) for fact in answers}

    def lost(self, reason: str) -> dict[Key, Cell]:
        """It launches what the path declares to take: what ends it is the path's doing."""
        cell = Cell(State.DISAGREES, why=f"not measured: {last_line(reason)}")
        return {Key(Aspect.INVARIANCE, kind.value): cell for kind in self.kinds}


def questions(placed: Iterable[tuple[Path, str]], topics: Collection[Topic], cases: int) -> list[InvarianceOf]:
    """Of each path on its host, all kinds that it takes; three launches of each where one case is asked."""
    found = []
    for path, host in placed:
        if kinds := tuple(kind for kind in path.capabilities.kinds if kind in topics):
            found.append(InvarianceOf(path.name, host, kinds, 2 + cases))
    return found


def cell_of(fact: Fact) -> Cell:
    """Where nothing is claimed, rows that depend on others are no disagreement: it is told, and refused."""
    if not fact.rows:
        return Cell(State.UNREACHED, why="no launch of several rows")
    if fact.bitwise:
        return Cell(State.AGREES, fact.rows, why="claimed" if fact.claimed else "")
    words = f"{fact.alone} rows differ alone, {fact.elsewhere} elsewhere"
    case = dumps(CaseFile(*fact.shows[0]))
    if fact.claimed:
        return Cell(State.DISAGREES, fact.rows, why=f"claimed; {words}", case=case)
    return Cell(State.REFUSED, fact.rows, why=f"not claimed; {words}")
