"""The ledger of known findings: what is wrong in a version of an implementation, so that it does not hide what is new.

A rule, one file in `cases/known`, says of which paths, hosts and versions it is known, which findings it explains and
in which cases, and has a case that shows it. A gate takes those findings, and no others, out of what it judges such a
case by; the case is then counted as known. Laws are not held of launches whose values are wrong by a rule. The rule's
own case is run first: where that does not show the finding any more, the gate is red, and says that the rule is to be
removed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path as File
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion

from gdn_verify import cases
from gdn_verify.cases.case import Batch
from gdn_verify.cases.codec import CaseFile, loads
from gdn_verify.cases.contract import Group
from gdn_verify.cases.strategies import Fed
from gdn_verify.cases.values import Betas, Fill, Vectors
from gdn_verify.cases.variants import CONTENT, ROWS, SHAPE
from gdn_verify.verdict import Check, Finding

FOLDER = File(cases.__file__).parent / "known"
Word = int | float | bool | str | None


class RuleError(ValueError):
    """A rule that cannot be used; the message names the file and the field."""


def _short_draft(fed: Fed) -> bool:
    S = fed[0].geometry.S
    return any(row.spec and row.tokens < S for batch in fed[0].batches for _, row in batch.live_rows())


def _lone_decode(fed: Fed) -> bool:
    def alone(batch: Batch) -> bool:
        return [row.group for _, row in batch.live_rows()] == [Group.DECODE]

    return any(alone(batch) for batch in fed[0].batches)


def _heads(fed: Fed) -> int:
    return max(len(batch.rows) for batch in fed[0].batches) * fed[0].geometry.HV


def _idle(fed: Fed) -> bool:
    return any(not row.tokens for batch in fed[0].batches for row in batch.rows)


def _behind_none(fed: Fed) -> bool:
    lengths = [[row.tokens for row in batch.rows] for batch in fed[0].batches]
    return any(0 in each and any(each[each.index(0) :]) for each in lengths)


def _old_state_alone(fed: Fed) -> bool:
    values = fed[0].values
    sparse = {Vectors.ONE_HOT, Vectors.INTEGERS} & {values.q, values.k} or values.v not in (Fill.ONES, Fill.NORMAL)
    return bool(sparse) or values.beta is Betas.NEAR_ZERO


FACTS: Mapping[str, Callable[[Fed], Word]] = {
    **{feature.name: feature.now for feature in (*SHAPE, *ROWS, *CONTENT)},
    "type of state": lambda fed: fed[0].dtypes.state.value,
    "num_spec": lambda fed: fed[0].geometry.num_spec,
    "rows times value heads": _heads,
    "a row without tokens": _idle,
    "a row without tokens before one that has some": _behind_none,
    "a draft shorter than its table": _short_draft,
    "a launch of one decode row alone": _lone_decode,
    "an old state alone": _old_state_alone,
}
"""What a rule may ask of a case: the features that `shrink` explains a finding by, and some of launches.

An old state stands alone where a row of it, or of outputs, may have next to nothing written beside it: v, q or k has
zeros, or β is small. What is wrong with a strong decay shows there, and nowhere else.
"""


@dataclass(frozen=True)
class Rule:
    """One known finding.

    `versions` is a specifier of the paths' version (PEP 440), `shows` the findings that it explains, "check/kind" each,
    `when` the facts of a case (`FACTS`) with the words that they must be, or {"at least": n}. `case` shows the finding.
    `upstream` is where it is reported, or "not reported"; `why` says what is wrong, and where.
    """

    name: str
    paths: tuple[str, ...]
    hosts: tuple[str, ...]
    versions: str
    shows: tuple[str, ...]
    when: Mapping[str, Any]
    upstream: str
    why: str
    case: CaseFile

    def covers(self, version: str) -> bool:
        """Whether it is known of this version; of what is no version, nothing is."""
        try:
            return SpecifierSet(self.versions).contains(version, prereleases=True)
        except InvalidVersion:
            return False

    def fits(self, fed: Fed) -> bool:
        """Whether the case is one that it speaks of."""
        return all(_is(FACTS[name](fed), wanted) for name, wanted in self.when.items())

    @property
    def wrongs_values(self) -> bool:
        """Whether outputs or states are wrong by it."""
        return any(shown.startswith(f"{Check.VALUES}/") for shown in self.shows)

    def explains(self, finding: Finding) -> bool:
        """Whether the finding is of a kind that it names."""
        return f"{finding.check}/{finding.kind}" in self.shows


def _is(word: Word, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        return isinstance(word, int | float) and word >= wanted["at least"]
    return word in wanted


@dataclass(frozen=True)
class Judged:
    """What is left of a case's findings, and the checks and names of the rules that explain the rest."""

    findings: list[Finding]
    known: tuple[tuple[Check, str], ...] = ()


def set_aside(rules: Iterable[Rule], version: str, fed: Fed, findings: Sequence[Finding]) -> Judged:
    """Findings that no rule of this version explains in such a case."""
    ours = [rule for rule in rules if rule.covers(version) and rule.fits(fed)]
    left: list[Finding] = []
    known: dict[tuple[Check, str], None] = {}
    for finding in findings:
        rule = next((rule for rule in ours if rule.explains(finding)), None)
        if rule is None:
            left.append(finding)
        else:
            known[finding.check, rule.name] = None
    return Judged(left, tuple(known))


def misled(rules: Iterable[Rule], version: str, fed: Fed) -> str:
    """Why laws say nothing of such a launch: a rule has it that its values are wrong. "" if none has."""
    wrong = (rule for rule in rules if rule.covers(version) and rule.fits(fed) and rule.wrongs_values)
    return next((f"known to be wrong: {rule.name}.json" for rule in wrong), "")


def mended(rule: Rule, path: str, version: str, judged: Judged, refused: str = "") -> Iterator[Finding]:
    """The finding that the rule's own case shows it no more, in a version of which it is known, or is `refused`."""
    if not rule.covers(version) or rule.name in [name for _, name in judged.known]:
        return
    if refused:
        message = f"{path} {version} does not take the case of {rule.name}.json, which proves nothing then: {refused}"
        yield Finding(Check.VALUES, "known finding is not asked", message)
    else:
        message = f"{path} {version} does not show {' or '.join(rule.shows)}: remove this rule, {rule.name}.json"
        yield Finding(Check.VALUES, "known finding is gone", message)


@cache
def ledger() -> tuple[Rule, ...]:
    """The rules of this project. Raises RuleError."""
    return tuple(read(file) for file in sorted(FOLDER.glob("*.json")))


def read(file: File) -> Rule:
    """A rule's file. Raises RuleError for a field that is missing or unknown, a fact nobody knows, or a bad case."""
    body = json.loads(file.read_text(encoding="utf-8"))
    wanted = {field.name for field in fields(Rule)} - {"name"}
    if body.keys() != wanted:
        raise RuleError(f"{file.name}: fields {sorted(body)}; a rule has {sorted(wanted)}")
    if unknown := sorted(set(body["when"]) - FACTS.keys()):
        raise RuleError(f"{file.name}: when={unknown[0]!r} is no fact of a case; known are {', '.join(FACTS)}")
    try:
        SpecifierSet(body["versions"])
    except InvalidSpecifier as error:
        raise RuleError(f"{file.name}: versions={body['versions']!r}: {error}") from None
    said: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in body.items()}
    rule = Rule(file.stem, **{**said, "case": loads(json.dumps(body["case"]))})
    if not rule.fits((rule.case.case, rule.case.presentation)):
        raise RuleError(f"{file.name}: its case is not one that `when` speaks of")
    return rule


def rules_of(path: str, host: str) -> tuple[Rule, ...]:
    """The rules that speak of a path on a host."""
    return tuple(rule for rule in ledger() if path in rule.paths and host in rule.hosts)
