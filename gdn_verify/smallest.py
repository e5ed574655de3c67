"""The smallest case that still fails: Hypothesis' own shrinking, from a case that is known to fail."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis.database import InMemoryExampleDatabase
from hypothesis.strategies import SearchStrategy

from gdn_verify.cases.case import Case
from gdn_verify.cases.codec import CaseFile, dumps
from gdn_verify.cases.strategies import Fed

RUNS, SECONDS = 400, 120.0
"""How long it is sought; what has been found by then is the answer."""


class _FailsError(Exception):
    """The case at hand fails: how Hypothesis is told."""


def smallest(
    strategy: SearchStrategy[Fed],
    choices: bytes,
    fails: Callable[[Fed], bool],
    *,
    runs: int = RUNS,
    seconds: float = SECONDS,
) -> Fed:
    """The smallest case of `strategy` found that `fails`, starting with that of `choices` (`drawn_cases`).

    Raises ValueError where that one does not fail.
    """
    known: dict[Fed, bool] = {}
    deadline = time.monotonic() + seconds

    @settings(
        database=InMemoryExampleDatabase(),
        deadline=None,
        phases=(Phase.reuse, Phase.shrink),
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
    )
    @given(strategy)
    def hunt(fed: Fed) -> None:
        if fed not in known and len(known) < runs and time.monotonic() < deadline:
            known[fed] = fails(fed)
        if known.get(fed):
            raise _FailsError

    # A failure of the first goes to the database, whence the second takes it up, and shrinks it.
    with suppress(_FailsError):
        hunt.hypothesis.fuzz_one_input(choices)  # type: ignore[attr-defined]
    if not any(known.values()):
        raise ValueError("the case of these choices does not fail")
    with suppress(_FailsError):
        hunt()
    return min((fed for fed, failed in known.items() if failed), key=_size)


def _size(fed: Fed) -> tuple[int, int, int, int]:
    """Launches, what happens in them, tokens, and then the text of the file."""
    case = fed[0]
    return len(case.batches), _events(case), sum(b.tokens for b in case.batches), len(dumps(CaseFile(*fed)))


def _events(case: Case) -> int:
    return sum(len(batch.rows) + len(batch.moves) for batch in case.batches)
