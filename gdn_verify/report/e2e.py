"""End-to-end runs as a terminal shows them, as data, and as a page with the texts side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from math import inf, isfinite
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gdn_verify.e2e.difference import Parting
from gdn_verify.e2e.judgement import Judgement, Leaving
from gdn_verify.e2e.pinpoint import Pinpointed
from gdn_verify.e2e.run import Looked, Result, Seeded, Verdict
from gdn_verify.e2e.task import TASK, Score
from gdn_verify.e2e.transcript import Request
from gdn_verify.report.page import Grid, Section, rendered
from gdn_verify.verdict import ratio_words

SCHEMA = 1
PAIRS = (
    "engine",
    "prompts",
    "pair",
    "owes",
    "tokens alike",
    "first other token",
    "worst ratio",
    "limit",
    "noisy runs",
    "verdict",
)
FAULTS = ("engine", "fault", "requests parted", "largest distance", "ratio", "went wrong in", "case for", "found")
AROUND = 4
"""Tokens shown before a parting, and behind it."""


def show(results: Sequence[Result], console: Console) -> None:
    """Print the tables, then what is not as it should be."""
    _table(PAIRS, [(_pair(r, v), v.ok) for r in results for v in r.verdicts], console)
    if seeded := [(_fault(r, s), s.flagged) for r in results for s in r.seeded]:
        console.print()
        _table(FAULTS, seeded, console)
    for line in summary(results):
        console.print(Text(line), soft_wrap=True)
    for line in troubles(results):
        console.print(Text(line, style="red"), soft_wrap=True)


def show_scores(base: Score, other: Score, console: Console) -> bool:
    """Print two accuracies; whether they differ by more than chance. Raises TaskError where that cannot be told."""
    apart = base.differs(other)
    words = "more than chance explains" if apart else "within chance"
    line = (
        f"{TASK}, {base.questions} questions: baseline {base.accuracy:.3f}, candidate {other.accuracy:.3f}: {words} "
        f"(question by question, p = {base.chance(other):.2g})"
    )
    console.print(Text(line, style="red" if apart else ""), soft_wrap=True)
    return apart


def show_trouble(line: str, console: Console) -> None:
    """Print why something could not be told."""
    console.print(Text(line, style="red"), soft_wrap=True)


def _table(head: Sequence[str], rows: Iterable[tuple[Sequence[str], bool]], console: Console) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    for name in head:
        table.add_column(name, overflow="fold")
    for cells, ok in rows:
        table.add_row(*cells, style="" if ok else "red")
    console.print(table)


def summary(results: Sequence[Result]) -> Iterator[str]:
    """What the run came to, in numbers."""
    seeded = [s for r in results for s in r.seeded]
    if seeded:
        flagged, cases = sum(s.flagged for s in seeded), sum(s.became_a_case for s in seeded)
        yield f"{flagged} of {len(seeded)} seeded faults flagged, {cases} of them became a case that fails"
    for result in results:
        events = ", ".join(f"{count} {name}" for name, count in sorted(result.events))
        yield f"{result.name}: {events} ({result.seconds:.0f} s)"
    yield from map(str, repeated(results))


@dataclass(frozen=True)
class Repeated:
    """A pair over all sets of prompts: how many, how many of them were flagged, and the worst ratio of any."""

    part: str
    scenario: str
    pair: str
    sets: int
    flagged: int
    worst: float

    def __str__(self) -> str:
        sets = f"{self.sets} sets of prompts, {self.flagged} flagged, worst ratio {ratio_words(self.worst)}"
        return f"{self.part}: {self.pair} in {self.scenario}: {sets}"


def repeated(results: Iterable[Result]) -> list[Repeated]:
    """Pairs that were asked more than once, of other prompts each time."""
    found: dict[tuple[str, str, str], list[Verdict]] = {}
    for result in results:
        for verdict in result.verdicts:
            scenario = verdict.judgement.scenario.partition(",")[0]
            found.setdefault((result.name, scenario, _pair_name(verdict.judgement)), []).append(verdict)
    return [
        Repeated(*name, len(sets), sum(not v.ok for v in sets), max(_worst(v.judgement) for v in sets))
        for name, sets in found.items()
        if len(sets) > 1
    ]


def _worst(judged: Judgement) -> float:
    return judged.worst.ratio if judged.worst else inf


def troubles(results: Iterable[Result]) -> Iterator[str]:
    """Why the run is not green."""
    for result in results:
        name = result.name
        if result.trouble:
            yield f"{name}: {result.trouble}"
        for event in result.lacking:
            yield f"{name}: no {event}: the scenario has not shown what it is for"
        for verdict in result.verdicts:
            if not verdict.ok:
                yield f"{name}: {_pair_name(verdict.judgement)}: {_why(verdict)}"
                yield from _told(verdict.looked)
        for seeded in result.seeded:
            if not seeded.flagged:
                why = _broken(seeded.judgement)
                yield f"{name}: {seeded.fault.name} was not seen{f': {why}' if why else ''}"


def _why(verdict: Verdict) -> str:
    judged = verdict.judgement
    if why := _broken(judged):
        return why
    if judged.first is None:
        return f"{len(judged.parted)} requests part, and every token is owed"
    place = judged.first.place
    return f"unexplained from request {place.request}, step {place.step} on: {_leaving(judged.first)}"


def _broken(judged: Judgement) -> str:
    return "; ".join(filter(None, (judged.raised, *judged.problems)))


def _told(looked: Looked | None) -> Iterator[str]:
    if looked is None:
        yield "  its launches were not looked at"
        return
    if looked.trouble:
        yield f"  looking at its launches failed: {looked.trouble}"
    if looked.unknown:
        yield f"  of {looked.unknown} rows it is not known what state they were to find"
    if (found := looked.wrong) is None:
        if not looked.trouble:
            yield f"  none of {looked.launches} launches was found wrong"
        return
    yield f"  turn {found.turn}, {found.layer}, {found.tier}: {found.message}"
    if found.case:
        yield f"  {found.found}\n  {found.command}\n{found.case}"


def _leaving(leaving: Leaving) -> str:
    return f"{leaving.distance:.3g} in log-probability, {leaving.ratio:.3g} budgets of {leaving.budget:.3g}"


def _pair_name(judged: Judgement) -> str:
    return f"{judged.baseline} → {judged.candidate}"


def _pair(result: Result, verdict: Verdict) -> tuple[str, ...]:
    judged = verdict.judgement
    return (
        result.name,
        judged.scenario.rpartition(" ")[2],
        _pair_name(judged),
        str(verdict.rule),
        f"{judged.same}/{judged.generated}",
        _parted(judged.parted),
        ratio_words(judged.worst.ratio) if judged.worst else "",
        f"{judged.limit:.2f}",
        str(judged.runs),
        "as it should be" if verdict.ok else _why(verdict),
    )


def _parted(parted: Sequence[Parting]) -> str:
    if not parted:
        return ""
    first = max(parted, key=lambda each: min(each.margins))
    ahead = f"{first.tokens[0]} by {first.margins[0]:.3g}, {first.tokens[1]} by {first.margins[1]:.3g}"
    return f"{len(parted)} requests; widest: request {first.request}, step {first.step}: {ahead}"


def _fault(result: Result, seeded: Seeded) -> tuple[str, ...]:
    judged, found = seeded.judgement, seeded.pinpointed
    return (
        result.name,
        seeded.fault.name,
        str(len(judged.parted)),
        f"{judged.worst.distance:.3g}" if judged.worst else "",
        f"{judged.worst.ratio:.3g}" if judged.worst else "",
        f"{found.tier}, turn {found.turn}" if found else "no launch" if seeded.flagged else "",
        found.path if found else "",
        found.found.partition(":")[0] if found else _broken(judged),
    )


def as_json(results: Iterable[Result]) -> dict[str, Any]:
    """The same as data."""
    results = list(results)
    again = [asdict(row) for row in repeated(results)]
    made = {"schema": SCHEMA, "parts": [_part_json(result) for result in results], "repeated": again}
    return {name: _finite(value) for name, value in made.items()}


def _finite(value: Any) -> Any:
    """Numbers that JSON has not, as of a core that said what is not a number, in words."""
    if isinstance(value, float):
        return value if isfinite(value) else str(value)
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value


def _part_json(result: Result) -> dict[str, Any]:
    return {
        "part": result.name,
        "version": result.version,
        "ok": result.ok,
        "seconds": round(result.seconds, 1),
        "events": dict(result.events),
        "lacking": list(result.lacking),
        "trouble": result.trouble,
        "pairs": [
            {"rule": v.rule, "ok": v.ok, **_judgement_json(v.judgement), "pinpointed": _pinpointed_json(v.pinpointed)}
            for v in result.verdicts
        ],
        "faults": [
            {
                "fault": s.fault.name,
                "flagged": s.flagged,
                **_judgement_json(s.judgement),
                "raises": s.fault.raises,
                "pinpointed": _pinpointed_json(s.pinpointed),
            }
            for s in result.seeded
        ],
    }


def _judgement_json(judged: Judgement) -> dict[str, Any]:
    made = asdict(judged)
    for name in ("worst", "first"):
        if (leaving := getattr(judged, name)) is not None:
            made[name]["ratio"] = leaving.ratio
    return {**made, "explained": judged.explained, "equal": judged.equal}


def _pinpointed_json(found: Pinpointed | None) -> dict[str, Any] | None:
    if found is None:
        return None
    names = ("tier", "turn", "layer", "message", "case", "path", "found", "command")
    return {name: getattr(found, name) for name in names}


def page(results: Sequence[Result], suffix: str) -> str:
    """All of it on one page, Markdown or HTML."""
    return rendered(_sections(results), suffix, "gdn-verify e2e")


def _sections(results: Sequence[Result]) -> Iterator[Section]:
    yield Section("End to end: greedy output inside vLLM", " ".join(summary(results)), level=1)
    yield Section("Pairs", grid=(PAIRS, [_pair(r, v) for r in results for v in r.verdicts]))
    yield Section("Seeded faults", grid=(FAULTS, [_fault(r, s) for r in results for s in r.seeded]))
    for result in results:
        for verdict in result.verdicts:
            if verdict.judgement.parted:
                heading = f"{result.name}: {_pair_name(verdict.judgement)}"
                yield Section(heading, grid=_side_by_side(verdict))
            if verdict.pinpointed:
                yield Section("Where it went wrong", log="\n".join(_told(verdict.looked)), level=3)
    for result in results:
        for seeded in result.seeded:
            if seeded.pinpointed:
                heading = f"{result.name}: {seeded.fault.name}"
                yield Section(heading, log="\n".join(_told(seeded.looked)), level=3)
    if wrong := "\n".join(troubles(results)):
        yield Section("Not as it should be", log=wrong)


def _side_by_side(verdict: Verdict) -> Grid:
    """Each request that parts: the tokens around that step on both sides, and by how much each preferred its own."""
    head = ("request", "prompt", "step", "baseline", "candidate", "baseline's margin", "candidate's")
    rows = []
    for parting in verdict.judgement.parted:
        base, other = verdict.base.requests[parting.request], verdict.candidate.requests[parting.request]
        texts = (_around(base, parting.step), _around(other, parting.step))
        margins = (f"{margin:.4g}" for margin in parting.margins)
        rows.append((str(parting.request), f"{len(base.prompt)} tokens", str(parting.step), *texts, *margins))
    return head, rows


def _around(request: Request, step: int) -> str:
    tokens = [f"[{token}]" if n == step else str(token) for n, token in enumerate(request.tokens)]
    return " ".join(tokens[max(step - AROUND, 0) : step + AROUND + 1])
