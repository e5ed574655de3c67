"""A case on a path: feed, launch, observe, judge. One launch after the other, each from the bytes it found."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import Stage
from gdn_verify.cases.narrow import refuses
from gdn_verify.cases.presentation import Poison, Presentation
from gdn_verify.checks import bias, memory, power, values
from gdn_verify.checks.laws.judge import LawResult
from gdn_verify.checks.laws.judge import judge as judge_laws
from gdn_verify.checks.question import ask, malformed, observed, written
from gdn_verify.feed import Feed, Pools, feed, initial_pools, pools_after
from gdn_verify.hosts import Host
from gdn_verify.oracles.noise import Rounding
from gdn_verify.paths.base import Launch, Outputs, Path
from gdn_verify.verdict import Check, Finding, Outcome

Run = Callable[[Launch], Outputs]
Projections = dict[tuple[str, str], tuple[float, float]]


@dataclass
class CaseResult:
    """What one case on one path came to.

    `judged` counts the launches whose values were compared: none of a launch without live rows. `raised` tells that
    the path's own code raised, so that memory was not looked at. `laws` holds what each law came to. `powers` and
    `projections` are pooled over a run.
    """

    findings: list[Finding] = field(default_factory=list)
    refused: str = ""
    raised: bool = False
    judged: int = 0
    worst_ratio: float = 0.0
    laws: dict[str, LawResult] = field(default_factory=dict)
    powers: list[dict[str, float]] = field(default_factory=list)
    projections: list[Projections] = field(default_factory=list)
    seconds: float = 0.0

    def outcome(self, check: Check) -> Outcome:
        """The verdict of this case under one check."""
        if self.refused:
            return Outcome.REFUSED
        if any(finding.check is check for finding in self.findings):
            return Outcome.DISAGREES
        if self.raised or (check is Check.VALUES and not self.judged):
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
) -> CaseResult:
    """Run all batches of `case` on `path`, and judge each.

    `plant` turns the path into a defective copy, for tests of the suite itself. `launching` is told when the path's
    own code is entered and left. What the path raises on a case that it declares to take is a finding.
    """
    result, started = CaseResult(), time.perf_counter()
    try:
        reason = refuses(path.capabilities, path.conventions, case, presentation) or path.refuses(case, presentation)
        rounding = path.rounding(case, host.name)
    except Exception as error:
        return CaseResult(findings=[_raised(error)], raised=True)
    if reason:
        return CaseResult(refused=reason)
    run = _announced(path.run if plant is None else plant(path), host, launching)
    pools = initial_pools(case, path, presentation)
    for number in range(len(case.batches)):
        fed = feed(case, number, path, presentation, pools, host.device)
        pools = _run_batch(fed, path, host, run, rounding, result)
        if result.findings:
            break  # what follows a wrong launch proves nothing
    result.seconds = time.perf_counter() - started
    return result


def run_laws(
    case: Case,
    presentation: Presentation,
    path: Path,
    host: Host,
    names: Iterable[str],
    *,
    plant: Callable[[Path], Run] | None = None,
    launching: Callable[[bool], None] = lambda entered: None,
) -> CaseResult:
    """Hold the first launch of `case` to the laws of these names, and to nothing else. Arguments as in `run_case`."""

    def runs(other: Path) -> Run:
        return _announced(plant(other) if plant is not None and other is path else other.run, host, launching)

    result, started = CaseResult(), time.perf_counter()
    try:
        result.refused = refuses(path.capabilities, path.conventions, case, presentation) or ""
        result.refused = result.refused or path.refuses(case, presentation) or ""
    except Exception as error:
        return CaseResult(findings=[_raised(error)], raised=True)
    if not result.refused:
        result.laws = judge_laws(case, presentation, path, host, runs, names)
        result.findings = [finding for law in result.laws.values() for finding in law.findings]
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


def _run_batch(fed: Feed, path: Path, host: Host, run: Run, rounding: Rounding, result: CaseResult) -> Pools:
    try:
        with host.launches() as kernels:
            outputs = run(fed.launch)
        if not isinstance(outputs, Outputs):
            raise TypeError(f"run returned {type(outputs).__name__}; give back Outputs")
        after = pools_after(fed)
        unwritten = memory.unwritten(fed, lambda poison: _again(fed, path, host.device, run, poison))
    except Exception as error:
        result.findings.append(_raised(error))
        result.raised = True
        return fed.before
    result.findings += list(_attest(path, host, fed, kernels))
    result.findings += memory.judge(fed, path.conventions, after, outputs.final_state)
    result.findings += unwritten
    if len(fed.live_tokens):
        _judge_values(fed, path, outputs, after, rounding, result)
    return after if path.capabilities.pool else fed.before


def _again(fed: Feed, path: Path, device: str, run: Run, poison: Poison) -> Feed:
    """The same launch from the same pools, in an arena of another poison."""
    shown = replace(fed.presentation, poison=poison)
    second = feed(fed.case, fed.number, path, shown, fed.before, device)
    run(second.launch)
    return second


def _raised(error: Exception) -> Finding:
    frames = "".join(traceback.format_exception(error, limit=-4)).strip()
    return Finding(Check.VALUES, f"raised {type(error).__name__}", f"{error}\n{frames}")


def _attest(path: Path, host: Host, fed: Feed, kernels: list[str]) -> Iterator[Finding]:
    """A path that did not run its kernels, all of them, is never green."""
    if host.name == "cpu" or not len(fed.live_tokens):
        return
    lacking = [wanted for wanted in path.kernels if not any(wanted in name for name in kernels)]
    if lacking:
        message = f"{', '.join(lacking)} not launched; launched were {', '.join(sorted(set(kernels))) or 'no kernels'}"
        yield Finding(Check.VALUES, "attestation", message)


def _judge_values(
    fed: Feed, path: Path, outputs: Outputs, after: Pools, rounding: Rounding, result: CaseResult
) -> None:
    wrong = list(malformed(fed, outputs, path.capabilities.span))
    result.findings += wrong
    if wrong:
        return
    problem = ask(fed, path.capabilities.span)
    stored = written(fed, problem.every_token)
    seen = observed(fed, outputs, after.ssm, problem.every_token)
    judged = values.judge(problem, rounding, stored, seen)
    result.judged += 1
    result.findings += judged.findings
    result.worst_ratio = max(result.worst_ratio, judged.worst_ratio)
    if outputs.stages:
        for name, question, got in values.stage_questions(fed, problem, outputs, seen):
            if not question.finite:
                continue  # the stage before it is found guilty; from such an edge nothing follows
            part = values.judge(question, rounding, stored, got, where=f"stage {name}: ")
            result.findings += part.findings
            result.worst_ratio = max(result.worst_ratio, part.worst_ratio)
    if Stage.DELTA in path.capabilities.span:
        found = power.alternatives(problem, judged.expected, stored)
        result.powers.append(power.powers(found, judged.expected, seen))
        result.projections.append(bias.project(found, judged.expected, seen))
