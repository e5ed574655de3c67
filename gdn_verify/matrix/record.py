"""A gate's report that remembers every case: which features it had, and what it came to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from gdn_verify.cases.codec import loads
from gdn_verify.cases.strategies import Fed
from gdn_verify.cases.topics import Series, Topic
from gdn_verify.matrix.blame import Seen, cells, suspects, whole
from gdn_verify.matrix.cells import Aspect, Cell, Key, State
from gdn_verify.matrix.choose import Chosen
from gdn_verify.matrix.features import names
from gdn_verify.paths import find
from gdn_verify.report.tally import Report
from gdn_verify.runner import CaseResult
from gdn_verify.service import Job, Ready
from gdn_verify.verdict import Check

Where = tuple[str, str, Topic]


@dataclass
class Again:
    """What came of launches that were made again."""

    compared: int = 0
    refused: str = ""
    findings: list[str] = field(default_factory=list)
    case: str = ""

    def cell(self) -> Cell:
        """Bitwise repetition, as a cell."""
        if self.findings:
            return Cell(State.DISAGREES, self.compared, why=self.findings[0], case=self.case)
        if self.compared:
            return Cell(State.AGREES, self.compared)
        if self.refused:
            return Cell(State.REFUSED, why=self.refused)
        return Cell(State.UNREACHED, why="no launch was made again")


class Recorder(Report):
    """`seen` holds every case, `lost` why cases of a kind did not run, `ready` what was loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[Where, list[Seen]] = defaultdict(list)
        self.again: dict[Where, Again] = defaultdict(Again)
        self.lost: dict[Where, str] = {}
        self.ready: dict[tuple[str, str], Ready] = {}

    def open(self, job: Job, ready: Ready) -> None:
        """A job's path is loaded."""
        super().open(job, ready)
        self.ready[job.path, job.host] = ready

    def add(self, job: Job, file: str, result: CaseResult) -> None:
        """Count one case, and remember it."""
        super().add(job, file, result)
        wrong = [finding for finding in result.findings if finding.check is not Check.REPETITION]
        state, why = _verdict(result, [str(finding) for finding in wrong])
        ratio = max(result.worst_ratio, *(finding.ratio for finding in wrong), 0.0)
        self._remember(job, file, state, ratio, why)
        if result.repetition is not None:
            again = self.again[_where(job)]
            again.compared += result.repetition.compared
            again.refused = again.refused or result.repetition.refused
            again.findings += [str(f) for f in result.findings if f.check is Check.REPETITION]
            again.case = again.case or file

    def add_crash(self, job: Job, file: str, death: str) -> None:
        """A worker died or hung on a case, or before one."""
        super().add_crash(job, file, death)
        if file:
            self._remember(job, file, State.DISAGREES, 0.0, f"crashed: {death}")
        else:
            self.lost.setdefault(_where(job), death)

    def add_lost(self, job: Job, reason: str) -> None:
        """Cases that will not run."""
        super().add_lost(job, reason)
        self.lost.setdefault(_where(job), reason)

    def add_broken(self, job: Job, traceback: str) -> None:
        """The suite itself failed."""
        super().add_broken(job, traceback)
        self.lost.setdefault(_where(job), f"the suite itself failed: {traceback}")

    def _remember(self, job: Job, file: str, state: State, ratio: float, why: str) -> None:
        fed = _fed(file)
        self.seen[_where(job)].append(Seen(names(fed, find(job.path), job.kind), state, ratio, why, file))

    def doubts(self, where: Where) -> Iterator[tuple[Fed, str]]:
        """What to ask more: a case that agrees, and the name of a feature that is suspected beside others."""
        seen = self.seen[where]
        agreed = [each for each in seen if each.state is State.AGREES]
        guilty = suspects(seen)
        several = any(len(each.names & guilty) > 1 for each in seen if each.state is State.DISAGREES)
        if agreed and several:
            least = min(agreed, key=lambda each: len(each.names))
            yield from ((_fed(least.case), name) for name in sorted(guilty))

    def cells(self, where: Where, chosen: Chosen) -> dict[Key, Cell]:
        """The cells of a path, host and kind."""
        kind, seen = where[2].value, self.seen[where]
        if chosen.kind:
            return {Key(Aspect.KIND, kind): Cell(State.REFUSED, why=chosen.kind)}
        found = {Key(Aspect.KIND, kind): self._whole(where)}
        featured = {
            **{name: Cell(State.UNREACHED, why=why) for name, why in chosen.unreached.items()},
            **{name: Cell(State.REFUSED, why=why) for name, why in chosen.refused.items()},
            **({} if isinstance(where[2], Series) else cells(seen)),
        }
        found |= {Key(Aspect.FEATURE, kind, name): cell for name, cell in featured.items()}
        if where in self.again:
            found[Key(Aspect.DETERMINISM, kind)] = self.again[where].cell()
        return found

    def _whole(self, where: Where) -> Cell:
        cell = whole(self.seen[where])
        if where in self.lost and cell.state is not State.DISAGREES:
            return Cell(State.DISAGREES, cell.cases, why=self.lost[where])
        return cell


def _where(job: Job) -> Where:
    return job.path, job.host, job.kind


def _fed(file: str) -> Fed:
    read = loads(file)
    return read.case, read.presentation


def _verdict(result: CaseResult, wrong: list[str]) -> tuple[State, str]:
    if result.refused:
        return State.REFUSED, result.refused
    if wrong:
        return State.DISAGREES, wrong[0]
    if result.known:
        return State.KNOWN, ", ".join(dict.fromkeys(name for _, name in result.known))
    if not result.judged:
        return State.UNREACHED, "no live row: nothing is proved"
    return State.AGREES, ""
