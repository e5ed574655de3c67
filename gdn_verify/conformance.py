"""What every adapter meets, in this repository or in another: three lines of a test.

    @pytest.mark.parametrize("host", MyPath.hosts)
    def test_conforms(host):
        conformance(MyPath(), host)

The path must be registered through the entry-point group `gdn_verify.paths`: its cases run in a worker, which finds
it by name.
"""

from __future__ import annotations

from gdn_verify import gate
from gdn_verify.corpus import proofs, ruled
from gdn_verify.paths import Path, Subject
from gdn_verify.paths.conformance import declarations
from gdn_verify.paths.relay import topics
from gdn_verify.profiles import Profile
from gdn_verify.report.table import describe, grouped
from gdn_verify.report.tally import Report


class MissingPathError(RuntimeError):
    """The path cannot run on this host here; the message says why, and what to install."""


def conformance(path: Subject, host: str, *, cases: int = 20) -> None:
    """Check what `path` declares, then that it agrees with the oracle on `cases` cases of each launch kind.

    It may be a table builder. Prefill and mixed launches get half as many, and a quarter in the interpreter;
    trajectories get a quarter, and a sixteenth there. Raises ContractError for a bad
    declaration, MissingPathError where the path cannot run on `host`, and AssertionError with the smallest failing
    case of each kind of finding that is not in the ledger (`known`), whose rules must still show what they say.
    """
    declarations(path)
    if host not in path.hosts:
        raise MissingPathError(f"{path.name} does not run on {host!r}, only on {', '.join(path.hosts)}")
    long, few = max(cases // 2, 1), max(cases // 4, 1)
    profile = Profile("conformance", cases, long, cases, few, courses=few, interpreted_courses=max(few // 4, 1))
    known = proofs([path], [host], topics(path)) if isinstance(path, Path) else ()
    jobs = ruled([*known, *gate.plan([path], [host], topics(path), profile)])
    _hold(gate.run(jobs, profile, workers=1), path, host)


def _hold(report: Report, path: Subject, host: str) -> None:
    report.finish()
    for reason in report.absent.values():
        raise MissingPathError(f"{path.name} on {host}: {reason}")
    if report.failures:
        raise AssertionError("\n\n".join(describe(failure, count) for failure, count in grouped(report.failures)))
    if not report.nothing_new:
        raise AssertionError(
            f"{path.name} on {host}: no case agrees, for none has run: {report.refusals or 'no cases'}"
        )
