"""Mutants of the catalogue on trial: the likes of bugs that shipped elsewhere, as the campaign takes them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gdn_verify.cases.catalogue import CLASSES, IN_MEMORY, Mutant, catalogue
from gdn_verify.mutants import planter_of
from gdn_verify.service import Job


@dataclass(frozen=True)
class Known:
    """A mutant of the catalogue. `operator` is its bug's class, `bug` the bug; it has no place of its own.

    It is planted in one path on one host, and tried first on launches of its kinds.
    """

    name: str
    operator: str
    bug: str
    path: str
    host: str
    kinds: tuple[str, ...]
    before: str
    after: str
    file: str = ""
    first: int = 0

    @property
    def plant(self) -> str:
        """The function that plants it, as "module:function"."""
        return planter_of(self.name)

    def begin(self) -> None:
        """Nothing: it is planted case by case."""

    def jobs(self, jobs: Iterable[Job]) -> tuple[Job, ...]:
        """Those of its path and host, its own kinds first."""
        own = [job for job in jobs if (job.path, job.host) == (self.path, self.host)]
        return tuple(sorted(own, key=lambda job: job.kind not in self.kinds))

    def comes_by(self, job: Job) -> bool:
        """Whether cases of one of these jobs are tried first."""
        return job.kind in self.kinds and not job.laws


def known() -> tuple[Known, ...]:
    """All that need no card, by class, bug and name."""
    order = list(CLASSES)
    found = ((bug, mutant) for bug in catalogue() for mutant in bug.mutants if mutant.host in IN_MEMORY)
    made = [_made(bug.class_, bug.slug, mutant) for bug, mutant in found]
    return tuple(sorted(made, key=lambda mutant: (order.index(mutant.operator), mutant.bug, mutant.name)))


def on_cards() -> tuple[str, ...]:
    """Names of those that need one, and are in no campaign here."""
    return tuple(m.name for bug in catalogue() for m in bug.mutants if m.host not in IN_MEMORY)


def _made(class_: str, bug: str, mutant: Mutant) -> Known:
    right = "\n…\n".join(edit.right for edit in mutant.edits)
    wrong = "\n…\n".join(edit.wrong for edit in mutant.edits)
    return Known(mutant.name, class_, bug, mutant.path, mutant.host, mutant.kinds, right, wrong or mutant.what)
