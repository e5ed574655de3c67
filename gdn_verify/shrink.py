"""From a case that shows a finding to one that shows the same and is as simple as can be found.

Passes (`cases.simpler`) offer simpler cases; the first that still shows the finding is taken, and they are asked again,
until none of them has one or time is up. What was found by then is kept, and a later run goes on from it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import ceil, log

from gdn_verify.cases.simpler import CONTENTS, SHAPES, Pass
from gdn_verify.cases.strategies import Fed

Shows = Callable[[Fed], bool]
"""Whether a case, run once, shows the finding."""
TRIALS = 5
"""Runs of the first case, which say whether it fails each time."""
MISSED = 0.05
"""How likely a case that fails as often as the first is passed over, where that does not fail each time."""
MOST_RUNS = 20
"""Of one case, however seldom the first fails."""


class NotShownError(ValueError):
    """The case to begin with does not show the finding."""


@dataclass
class Count:
    """What a pass came to: cases that were run, and those of them that showed the finding."""

    tried: int = 0
    taken: int = 0


@dataclass
class Shrunk:
    """The simplest case so far. `rate` is the share of its runs in which the first case failed.

    `finished` says that no pass has anything simpler that shows the finding, so that time would change nothing.
    """

    fed: Fed
    rate: float = 1.0
    counts: dict[str, Count] = field(default_factory=dict)
    finished: bool = False
    seconds: float = 0.0

    @property
    def flaky(self) -> bool:
        """Whether the first case passed at times."""
        return self.rate < 1.0

    @property
    def runs(self) -> int:
        """How many cases were tried."""
        return sum(count.tried for count in self.counts.values())


Progress = Callable[[Shrunk], None]


def shrink(
    fed: Fed,
    shows: Shows,
    *,
    seconds: float,
    passes: Sequence[Pass] = (*SHAPES, *CONTENTS),
    progress: Progress = lambda shrunk: None,
) -> Shrunk:
    """The simplest case found within `seconds` that `shows` what `fed` does. `progress` is told of each that is taken.

    The clock starts after the first runs of `fed` itself, which take as long again at most, or one run. Raises
    NotShownError where none of them shows it.
    """
    found = Shrunk(fed, _rate(fed, shows, seconds), {each.__name__: Count() for each in passes})
    started = time.monotonic()
    hunt = _Hunt(shows, repeats(found.rate), started, started + seconds)
    while not found.finished and not hunt.late:
        before = found.fed
        for each in passes:
            _exhaust(each, found, hunt, progress)
        found.finished = found.fed == before and not hunt.late
    found.seconds = time.monotonic() - started
    return found


def _rate(fed: Fed, shows: Shows, seconds: float) -> float:
    """The share of runs in which the case fails; of as many as `seconds` allow, one at least."""
    started, answers = time.monotonic(), list[bool]()
    while len(answers) < TRIALS and (not answers or time.monotonic() - started < seconds):
        answers.append(shows(fed))
    if not any(answers):
        raise NotShownError(f"the case does not show the finding in {len(answers)} runs of it")
    return sum(answers) / len(answers)


def order(on_gpu: bool) -> tuple[Pass, ...]:
    """All passes: on a GPU those that make it compile anew come last, elsewhere small cases are quick ones."""
    return (*CONTENTS, *SHAPES) if on_gpu else (*SHAPES, *CONTENTS)


@dataclass
class _Hunt:
    shows: Shows
    repeats: int
    started: float
    deadline: float
    seen: dict[Fed, bool] = field(default_factory=dict)

    @property
    def late(self) -> bool:
        return time.monotonic() >= self.deadline

    def fails(self, fed: Fed) -> bool:
        if fed not in self.seen:
            self.seen[fed] = any(self.shows(fed) for _ in range(self.repeats))
        return self.seen[fed]


def _exhaust(each: Pass, found: Shrunk, hunt: _Hunt, progress: Progress) -> None:
    """Take from one pass what it has, until it has no more."""
    count, took = found.counts[each.__name__], True
    while took:
        took = False
        for other in each(found.fed):
            if hunt.late:
                return
            count.tried += other not in hunt.seen
            if hunt.fails(other):
                found.fed, took = other, True
                count.taken += 1
                found.seconds = time.monotonic() - hunt.started
                progress(found)
                break


def repeats(rate: float) -> int:
    """Runs in which a case that fails at this rate fails once, but for the share `MISSED`."""
    return 1 if rate >= 1.0 else min(MOST_RUNS, ceil(log(MISSED) / log(1.0 - rate)))
