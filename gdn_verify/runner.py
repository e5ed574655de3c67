"""A case on a path: feed, launch, observe, judge. One launch after the other, each from the bytes it found."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import Enum

from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import Stage
from gdn_verify.cases.presentation import Poison, Presentation
from gdn_verify.checks import accesses, bias, launches, memory, power, repetition, tables, values
from gdn_verify.checks.launches import Replays
from gdn_verify.checks.laws.judge import LawResult
from gdn_verify.checks.laws.judge import judge as judge_laws
from gdn_verify.checks.laws.observe import Misled, trusted
from gdn_verify.checks.question import ask, malformed, observed, written
from gdn_verify.checks.repetition import Repetition
from gdn_verify.feed import Feed, Pools, feed, initial_pools, pools_after
from gdn_verify.hosts import Host
from gdn_verify.moves import moved
from gdn_verify.oracles.noise import Rounding
from gdn_verify.paths.base import Launch, Outputs, Path
from gdn_verify.paths.builder import Begin, Builder
from gdn_verify.paths.refusal import refusal_of
from gdn_verify.truth import Ledger
from gdn_verify.verdict import SANITIZERS, Check, Finding, Outcome

Run = Callable[[Launch], Outputs]
Projections = dict[tuple[str, str], tuple[float, float]]
ATTESTATION = "attestation"
"""The kind of a finding that a path's own kernels did not run."""


class Effort(Enum):
    """How much is asked of a case."""

    FULL = "everything"
    LONE = "nothing that only a whole run can judge, as bias and power"
    HASTY = "whether it fails"


@dataclass
class CaseResult:
    """What one case on one path came to.

    `judged` counts the launches whose values were compared: none of a launch without live rows. `raised` tells that
    the path's own code raised, so that memory was not looked at. `powers` and `projections` are pooled over a run.
    `laws` holds what each law came to. `replays` are those of captured launches, and `repetition` is what the launch
    made again came to, where the case was asked for them.
    `drift` is the largest relative distance of a head's state, at the end of several launches, from the truth about its
    request: a number, no finding. `known` are the checks and names of rules that explain findings which were set aside.
    `device` is the kind that held the judged outputs, and `kernels` how many Triton kernels were launched for them.
    """

    findings: list[Finding] = field(default_factory=list)
    refused: str = ""
    raised: bool = False
    judged: int = 0
    worst_ratio: float = 0.0
    drift: float = 0.0
    laws: dict[str, LawResult] = field(default_factory=dict)
    powers: list[dict[str, float]] = field(default_factory=list)
    projections: list[Projections] = field(default_factory=list)
    replays: Replays | None = None
    repetition: Repetition | None = None
    seconds: float = 0.0
    known: tuple[tuple[Check, str], ...] = ()
    device: str = ""
    kernels: int = 0

    def outcome(self, check: Check) -> Outcome:
        """The verdict of this case under one check."""
        if self.refused:
            return Outcome.REFUSED
        if any(check in SANITIZERS or finding.check is check for finding in self.findings):
            return Outcome.DISAGREES
        if any(known is check for known, _ in self.known):
            return Outcome.KNOWN
        again = {Check.LAUNCHES: self.replays, Check.REPETITION: self.repetition}.get(check)
        if again is not None and again.refused:
            return Outcome.REFUSED
        nothing = not (self.judged if again is None else again.compared)
        if self.raised or (check is not Check.MEMORY and nothing):
            return Outcome.VACUOUS
        return Outcome.AGREES


def run_case(
    case: Case,
    presentation: Presentation,
    path: Path,
    host: Host,
    *,
    plant: Callable[[Path], Run] | None = None,
    launching: Callable[[bool], None] = lambda entered: None,
    watch: bool = False,
    effort: Effort = Effort.FULL,
    replay: bool = False,
    repeat: bool = False,
) -> CaseResult:
    """Run all batches of `case` on `path`, and judge each; after several, the states that they leave too.

    `plant` turns the path into a defective copy, for tests of the suite itself. `launching` is told when the path's
    own code is entered and left. With `watch`, every access of a kernel is checked, where the host can do that. With
    `replay` the first launch is captured too, and replayed on other rows; with `repeat` it is made again in all of the
    host's circumstances. What the path raises on a case that it declares to take is a finding.
    """
    result, started = CaseResult(), time.perf_counter()
    try:
        reason = refusal_of(path, case, presentation)
        roundings = [rounding_of(case, number, path, presentation, host) for number in range(len(case.batches))]
    except Exception as error:
        return CaseResult(findings=[finding_of(error)], raised=True)
    if reason:
        return CaseResult(refused=reason)
    bare = path.run if plant is None else plant(path)
    run = _announced(bare, host, launching)
    trial = _Trial(path, host, run, result, effort, watch)
    pools = initial_pools(case, path, presentation)
    ledger = _ledger(case, path, presentation, pools)
    for number, rounding in enumerate(roundings):
        pools = moved(pools, case.batches[number], presentation.first_slot, case.geometry.W)
        fed = feed(case, number, path, presentation, pools, host.device)
        pools = trial.launch(fed, rounding, ledger)
        if result.findings or result.refused:
            break  # what follows a wrong launch proves nothing
    else:
        trial.close(ledger, pools)
        if replay:
            _replay(case, presentation, path, host, bare, result)
        if repeat:
            _repeat(case, presentation, path, host, bare, result)
    result.seconds = time.perf_counter() - started
    return result


def _replay(case: Case, presentation: Presentation, path: Path, host: Host, run: Run, result: CaseResult) -> None:
    with _raising(result, Check.LAUNCHES):
        result.replays = launches.judge(case, presentation, path, host, run)
        result.findings += result.replays.findings


def _repeat(case: Case, presentation: Presentation, path: Path, host: Host, run: Run, result: CaseResult) -> None:
    with _raising(result, Check.REPETITION):
        result.repetition = repetition.judge(case, presentation, path, host, run)
        result.findings += result.repetition.findings


@contextmanager
def _raising(result: CaseResult, check: Check) -> Iterator[None]:
    """What the path raises within the block is a finding of `check`."""
    try:
        yield
    except Exception as error:
        result.findings.append(replace(finding_of(error), check=check))
        result.raised = True


def rounding_of(case: Case, number: int, path: Path, presentation: Presentation, host: Host) -> Rounding:
    """What one launch of the case rounds: its rows' and nobody else's."""
    alone = case if len(case.batches) == 1 else replace(case, batches=(case.batches[number],))
    return path.serving(case.batches[number], number).rounding(alone, presentation, host.name)


def _ledger(case: Case, path: Path, presentation: Presentation, pools: Pools) -> Ledger | None:
    """The account of a case whose states outlive a launch."""
    span, several = path.capabilities.span, len(case.batches) > 1 or bool(case.batches[0].moves)
    if not (several and path.capabilities.pool and Stage.DELTA in span):
        return None
    return Ledger(case, span, pools, presentation.first_slot)


def run_laws(
    case: Case,
    presentation: Presentation,
    path: Path,
    host: Host,
    names: Iterable[str],
    *,
    plant: Callable[[Path], Run] | None = None,
    launching: Callable[[bool], None] = lambda entered: None,
    misled: Misled = trusted,
) -> CaseResult:
    """Hold the first launch of `case` to the laws of these names, and to nothing else. Arguments as in `run_case`.

    `misled` says why the values of a launch of this path are known to be wrong, so that no law can speak of it.
    """

    def runs(other: Path) -> Run:
        return _announced(plant(other) if plant is not None and other is path else other.run, host, launching)

    result, started = CaseResult(), time.perf_counter()
    try:
        result.refused = refusal_of(path, case, presentation) or misled((case, presentation))
    except Exception as error:
        return CaseResult(findings=[finding_of(error)], raised=True)
    if not result.refused:
        result.laws = judge_laws(case, presentation, path, host, runs, names, misled)
        result.findings = [finding for law in result.laws.values() for finding in law.findings]
        result.raised = any(law.raised for law in result.laws.values())
    result.seconds = time.perf_counter() - started
    return result


def run_tables(
    case: Case,
    presentation: Presentation,
    builder: Builder,
    *,
    plant: Callable[[Builder], Begin] | None = None,
    launching: Callable[[bool], None] = lambda entered: None,
) -> CaseResult:
    """Hold the tables that `builder` makes of the launches of `case` to their oracle. Arguments as in `run_case`."""
    result, started = CaseResult(), time.perf_counter()
    try:
        result.refused = refusal_of(builder, case, presentation) or ""
        if not result.refused:
            begin = builder.begin if plant is None else plant(builder)
            found = tables.judge(case, presentation, begin, persistent=builder.persistent, launching=launching)
            result.findings = [*found]
            result.judged = len(case.batches)
    except Exception as error:
        result.findings, result.raised = [replace(finding_of(error), check=Check.TABLES)], True
    result.seconds = time.perf_counter() - started
    return result


def _announced(run: Run, host: Host, launching: Callable[[bool], None]) -> Run:
    """`run` until the device has finished, between two words to whoever waits."""

    def launch(what: Launch) -> Outputs:
        launching(True)
        try:
            outputs = run(what)
            host.synchronize()
        finally:
            launching(False)
        return outputs

    return launch


@dataclass(frozen=True)
class _Trial:
    """A case under way: on what it runs, and what it comes to."""

    path: Path
    host: Host
    run: Run
    result: CaseResult
    effort: Effort
    watch: bool

    def launch(self, fed: Feed, rounding: Rounding, ledger: Ledger | None) -> Pools:
        """Launch once and judge; the pools afterwards."""
        host, result = self.host, self.result
        path = self.path.serving(fed.batch, fed.number)
        seen = accesses.Watch(fed, fed.launch)
        try:
            watched = accesses.watching(fed, path.conventions, host, self.watch, path.widest_token)
            with host.launches() as kernels, watched as seen:
                outputs = self.run(seen.launch)
            if not isinstance(outputs, Outputs):
                raise TypeError(f"run returned {type(outputs).__name__}; give back Outputs")
            after = pools_after(fed)
            unwritten = memory.unwritten(fed, lambda poison: _again(fed, self.path, host.device, self.run, poison))
        except Exception as error:
            if reason := _unfit(error, path):
                result.refused = reason
                return fed.before
            result.findings += [finding_of(error), *seen.findings(finished=False)]
            result.raised = True
            return fed.before
        result.findings += list(_attest(path, host, fed, kernels))
        result.kernels += len(kernels)
        result.findings += memory.judge(fed, path.conventions, after, outputs.final_state)
        result.findings += memory.padded_stages(fed, path.conventions, outputs.stages)
        result.findings += unwritten
        result.findings += seen.findings()
        if ledger is not None:
            ledger.enter(fed)
        if len(fed.live_tokens):
            self._judge_values(fed, outputs, after, rounding, ledger)
        return after if path.capabilities.pool else fed.before

    def _judge_values(
        self, fed: Feed, outputs: Outputs, after: Pools, rounding: Rounding, ledger: Ledger | None
    ) -> None:
        path, result = self.path, self.result
        wrong = [*malformed(fed, outputs, path.capabilities.span), *_unshown(path, outputs)]
        result.findings += wrong
        if wrong:
            return
        problem = ask(fed, path.capabilities.span)
        stored = written(fed, problem.every_token)
        seen = observed(fed, outputs, after.ssm, problem.every_token)
        draws = values.HASTY if self.effort is Effort.HASTY else values.DRAWS
        judged = values.judge(problem, rounding, stored, seen, draws=draws)
        result.judged += 1
        result.device = self.host.kind_of(outputs.o)
        self._count(judged)
        if ledger is not None:
            ledger.record(fed, stored, judged.expected["h"].value, seen["h"])
        shown = bool(outputs.stages) and self.effort is not Effort.HASTY
        for name, question, got in values.stage_questions(fed, problem, outputs, seen) if shown else ():
            if question.finite:  # or the stage before it is found guilty; from such an edge nothing follows
                self._count(values.judge(question, rounding, stored, got, where=f"stage {name}: ", launch=judged))
        if self.effort is Effort.FULL and Stage.DELTA in path.capabilities.span:
            found = power.alternatives(problem, judged.expected, stored)
            result.powers.append(power.powers(found, judged.expected, seen))
            result.projections.append(bias.project(found, judged.expected, seen))

    def _count(self, judged: values.Judged) -> None:
        self.result.findings += judged.findings
        self.result.worst_ratio = max(self.result.worst_ratio, judged.worst_ratio)

    def close(self, ledger: Ledger | None, pools: Pools) -> None:
        """The end of a case without findings: its states against the truth about their requests."""
        if ledger is not None:
            reckoning = ledger.reckon(pools)
            self.result.drift = reckoning.drift
            self.result.findings += reckoning.findings


def _again(fed: Feed, path: Path, device: str, run: Run, poison: Poison) -> Feed:
    """The same launch from the same pools, in an arena of another poison."""
    shown = replace(fed.presentation, poison=poison)
    second = feed(fed.case, fed.number, path, shown, fed.before, device)
    run(second.launch)
    return second


def _unfit(error: Exception, path: Path) -> str:
    """Why a configuration that was asked for cannot be launched on this chip, where an autotuner would pass it over."""
    if path.configuration is not None and type(error).__name__ == "OutOfResources":
        return f"configuration {path.configuration} does not fit: {error}"
    return ""


def finding_of(error: Exception) -> Finding:
    """What a path raised, as a finding."""
    frames = "".join(traceback.format_exception(error, limit=-4)).strip()
    return Finding(Check.VALUES, f"raised {type(error).__name__}", f"{error}\n{frames}")


def _unshown(path: Path, outputs: Outputs) -> Iterator[Finding]:
    """Less would be judged than the path says, and nobody would know."""
    if lacking := sorted(path.shows - outputs.stages.keys()):
        yield Finding(Check.VALUES, "unshown stages", f"{', '.join(lacking)} not shown; see `Path.shows`")


def _attest(path: Path, host: Host, fed: Feed, kernels: list[str]) -> Iterator[Finding]:
    """A path that did not run its kernels, all of them, is never green; nor is one that ran others than it says."""
    if host.name == "cpu" or not len(fed.live_tokens):
        return
    lacking = [wanted for wanted in path.kernels if not any(wanted in name for name in kernels)]
    if lacking:
        message = f"{', '.join(lacking)} not launched; launched were {', '.join(sorted(set(kernels))) or 'no kernels'}"
        yield Finding(Check.VALUES, ATTESTATION, message)
    if path.besides is None:
        return
    said = (*path.kernels, *path.besides)
    if strange := {name for name in kernels if not any(each in name for each in said)}:
        message = f"{', '.join(sorted(strange))} launched; the path says {', '.join(said) or 'no kernels'}"
        yield Finding(Check.VALUES, ATTESTATION, message)
