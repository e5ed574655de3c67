"""Does the same launch give the same bits again, whatever the process did before and does beside it?

Who adds first, who takes the last ticket, which warp is late, what lay in scratch memory, what a cache remembers: most
launches hide it. So one is made again from the same bytes, a hundred times on a card, and in the circumstances that a
host knows of: on another stream, beside others of its kind, in memory that other tensors left, from empty caches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

from gdn_verify.cases.case import Case
from gdn_verify.cases.presentation import Presentation
from gdn_verify.checks import bits
from gdn_verify.feed import Feed, feed, initial_pools
from gdn_verify.hosts import Host
from gdn_verify.hosts.circumstances import Circumstance
from gdn_verify.paths.base import Launch, Outputs, Path
from gdn_verify.verdict import Check, Finding

Run = Callable[[Launch], Outputs]


@dataclass
class Repetition:
    """What came of one case: findings, launches compared with the first, or why none was."""

    findings: list[Finding] = field(default_factory=list)
    compared: int = 0
    refused: str = ""


def judge(case: Case, presentation: Presentation, path: Path, host: Host, run: Run) -> Repetition:
    """Make the first launch of `case` again in all of the host's circumstances; a bit that differs is a finding."""
    found = Repetition()
    if not path.conventions.deterministic:
        found.refused = "the path does not promise the same bits for the same launch"
        return found
    first = replace(case, batches=case.batches[:1])
    pools = initial_pools(first, path, presentation)
    circumstances = host.circumstances()
    many = max(circumstance.beside for circumstance in circumstances)
    fed = [feed(first, 0, path, presentation, pools, host.device) for _ in range(many)]
    outputs = run(fed[0].launch)
    host.synchronize()
    expected = bits.left(fed[0], outputs)
    for circumstance in circumstances:
        found.findings += _again(circumstance, fed[: circumstance.beside], host, run, expected)
        found.compared += circumstance.times * circumstance.beside
    return found


def _again(
    circumstance: Circumstance, fed: list[Feed], host: Host, run: Run, expected: list[bits.Left]
) -> Iterator[Finding]:
    """The first turn that differs, for each tensor once."""
    told: set[str] = set()
    for turn in range(circumstance.times):
        outputs = circumstance.perform([partial(_relaunch, one, run, circumstance) for one in fed])
        host.synchronize()
        for one, got in zip(fed, outputs, strict=True):
            again = f"when launched again{f' {circumstance.name}' if circumstance.name else ''} (turn {turn + 1})"
            for sentence in bits.differences(expected, bits.left(one, got), (again, "at first")):
                if (name := sentence.partition("[")[0]) not in told:
                    told.add(name)
                    yield Finding(Check.REPETITION, circumstance.name or "again", sentence)


def _relaunch(fed: Feed, run: Run, circumstance: Circumstance) -> Outputs:
    """From the bytes of the first time, put back on the stream of the launch."""
    fed.arena.restore()
    with circumstance.around():  # only now: putting back takes memory, and leaves it
        return run(fed.launch)
