"""The ledger of known findings: what it takes out of a verdict, what it leaves, and when a rule is to go."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path as File

import pytest

from gdn_verify import corpus, service
from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.codec import CaseFile, dumps
from gdn_verify.cases.contract import DTypes, Geometry, Kind
from gdn_verify.cases.narrow import refuses
from gdn_verify.cases.presentation import Presentation
from gdn_verify.hosts import HOSTS
from gdn_verify.known import Rule, RuleError, ledger, mended, read, set_aside
from gdn_verify.mutants import planter_of
from gdn_verify.paths import find
from gdn_verify.report.tally import Report
from gdn_verify.runner import CaseResult
from gdn_verify.service import Ended, Job, Ready
from gdn_verify.verdict import Check, Finding, Outcome

ROWS = (Row(9, (0,)), Row(1, (1,)))
CASE = Case(Geometry(1, 3, 8, 8), DTypes(), 2, (Batch(ROWS),))
FED = CASE, Presentation()
RULE = Rule(
    name="z-of-threes",
    paths=("fallback",),
    hosts=("cpu",),
    versions=">=1,<2",
    shows=("memory/copy of z", "memory/unwritten z_out"),
    when={"HV/H": [3, 6], "tokens": {"at least": 2}},
    upstream="not reported",
    why="z is copied in blocks of a power of two",
    case=CaseFile(*FED),
)
SEEN, OTHER = Finding(Check.MEMORY, "copy of z", "…"), Finding(Check.VALUES, "o", "…")


def test_what_a_rule_explains_is_set_aside_and_nothing_else() -> None:
    """A second bug of the same case is told as if the first were not there."""
    judged = set_aside([RULE], "1.2", FED, [SEEN, OTHER])
    assert judged.findings == [OTHER]
    assert judged.known == ((Check.MEMORY, "z-of-threes"),)


@pytest.mark.parametrize(
    ("version", "case"),
    [
        ("2.0", CASE),
        ("0.9", CASE),
        ("a working tree", CASE),
        ("1.2", replace(CASE, geometry=Geometry(1, 2, 8, 8))),
        ("1.2", replace(CASE, batches=(Batch((Row(1, (0,)),)),))),
    ],
    ids=["later", "earlier", "no version", "another ratio", "too few tokens"],
)
def test_other_versions_and_other_cases_are_accused(version: str, case: Case) -> None:
    """A rule speaks of what it names alone."""
    judged = set_aside([RULE], version, (case, Presentation()), [SEEN])
    assert judged.findings == [SEEN]
    assert not judged.known


def test_a_mended_bug_asks_for_its_rule_to_be_removed() -> None:
    """In a version of which it is known; in others its case is a case like any."""
    healthy = set_aside([RULE], "1.2", FED, [])
    (finding,) = mended(RULE, "fallback", "1.2", healthy)
    assert "remove this rule, z-of-threes.json" in finding.message
    assert not [*mended(RULE, "fallback", "2.0", healthy)]
    (refused,) = mended(RULE, "fallback", "1.2", healthy, "geometry.HV=3")
    assert "proves nothing then: geometry.HV=3" in refused.message
    assert not [*mended(RULE, "fallback", "1.2", set_aside([RULE], "1.2", FED, [SEEN]))]


def _results(job: Job) -> tuple[Ready, list[CaseResult]]:
    said = [*service._answer(job, HOSTS["cpu"], service._Loaded(), lambda event: None)]
    ready = next(event for event in said if isinstance(event, Ready))
    return ready, [event.result for event in said if isinstance(event, Ended)]


@pytest.mark.parametrize("plant", [None, "z_of_a_power_of_two"])
def test_a_rules_own_case_is_run_first(monkeypatch: pytest.MonkeyPatch, plant: str | None) -> None:
    """With the bug it is known and the gate is not red; without, the run fails and says which rule is to go."""
    rule = replace(RULE, versions=">=0")
    monkeypatch.setattr(corpus, "ledger", lambda: (rule,))
    (job,) = corpus.proofs([find("fallback")], ["cpu"], [CASE.kind])
    job = replace(job, plant=planter_of(plant) if plant else None)
    ready, (result,) = _results(job)
    report = Report()
    report.open(job, ready)
    report.add(job, "", result)
    rows = {row.check: row for row in report.rows}
    if plant:
        assert not result.findings
        assert result.outcome(Check.MEMORY) is Outcome.KNOWN
        assert rows["memory"].known == 1
        assert [*report.known] == [("fallback", "cpu", "z-of-threes")]
    else:
        assert [finding.kind for finding in result.findings] == ["known finding is gone"]
        assert rows["values"].failed


def test_every_job_of_a_path_has_its_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of its host; a rule's own case has that rule alone."""
    monkeypatch.setattr(corpus, "rules_of", lambda path, host: (RULE,) if (path, host) == ("fallback", "cpu") else ())
    jobs = [Job("fallback", "cpu", Kind.DECODE), Job("fallback", "cuda", Kind.DECODE)]
    proof = Job("fallback", "cuda", Kind.DECODE, rules=(RULE,), proves=True)
    assert [job.rules for job in corpus.ruled([*jobs, proof])] == [(RULE,), (), (RULE,)]


@pytest.mark.parametrize("rule", ledger(), ids=lambda rule: rule.name)
def test_each_rule_speaks_of_a_path_that_takes_its_case(rule: Rule) -> None:
    """Where it can run it must show the finding: the gate asks that."""
    for path in map(find, rule.paths):
        assert set(rule.hosts) <= set(path.hosts)
        assert refuses(path.capabilities, path.conventions, rule.case.case, rule.case.presentation) is None
    assert all(shown.partition("/")[0] in set(Check) for shown in rule.shows)


def _body(**changed: object) -> dict[str, object]:
    body = {
        "paths": ["fallback"], "hosts": ["cpu"], "versions": "==1", "shows": ["values/o"], "when": {"HV/H": [3]},
        "upstream": "not reported", "why": "…", "case": json.loads(dumps(CaseFile(*FED))),
    }  # fmt: skip
    return {name: value for name, value in {**body, **changed}.items() if value is not None}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"why": None}, "a rule has"),
        ({"when": {"HV:H": [3]}}, "'HV:H' is no fact of a case"),
        ({"versions": "1.x"}, "versions='1.x'"),
        ({"when": {"HV/H": [2]}}, "its case is not one"),
    ],
)
def test_a_bad_rule_is_refused_by_its_file_and_field(tmp_path: File, changed: dict[str, object], words: str) -> None:
    """Nothing is passed over: a rule that is not read would hide nothing, or everything."""
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(_body()))
    assert read(file).name == "mine"
    file.write_text(json.dumps(_body(**changed)))
    with pytest.raises(RuleError, match=r"mine\.json") as refusal:
        read(file)
    assert words in str(refusal.value)
