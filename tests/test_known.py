"""The ledger of known findings: what it takes out of a verdict, what it leaves, and when a rule is to go."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path as File

import pytest

from gdn_verify import corpus, service
from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.codec import CaseFile, dumps
from gdn_verify.cases.contract import DType, DTypes, Geometry, Kind
from gdn_verify.cases.narrow import refuses
from gdn_verify.cases.presentation import Presentation
from gdn_verify.cases.values import Betas, Fill, Gates, States, Values, Vectors
from gdn_verify.hosts import HOSTS
from gdn_verify.known import FACTS, Rule, RuleError, ledger, mended, misled, read, set_aside
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


STRONG = replace(RULE, shows=("values/o",), when={"values: gates": ["single spike"]}, versions=">=0")


def test_laws_are_not_held_of_launches_that_a_rule_says_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the case itself, and of those that a law makes of it: one that forgets all has such gates in any case."""
    laws = {"forgetting", "scale"}
    for gates, told in ((Gates.NORMAL, {"forgetting"}), (Gates.SPIKE, laws)):
        case = replace(CASE, values=Values(k=Vectors.NORMAL, v=Fill.NORMAL, gates=gates, state=States.NORMAL))
        text = dumps(CaseFile(case, Presentation()))
        job = Job("fallback", "cpu", case.kind, count=1, files=(text,), laws=tuple(laws), rules=(STRONG,))
        _, (result,) = _results(job)
        assert not result.findings
        silent = {name for name in laws if name not in result.laws or result.laws[name].outcome is Outcome.REFUSED}
        assert silent == told
        reasons = {result.refused, *(law.reason for law in result.laws.values())}
        assert "known to be wrong: z-of-threes.json" in reasons


def test_rules_of_memory_leave_laws_alone() -> None:
    """Results are right there; and in other versions nothing is known."""
    spiked = replace(CASE, values=replace(CASE.values, gates=Gates.SPIKE)), Presentation()
    assert misled([STRONG], "1.2", spiked)
    assert not misled([replace(STRONG, shows=("memory/copy of z",))], "1.2", spiked)
    assert not misled([replace(STRONG, versions="==1")], "1.2", spiked)
    assert not misled([STRONG], "1.2", FED)


BEHIND = "a row without tokens before one that has some"


@pytest.mark.parametrize(
    ("name", "case", "word"),
    [
        ("type of state", replace(CASE, dtypes=DTypes(state=DType.BF16)), "bfloat16"),
        ("rows times value heads", CASE, 6),
        ("a row without tokens", replace(CASE, batches=(Batch((Row(0, (0,)), Row(1, (1,)))),)), True),
        ("a row without tokens", CASE, False),
        (BEHIND, replace(CASE, batches=(Batch((Row(0, (0,)), Row(1, (1,)))),)), True),
        (BEHIND, replace(CASE, batches=(Batch((Row(1, (0,)), Row(0, (1,)))), Batch((Row(1, (0,)),)))), False),
        ("an old state alone", replace(CASE, values=Values(v=Fill.NORMAL, beta=Betas.NEAR_ZERO)), True),
        ("an old state alone", replace(CASE, values=Values(q=Vectors.ONE_HOT)), True),
        ("an old state alone", CASE, False),
    ],
)
def test_facts_of_a_case(name: str, case: Case, word: object) -> None:
    """What a rule may ask beside the features that a case is shrunk by."""
    assert FACTS[name]((case, Presentation())) == word


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
