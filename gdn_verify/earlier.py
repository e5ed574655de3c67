"""A case that fails only where its process has launched something else before: what that is, and both made simple.

Code that is kept by too small a key, a size that is settled by the first launch: such a failure is of two cases. The
other is sought among those that differ from the failing one in a single feature, and stays so as that is made simple.
Each pair runs in a process of its own, forked before anything is launched; so none is sought on a card.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from gdn_verify.cases.codec import CaseFile, dumps, loads
from gdn_verify.cases.narrow import stored
from gdn_verify.cases.strategies import Fed
from gdn_verify.cases.variants import Feature, Word, kept_by
from gdn_verify.hosts import GPUS, Host
from gdn_verify.mutants.child import forked
from gdn_verify.paths import Path
from gdn_verify.paths.refusal import refusal_of
from gdn_verify.runner import run_case
from gdn_verify.service import planter
from gdn_verify.shrink import NotShownError, shrink

HANG = 300.0
"""Seconds of silence that are a hang."""
Relation = Callable[[Fed], Fed | None]
"""From a case to the one before it."""


@dataclass(frozen=True)
class Behind:
    """A failure behind another case: both, in a file's text; what the other has otherwise, in words; the finding."""

    file: str
    feature: str
    word: Word
    target: str

    def __str__(self) -> str:
        return f"{self.target}, behind a launch of the same process with {self.feature} {self.word}"


@dataclass(frozen=True)
class Seeking:
    """Asks a worker for what goes before the case of a file's text, for `seconds`, and as long to make both simple.

    `target` is the finding that is shown then, as check/kind; any for "".
    """

    path: str
    host: str
    file: str
    target: str = ""
    plant: str | None = None
    seconds: float = 120.0

    def measured(self, path: Path, host: Host) -> Sequence[Behind]:
        """The pair, or nothing."""
        if host.name in GPUS:
            return []
        given, deadline = loads(self.file), time.monotonic() + self.seconds
        fed = given.case, given.presentation
        for feature, word in _candidates(fed, path):
            before = partial(_variant, feature, word)
            shown = self._shown(path, host, before, fed)
            target = next((each for each in shown if self.target in ("", each)), "")
            if target:
                return [self._simple(path, host, before, fed, Behind(self.file, feature.name, word, target))]
            if time.monotonic() > deadline:
                break
        return []

    def _simple(self, path: Path, host: Host, before: Relation, fed: Fed, found: Behind) -> Behind:
        """The same, of simpler cases."""
        try:
            shows = partial(self._shown, path, host, before)
            fed = shrink(fed, lambda other: found.target in shows(other), seconds=self.seconds).fed
        except NotShownError:  # it was chance
            pass
        other = before(fed)
        assert other is not None
        return Behind(dumps(CaseFile(*fed, before=(CaseFile(*other),))), found.feature, found.word, found.target)

    def _shown(self, path: Path, host: Host, before: Relation, fed: Fed) -> tuple[str, ...]:
        """What a case shows behind the other, as check/kind."""
        first, plant = before(fed), planter(self.plant)
        if first is None or refusal_of(path, *first) or refusal_of(path, *fed):
            return ()

        def work(beat: object) -> list[str]:
            run_case(*first, path, host, plant=plant)
            return [f"{f.check}/{f.kind}" for f in run_case(*fed, path, host, plant=plant).findings]

        return tuple(forked(work, HANG).answer or ())


def _candidates(fed: Fed, path: Path) -> Iterator[tuple[Feature, Word]]:
    for feature in kept_by(stored(path.capabilities.span)):
        yield from ((feature, word) for word, _ in feature.variants(fed))


def _variant(feature: Feature, word: Word, fed: Fed) -> Fed | None:
    """The case with a feature so; None if it cannot be, or is."""
    return next((other for each, other in feature.variants(fed) if each == word), None)
