"""Counting a run: rows by path, host, kind and check, with pooled bias and power at the end."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from gdn_verify.cases.topics import Topic
from gdn_verify.checks.bias import Bias
from gdn_verify.checks.laws.judge import LawResult
from gdn_verify.checks.power import VACUOUS, Power, of_a_case
from gdn_verify.report.laws import LawTally
from gdn_verify.runner import ATTESTATION, CaseResult
from gdn_verify.service import Job, Ready
from gdn_verify.verdict import SANITIZERS, Check, Finding, Outcome

SCHEMA = 1
STANDING = (Check.VALUES, Check.TABLES, *SANITIZERS)
"""Checks whose rows count cases, each case once."""
GIVEN_UP = "given up"
"""The kind of a finding about cases that were not run."""
MIN_POOLED = 100
"""Bias and power are judged over at least this many cases; fewer are vacuous.

A share near 60 % of 40 cases is uncertain by 8 %, and the self-normalised sum of n cases cannot pass √n."""


@dataclass
class Row:
    """One line of the report: counts of cases by verdict under one check.

    `reach` is the share of the fixed probe set that the path accepts, `worst_noise_ratio` the largest ratio seen,
    `worst_drift` the largest relative distance of a state from the truth about its request after several launches,
    `seconds` the time its cases took in the worker.
    """

    path: str
    host: str
    version: str
    kind: str
    check: str
    cases: int = 0
    agrees: int = 0
    disagrees: int = 0
    refused: int = 0
    missing: int = 0
    crashed: int = 0
    vacuous: int = 0
    known: int = 0
    reach: float = 0.0
    worst_noise_ratio: float = 0.0
    worst_drift: float = 0.0
    seconds: float = 0.0

    @property
    def failed(self) -> bool:
        """Whether this row alone makes the gate fail."""
        return self.disagrees > 0 or self.crashed > 0


@dataclass(frozen=True)
class Failure:
    """A finding and the case that shows it ("" where it belongs to a whole run, or no case had begun)."""

    path: str
    host: str
    kind: Topic
    finding: Finding
    file: str


@dataclass
class _Group:
    """What is pooled for one path, host and kind."""

    ready: Ready | None = None
    rows: dict[Check, Row] = field(default_factory=dict)
    bias: Bias = field(default_factory=Bias)
    power: Power = field(default_factory=Power)
    worst: tuple[float, str] = (0.0, "")
    shapes: int = 0
    laws: dict[str, LawTally] = field(default_factory=dict)


@dataclass
class Use:
    """What a kind of device was used for: cases judged by outputs that it held, Triton kernels launched, its names."""

    cases: int = 0
    kernels: int = 0
    names: set[str] = field(default_factory=set)


Key = tuple[str, str, Topic]


class Report:
    """The outcome of a run; `finish` before reading `rows`, `failures` and `ok`.

    `red` counts the cases with a finding and those that crashed, while the run goes on; each once, unlike `failures`.
    `whole` is whether every case of the plan was run or is accounted for.
    `absent` says why a path cannot run on a host, `refusals` why a path refused its first refused case of a kind, and
    `known` in how many cases of a path on a host a rule of the ledger explains findings.
    `used` tells, by kind of device, what was judged there.
    """

    def __init__(self) -> None:
        self._groups: dict[Key, _Group] = {}
        self.failures: list[Failure] = []
        self.absent: dict[tuple[str, str], str] = {}
        self.refusals: dict[Key, str] = {}
        self.broken: list[str] = []
        self.known: Counter[tuple[str, str, str]] = Counter()
        self.used: dict[str, Use] = {}
        self.red = 0
        self.whole = True
        self._finished = False

    def _group(self, job: Job) -> _Group:
        return self._groups.setdefault((job.path, job.host, job.kind), _Group())

    def _row(self, job: Job, check: Check) -> Row:
        group = self._group(job)
        version = group.ready.version if group.ready else ""
        share = group.ready.reach if group.ready else 0.0
        fresh = Row(job.path, job.host, version, job.kind.value, check.value, reach=share)
        return group.rows.setdefault(check, fresh)

    def open(self, job: Job, ready: Ready) -> None:
        """A job's path is loaded."""
        group = self._group(job)
        group.ready, group.shapes = ready, job.shapes or 0

    def add(self, job: Job, file: str, result: CaseResult) -> None:
        """Count one case."""
        if job.laws:
            self._add_laws(job, file, result)
            return
        again = {Check.LAUNCHES: result.replays, Check.REPETITION: result.repetition}
        layers = (Check.MEMORY, *(check for check, done in again.items() if done))
        beside = layers if job.check is Check.VALUES else ()
        for check in (job.check, *beside):
            row = self._row(job, check)
            row.cases += 1
            outcome = result.outcome(check)
            setattr(row, outcome.value, getattr(row, outcome.value) + 1)
        whole = self._row(job, job.check)
        whole.worst_noise_ratio = max(whole.worst_noise_ratio, result.worst_ratio)
        whole.worst_drift = max(whole.worst_drift, result.drift)
        whole.seconds += result.seconds
        if refused := result.refused or next((done.refused for done in again.values() if done and done.refused), ""):
            self.refusals.setdefault((job.path, job.host, job.kind), refused)
        group = self._group(job)
        group.worst = max(group.worst, (result.worst_ratio, file), key=lambda found: found[0])
        if result.powers and not job.files:  # saved cases are there for what else they show
            group.power.add(of_a_case(result.powers))
        for projections in result.projections if not (result.findings or result.known) else ():
            group.bias.add(projections)
        self.failures += [Failure(job.path, job.host, job.kind, finding, file) for finding in result.findings]
        self.red += bool(result.findings)
        self.known.update({(job.path, job.host, name) for _, name in result.known})
        self._add_use(job, result)

    def _add_use(self, job: Job, result: CaseResult) -> None:
        """Count where a case was judged, unless its path's own kernels did not run there."""
        if not result.device or any(finding.kind == ATTESTATION for finding in result.findings):
            return
        use, ready = self.used.setdefault(result.device, Use()), self._group(job).ready
        use.cases += 1
        use.kernels += result.kernels
        use.names |= {ready.device} if ready else set()

    def _add_laws(self, job: Job, file: str, result: CaseResult) -> None:
        """Count one case under each law that it was held to."""
        row, group = self._row(job, Check.LAWS), self._group(job)
        unasked = LawResult(Outcome.VACUOUS if result.raised else Outcome.REFUSED, reason=result.refused)
        for name in job.laws:
            law = result.laws.get(name, unasked)
            row.cases += 1
            setattr(row, law.outcome.value, getattr(row, law.outcome.value) + 1)
            row.worst_noise_ratio = max(row.worst_noise_ratio, law.ratio)
            group.laws.setdefault(name, LawTally()).add(law.outcome, law)
        row.seconds += result.seconds
        row.disagrees += result.raised and not result.laws
        self.red += bool(result.findings)
        self.failures += [Failure(job.path, job.host, job.kind, finding, file) for finding in result.findings]

    def add_crash(self, job: Job, file: str, death: str) -> None:
        """A worker died or hung on a case."""
        row = self._row(job, job.check)
        row.cases += 1
        row.crashed += 1
        self.red += 1
        finding = Finding(job.check, "crashed", death)
        self.failures.append(Failure(job.path, job.host, job.kind, finding, file))

    def add_told(self, job: Job, file: str, findings: Iterable[Finding], *, stray: bool = False) -> None:
        """What a tool told beside a case's result: of one that ended its worker; or, `stray`, outside any case."""
        failures = [Failure(job.path, job.host, job.kind, finding, file) for finding in findings]
        self.failures += failures
        if failures and stray:
            self._row(job, job.check).disagrees += 1
            self.red += 1

    def add_lost(self, job: Job, reason: str) -> None:
        """Cases that will not run, because their path is given up or the run was ended: it is not whole."""
        self.whole = False
        self.failures.append(Failure(job.path, job.host, job.kind, Finding(job.check, GIVEN_UP, reason), ""))

    def add_broken(self, job: Job, traceback: str) -> None:
        """The suite itself failed; no path is blamed for it."""
        self.broken.append(f"{job.path} on {job.host}, {job.kind}: the suite itself failed\n{traceback}")

    def add_absent(self, job: Job, reason: str) -> None:
        """A path cannot run on a host here."""
        self.absent[job.path, job.host] = reason
        self.count_absent(job)

    def count_absent(self, job: Job) -> None:
        """Count a job's cases as missing."""
        row = self._row(job, job.check)
        row.cases += job.count or len(job.files)
        row.missing += job.count or len(job.files)

    def finish(self) -> None:
        """Judge what is pooled over the run: bias and power."""
        if self._finished:
            return
        self._finished = True
        for (path, host, kind), group in self._groups.items():
            job = Job(path, host, kind)
            if group.ready and group.ready.reach < group.ready.least_reach:
                self._shrunk(job, group.ready)
            self._judge_vacuity(job, group.rows.get(Check.VALUES))
            for check, findings in ((Check.POWER, group.power.findings()), (Check.BIAS, group.bias.findings())):
                if group.power.cases >= MIN_POOLED:
                    self._pooled(job, check, group.power.cases, findings)
                elif group.power.cases:
                    row = self._row(job, check)
                    row.cases = row.vacuous = group.power.cases

    def _judge_vacuity(self, job: Job, values: Row | None) -> None:
        """Launches without a live row prove nothing about values: too many are red."""
        launched = values.agrees + values.disagrees + values.vacuous if values else 0
        if values and launched >= MIN_POOLED and values.vacuous > VACUOUS * launched:
            text = f"{values.vacuous} of {launched} cases prove nothing about values; at most {VACUOUS:.0%} may"
            self._pooled(job, Check.POWER, launched, [Finding(Check.POWER, "empty", text)])

    def _shrunk(self, job: Job, ready: Ready) -> None:
        text = f"accepts {ready.reach:.1%} of the probe set; it declares at least {ready.least_reach:.1%}"
        self._pooled(job, Check.REACH, 1, [Finding(Check.REACH, "reach", text)])

    def _pooled(self, job: Job, check: Check, cases: int, findings: list[Finding]) -> None:
        row = self._row(job, check)
        row.cases = cases
        outcome = Outcome.DISAGREES if findings else Outcome.AGREES
        setattr(row, outcome.value, cases)
        self.failures += [Failure(job.path, job.host, job.kind, finding, "") for finding in findings]

    @property
    def rows(self) -> list[Row]:
        """All rows, grouped by path, host and kind."""
        return [row for group in self._groups.values() for row in group.rows.values()]

    @property
    def cases(self) -> int:
        """Cases that ran, crashed or are missing so far."""
        return sum(row.cases for row in self.rows if row.check in STANDING)

    @property
    def ok(self) -> bool:
        """Whether all ran, nothing disagreed or crashed, and every path that could run agreed on values, by kind, as
        every table builder did on tables.

        A run of laws alone is one in which each path and kind has obeyed some.
        """
        return self._right(lambda row: row.agrees)

    @property
    def nothing_new(self) -> bool:
        """The same, where it is enough of a path and kind to have shown what is known: of runs of a few cases."""
        return self._right(lambda row: row.agrees or row.known)

    def _right(self, proves: Callable[[Row], int]) -> bool:
        ran = [row for row in self.rows if not row.missing]
        judged = [row for row in ran if row.check in STANDING] or [row for row in ran if row.check == Check.LAWS]
        proved = bool(judged) and all(map(proves, judged))
        return self.whole and proved and not self.broken and not any(row.failed for row in self.rows)

    @property
    def compile_keys(self) -> int:
        """Shapes that kernels were compiled for on GPUs: one bounded pool for each Triton path."""
        pools: dict[tuple[str, str], int] = {}
        for (path, host, _), group in self._groups.items():
            pools[path, host] = max(pools.get((path, host), 0), group.shapes)
        return sum(pools.values())

    def power_shares(self) -> Iterator[tuple[Key, dict[str, float]]]:
        """Per path, host and kind: the share of cases that would have seen each wrong oracle."""
        return ((key, group.power.shares()) for key, group in self._groups.items() if group.power.cases)

    def laws(self) -> dict[Key, dict[str, LawTally]]:
        """Per path, host and kind that were held to laws: what each came to."""
        return {key: group.laws for key, group in self._groups.items() if group.laws}

    @property
    def devices(self) -> list[str]:
        """The devices and toolchains that paths ran on."""
        return sorted({group.ready.device for group in self._groups.values() if group.ready})

    def as_json(self) -> dict[str, Any]:
        """The report as data; `schema` is raised when a key changes its meaning."""
        return {
            "schema": SCHEMA,
            "rows": [
                {
                    **asdict(row),
                    "worst_noise_ratio": _number(row.worst_noise_ratio),
                    "worst_drift": _number(row.worst_drift),
                }
                for row in self.rows
            ],
            "devices": self.devices,
            "compile_keys": self.compile_keys,
            "absent": [{"path": p, "host": h, "reason": why} for (p, h), why in self.absent.items()],
            "refusals": [
                {"path": p, "host": h, "kind": k.value, "reason": why} for (p, h, k), why in self.refusals.items()
            ],
            "laws": [
                {"path": p, "host": h, "kind": k.value, "law": name, **law.as_json()}
                for (p, h, k), laws in self.laws().items()
                for name, law in laws.items()
            ],
            "failures": [_plain(failure) for failure in self.failures],
            "power": [
                {"path": p, "host": h, "kind": k.value, "shares": shares} for (p, h, k), shares in self.power_shares()
            ],
            "worst": [
                {"path": p, "host": h, "kind": k.value, "ratio": _number(group.worst[0]), "case": group.worst[1]}
                for (p, h, k), group in self._groups.items()
            ],
        }


def _plain(failure: Failure) -> dict[str, Any]:
    finding = failure.finding
    return {
        "path": failure.path,
        "host": failure.host,
        "kind": failure.kind.value,
        "check": finding.check.value,
        "finding": finding.kind,
        "message": finding.message,
        "noise_ratio": _number(finding.ratio),
        "case": failure.file,
    }


def _number(ratio: float) -> float:
    """JSON has no infinity, which is the ratio of a row that is not finite."""
    return min(ratio, sys.float_info.max)
