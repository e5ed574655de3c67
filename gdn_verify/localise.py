"""Where a launch first leaves the budget, and what its error looks like: stage, place, and the defect that is like it.

A path that exposes its stages is judged stage by stage. Any other is held against wrong oracles (`oracles.defects`):
one that gives what the launch gave, to within the noise, names the stage. Where all values are right, or a copy that
comes before them is wrong, findings of memory tell (`traces`); of a launch that raises its stack does (`raised`). What
the launch alone leaves open is asked of it made otherwise (`retried`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import WRITE_BACK, Span, Stage
from gdn_verify.cases.presentation import Presentation
from gdn_verify.cases.strategies import Fed
from gdn_verify.checks import accesses, bits, memory, values
from gdn_verify.checks.question import Written, ask, malformed, observed, states_of, written
from gdn_verify.emulator.access import Fault
from gdn_verify.feed import Feed, Pools, feed, initial_pools, pools_after
from gdn_verify.hosts import Host
from gdn_verify.located import Found, Localised, Match, Raised, Touched
from gdn_verify.moves import moved
from gdn_verify.oracles.compose import Array, Problem, Results
from gdn_verify.oracles.defects import BEFORE, DEFECTS, Within, results_before, results_of
from gdn_verify.oracles.noise import Expected, Rounding, rows, threshold
from gdn_verify.oracles.wrong import from_delta
from gdn_verify.paths.base import Outputs, Path
from gdn_verify.patterns import Mask, looks, places, rounded_once
from gdn_verify.raised import stage_of_error
from gdn_verify.retried import retried
from gdn_verify.runner import Run, finding_of, rounding_of
from gdn_verify.traces import first_copy, stage_of
from gdn_verify.verdict import Finding

REACH = {str(Stage.DELTA): (Stage.GATES, Stage.DELTA)}
"""Stages of the defects that a stage with right inputs may have: it may use a gate otherwise than it was given."""
BEST = 3
"""Defects that are named, those that match best."""


def localise(
    case: Case,
    presentation: Presentation,
    path: Path,
    host: Host,
    run: Run | None = None,
    before: Sequence[Fed] = (),
    careful: bool = False,
) -> Found | None:
    """The first launch of `case` with something wrong, or None if there is none. `run` stands in for the path's own.

    Cases `before` are launched ahead of it, and not judged. With `careful` every access of a launch is checked before
    it is made in earnest, where the host can: what lies elsewhere is told, and not touched. Raises ValueError for
    results that are missing or misshapen.
    """
    launching = run or path.run
    for earlier, shown in before:
        _wrong(earlier, shown, path, host, launching)

    def ask(other: Case, shown: Presentation) -> Found | None:
        return _wrong(other, shown, path, host, launching, careful)

    found = ask(case, presentation)
    return found and retried(found, case, presentation, path, ask)


def _wrong(
    case: Case, presentation: Presentation, path: Path, host: Host, run: Run, careful: bool = False
) -> Found | None:
    """The first wrong launch as it is, without experiments."""
    pools = initial_pools(case, path, presentation)
    for number, batch in enumerate(case.batches):
        pools = moved(pools, batch, presentation.first_slot, case.geometry.W)
        fed, serving = feed(case, number, path, presentation, pools, host.device), path.serving(batch, number)
        if careful and host.memory_checker() is not None:
            seen = _watched(feed(case, number, path, presentation, pools, host.device), serving, host, run)
            if seen:
                return Touched(number, seen[0], stage_of(seen[0].kind, serving.capabilities.span))
        try:
            outputs = run(fed.launch)
            host.synchronize()
        except Exception as error:
            return Raised(number, finding_of(error), stage_of_error(error, serving))
        after = pools_after(fed)
        touched = memory.judge(fed, serving.conventions, after, outputs.final_state)
        found = _judged(fed, outputs, after, serving, host) if len(fed.live_tokens) else None
        if found is not None:
            return _with_copies(found, touched, serving.capabilities.span)
        if not touched and host.memory_checker() is not None:
            touched = _watched(feed(case, number, path, presentation, pools, host.device), serving, host, run)
        if touched:
            return Touched(number, touched[0], stage_of(touched[0].kind, serving.capabilities.span))
        pools = after if path.capabilities.pool else fed.before
    return None


def _with_copies(found: Localised, touched: list[Finding], span: Span) -> Localised:
    """A window or z that is no copy was wrong before what was computed. Of wrong states alone it is no cause."""
    first = "" if found.result == "h" else first_copy((finding.kind for finding in touched), span)
    return replace(found, stage=first) if first and found.stage != Stage.UNPACK else found


def reads_outside(
    case: Case, presentation: Presentation, path: Path, host: Host, launch: int, run: Run | None = None
) -> bool:
    """Whether a launch of the case reads what lies around its tensors, where the host can tell.

    Wrong values of such a launch are those of what lies there.
    """
    if host.memory_checker() is None:
        return False
    launching, pools = run or path.run, initial_pools(case, path, presentation)
    for number in range(launch + 1):
        pools = moved(pools, case.batches[number], presentation.first_slot, case.geometry.W)
        fed = feed(case, number, path, presentation, pools, host.device)
        if number < launch:
            launching(fed.launch)
            host.synchronize()
            pools = pools_after(fed) if path.capabilities.pool else fed.before
    seen = _watched(fed, path.serving(case.batches[launch], launch), host, launching)
    return any(finding.kind.startswith(Fault.READ_OUTSIDE) for finding in seen)


def _watched(fed: Feed, path: Path, host: Host, run: Run) -> list[Finding]:
    """What is seen of the same launch where each access is checked."""
    with accesses.watching(fed, path.conventions, host, widest_token=path.widest_token) as seen:
        run(seen.launch)
        host.synchronize()
    return seen.findings()


def _judged(fed: Feed, outputs: Outputs, after: Pools, path: Path, host: Host) -> Localised | None:
    for finding in malformed(fed, outputs, path.capabilities.span):
        raise ValueError(f"launch {fed.number}: {finding}")
    launch = _launched(fed, outputs, after, path, rounding_of(fed.case, fed.number, path, fed.presentation, host))
    off = next((part for part in launch.parts if part.result), None)
    if off is None:
        return None
    found = launch.matching(path.capabilities.span) if launch.findings else ()
    fitting = (match for match in found if not off.stage or match.stage in REACH.get(off.stage, (off.stage,)))
    matches = tuple(sorted(fitting, key=lambda match: match.ratio)[:BEST])
    stage = off.stage or launch.stage(matches, path.capabilities.span)
    if off.result == "h" and not matches:  # outputs come first, and are right
        computed = Stage.DELTA in path.capabilities.span and _computed(fed, after, launch.stored, off.got["h"])
        stage = str(Stage.DELTA) if computed else WRITE_BACK
    axes, want, got = values.AXES[off.result], off.expected[off.result], off.got[off.result]
    ratios = want.ratios(got)
    wrong = ratios > off.limit
    return Localised(
        fed.number, off.result, stage, tuple(places(wrong, axes)), tuple(looks(got, want.value, wrong, axes)), axes,
        ratios, np.abs(got - want.value), matches,
        rounded_once(got[wrong], want.value[wrong], off.limit * want.budget[wrong]),
    )  # fmt: skip


def _computed(fed: Feed, after: Pools, stored: list[Written], h: Array) -> bool:
    """Whether a stored state is not finite where its slot held other bits: it was computed, not left as it was."""
    if fed.before.ssm is None or after.ssm is None:
        return False
    odd = [fed.physical(s.slot) for s, state in zip(stored, h, strict=True) if not np.isfinite(state).all()]
    return any(bool((bits.bits(fed.before.ssm[at]) != bits.bits(after.ssm[at])).any()) for at in odd)


@dataclass(frozen=True)
class _Part:
    """An exposed stage, or the launch as a whole (""): what is right, and what was given."""

    stage: str
    expected: Mapping[str, Expected]
    got: Mapping[str, Array]

    @property
    def limit(self) -> float:
        return threshold(sum(self.expected[name].budget.size for name in self.got))

    def wrong(self, name: str) -> Mask:
        """Rows of a result that are beyond the limit."""
        return self.expected[name].ratios(self.got[name]) > self.limit

    @property
    def result(self) -> str:
        """The first result that is wrong, outputs before states; "" if none is."""
        return next((name for name in self.got if self.wrong(name).any()), "")


def _launched(fed: Feed, outputs: Outputs, after: Pools, path: Path, rounding: Rounding) -> _Launch:
    problem = ask(fed, path.capabilities.span)
    stored = written(fed, problem.every_token)
    seen = observed(fed, outputs, after.ssm, problem.every_token)
    judged = values.judge(problem, rounding, stored, seen)
    parts = []
    for name, question, got in values.stage_questions(fed, problem, outputs, seen) if outputs.stages else ():
        if question.finite:
            alone = values.judge(question, rounding, stored, got, launch=judged)
            parts.append(_Part(name, alone.expected, rows(got)))
    live = tuple(number for number, _ in fed.batch.live_rows())
    return _Launch(problem, live, stored, judged.findings, (*parts, _Part("", judged.expected, rows(seen))))


@dataclass(frozen=True)
class _Launch:
    """A launch: its problem, its live rows, the states it stored, what was found, and its parts, the whole last."""

    problem: Problem
    rows: tuple[int, ...]
    stored: list[Written]
    findings: tuple[Finding, ...]
    parts: tuple[_Part, ...]

    @property
    def whole(self) -> _Part:
        return self.parts[-1]

    @property
    def known(self) -> Results:
        """The right results of all stages, without an axis of runs."""
        values_of = {name: item.value for name, item in self.whole.expected.items()}
        return {name: value[..., 0] if name in ("g", "beta") else value for name, value in values_of.items()}

    def distance(self, made: Results) -> float:
        """How far wrong results are from those seen, in budgets of the right ones, larger where they are larger."""
        results = {**made, "h": states_of(made["h"], self.stored)} if "h" in made else made
        whole = self.whole
        if not whole.got.keys() <= results.keys():
            return np.inf
        return max(_apart(results[name], whole.expected[name], whole.got[name]) for name in whole.got)

    def matching(self, span: Span) -> Iterator[Match]:
        """Wrong oracles that are as near to the launch as a right kernel would be to the right one."""
        for name, (stage, _) in BEFORE.items():
            made = results_before(name, self.problem, self.known)
            if made is not None and (ratio := self.distance(made)) <= self.whole.limit:
                yield Match(name, stage, "", ratio)
        if Stage.DELTA not in span:
            return
        delta = from_delta(self.problem, self.known)
        for defect in DEFECTS:
            for where, within in self._within():
                made = results_of(defect, delta, within)
                if made is not None and (ratio := self.distance(made)) <= self.whole.limit:
                    yield Match(defect.name, defect.stage, where, ratio)
                    break

    def _within(self) -> Iterator[tuple[str, Within]]:
        """Everywhere; in the value heads that are wrong; from each row's first wrong token on; both."""
        starts, HV = self.problem.query_start_loc, self.problem.geometry.HV
        T, N = int(starts[-1]), len(starts) - 1
        every = np.ones((T, HV), bool), np.ones((N, HV), bool)
        yield "", every
        wrong = self.whole.wrong("out" if "out" in self.whole.got else "o")
        if not wrong.any():
            return
        heads: Mask = np.asarray(wrong.any(0))
        row = np.searchsorted(starts, np.arange(T), side="right") - 1
        begin = np.array([_first(wrong[starts[n] : starts[n + 1]]) for n in range(N)])
        later, some = np.arange(T) - starts[row] >= begin[row], begin < T
        of_heads = f" in {places(heads[None], ('', 'value head'))[1]}"
        one = f" from token {begin[some][0]} of row {self.rows[int(np.flatnonzero(some)[0])]} on"
        since = one if some.sum() == 1 else " from the first wrong token of each row on"
        if not heads.all():
            yield of_heads, (every[0] & heads, every[1] & heads)
        if not later.all():
            yield since, (every[0] & later[:, None], every[1] & some[:, None])
        if not (heads.all() or later.all()):
            yield of_heads + since, (later[:, None] & heads, some[:, None] & heads)

    def stage(self, matches: tuple[Match, ...], span: Span) -> str:
        """What the best match says, where the path has that stage; else what its results say."""
        if matches:
            return str(matches[0].stage if matches[0].stage in span else Stage.DELTA)
        alone = [stage for stage in span if stage is not Stage.UNPACK]
        return str(alone[0]) if len(alone) == 1 else ""


def _apart(made: Array, right: Expected, got: Array) -> float:
    """The largest distance of a row, in budgets that grow with its size."""
    ratios = Expected(made, right.budget * _larger(made, right)).ratios(got)
    return float(ratios.max(initial=0.0))


def _larger(made: Array, right: Expected) -> Array:
    """How many times as large as right rows [..., n] wrong ones are, and so is their rounding; one at least."""
    with np.errstate(divide="ignore", invalid="ignore"):
        row = np.linalg.norm(made, axis=-1) / np.linalg.norm(right.value, axis=-1)
        whole = np.linalg.norm(made) / np.linalg.norm(right.value)
    return np.maximum(1.0, np.nan_to_num(np.maximum(row, whole), nan=1.0, posinf=1.0))


NEVER = 1 << 62


def _first(wrong: Mask) -> int:
    """The first of a row's tokens with a value head that is wrong."""
    tokens = np.flatnonzero(wrong.any(1))
    return int(tokens[0]) if len(tokens) else NEVER
