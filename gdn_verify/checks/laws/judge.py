"""The laws held against one case on one path: which hold, which are broken, which say nothing of it and why."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from dataclasses import dataclass

from gdn_verify.cases.case import Case
from gdn_verify.cases.presentation import Presentation
from gdn_verify.checks.laws import gates, handover, heads, kinds, linear, rows, same
from gdn_verify.checks.laws.compare import Verdict, budgets_by_chain
from gdn_verify.checks.laws.compare import judge as hold
from gdn_verify.checks.laws.law import Law
from gdn_verify.checks.laws.observe import MalformedError, Misled, Run, Seen, observe, refusal, trusted, unfinished
from gdn_verify.checks.laws.relation import Relation
from gdn_verify.checks.laws.shots import Chain, Setting
from gdn_verify.checks.power import ENOUGH
from gdn_verify.hosts import Host
from gdn_verify.paths.base import Path
from gdn_verify.verdict import Check, Finding, Outcome

LAWS: dict[str, Law] = {
    law.name: law
    for laws in (rows.LAWS, heads.LAWS, kinds.LAWS, linear.LAWS, gates.LAWS, same.LAWS, handover.LAWS)
    for law in laws
}


@dataclass(frozen=True)
class LawResult:
    """What one law came to on one case.

    `reason` says why it was refused, `power` how far, in budgets, the case would have shown it broken (the most telling
    of its relations), `relations` how many held or did not. `raised` tells that the path's own code raised.
    """

    outcome: Outcome
    findings: tuple[Finding, ...] = ()
    reason: str = ""
    ratio: float = 0.0
    power: float = 0.0
    relations: int = 0
    raised: bool = False


class Court:
    """All laws of one launch: the launch itself is run once, its budgets drawn once."""

    def __init__(
        self, case: Case, presentation: Presentation, path: Path, host: Host, run: Run, misled: Misled = trusted
    ) -> None:
        self._setting, self._run, self._misled = Setting.of(case, presentation, path, host), run, misled
        self._seen: dict[int, tuple[Chain, Seen]] = {}
        self._drawn = budgets_by_chain()

    def judge(self, law: Law) -> LawResult:
        """One law. What the path raises on a launch that it declares to take is a finding."""
        if reason := law.needs(self._setting):
            return LawResult(Outcome.REFUSED, reason=reason)
        relations = law.vary(self._setting)
        refusals = [self._refusal(relation) for relation in relations]
        taken = [relation for relation, why in zip(relations, refusals, strict=True) if why is None]
        if not taken:
            return LawResult(Outcome.REFUSED, reason=next(filter(None, refusals), "there is no other way to launch it"))
        try:
            verdicts = [self._verdict(relation) for relation in taken]
        except Exception as error:
            frames = "".join(traceback.format_exception(error, limit=-4)).strip()
            finding = Finding(Check.LAWS, f"{law.name}: raised {type(error).__name__}", f"{error}\n{frames}")
            return LawResult(Outcome.DISAGREES, (finding,), raised=True)
        return _result(law, taken, verdicts)

    def _refusal(self, relation: Relation) -> str | None:
        chains = [trial.chain for trial in relation.trials] + ([relation.base] if relation.base else [])
        return next(filter(None, (refusal(chain, self._setting, self._misled) for chain in chains)), None)

    def _verdict(self, relation: Relation) -> Verdict:
        base = self._observed(relation.base or self._setting.base)
        trials = [observe(trial.chain, self._setting, self._run) for trial in relation.trials]
        for seen in (base, *trials):
            if words := next(unfinished(seen), None):
                raise MalformedError(words)
        return hold(relation, base, trials, self._drawn)

    def _observed(self, chain: Chain) -> Seen:
        if id(chain) not in self._seen:
            self._seen[id(chain)] = chain, observe(chain, self._setting, self._run)
        return self._seen[id(chain)][1]


def _result(law: Law, relations: list[Relation], verdicts: list[Verdict]) -> LawResult:
    findings = tuple(
        Finding(Check.LAWS, f"{law.name}: {wrong.name}", wrong.message, wrong.ratio)
        for verdict in verdicts
        for wrong in verdict.wrong
    )
    ratio = max(verdict.ratio for verdict in verdicts)
    power = max(verdict.power for verdict in verdicts)
    outcome = Outcome.DISAGREES if findings else Outcome.AGREES if power >= ENOUGH else Outcome.VACUOUS
    return LawResult(outcome, findings, "", ratio, power, len(relations))


def judge(
    case: Case,
    presentation: Presentation,
    path: Path,
    host: Host,
    run: Run,
    names: Iterable[str] = (),
    misled: Misled = trusted,
) -> dict[str, LawResult]:
    """The laws of these names, all by default, on the first launch of `case`, up to one that loses the device."""
    court = Court(case, presentation, path, host, run, misled)
    results: dict[str, LawResult] = {}
    lost = ""
    for name in names or LAWS:
        unasked = LawResult(Outcome.REFUSED, reason=f"{lost} lost the device")
        results[name] = unasked if lost else court.judge(LAWS[name])
        if results[name].raised and _lost(host):
            lost = name
    return results


def _lost(host: Host) -> bool:
    """Whether the device is of no more use to this process, as after an access beyond memory."""
    try:
        host.synchronize()
    except Exception:
        return True
    return False
