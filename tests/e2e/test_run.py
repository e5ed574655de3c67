"""A whole run over stand-ins: what makes a part green, what makes it red, and what is told of either."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from io import StringIO
from pathlib import Path as File
from typing import Any, ClassVar

import numpy as np
import pytest
from rich.console import Console
from toy_session import ToySession
from typer.testing import CliRunner

from gdn_verify import e2e_command
from gdn_verify.cases.codec import load
from gdn_verify.cases.contract import Kind
from gdn_verify.cli import app
from gdn_verify.e2e import difference, faults
from gdn_verify.e2e import run as running
from gdn_verify.e2e.budget import Budget
from gdn_verify.e2e.checkpoint import Checkpoint
from gdn_verify.e2e.checkpoint import Kind as Model
from gdn_verify.e2e.faults import CATALOGUE, Fault
from gdn_verify.e2e.judgement import Leaving
from gdn_verify.e2e.messages import Seen
from gdn_verify.e2e.plan import FALLBACK, Part, Rule, whole
from gdn_verify.e2e.run import Place, Result, run
from gdn_verify.e2e.scenario import SCENARIOS, Round, Scenario, Settings, alone, cut, seeded
from gdn_verify.e2e.session import REFERENCES, SessionError, asking
from gdn_verify.e2e.transcript import Transcript
from gdn_verify.e2e.variant import Variant, known_faults, variant
from gdn_verify.e2e.watch import Watch
from gdn_verify.paths.base import Launch, Outputs, Path
from gdn_verify.report import e2e as report

TOY = Scenario(
    "toy", (Round((1, 5, 20), 6), Round((9, 3, 1), 6)), Settings(), expects=("split prompts", "recycled slots")
)
PART = Part(Model.QWEN3_5, TOY, (FALLBACK,), reference=True)
PLACE = Place("")


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "Session", ToySession)


def ran(*parts: Part) -> list[Result]:
    return run(parts, PLACE, workers=1)


def told(results: list[Result]) -> str:
    text = StringIO()
    report.show(results, Console(file=text, width=200))
    return text.getvalue()


def test_a_healthy_part_is_green_and_says_by_how_much() -> None:
    """The oracle says the reference's tokens, the fallback the oracle's."""
    (result,) = ran(PART)
    assert result.ok, result
    assert [v.judgement.candidate for v in result.verdicts] == ["oracle", FALLBACK]
    assert all(v.judgement.same == v.judgement.generated == 36 for v in result.verdicts)
    assert all(v.judgement.worst and v.judgement.worst.ratio < v.judgement.limit for v in result.verdicts)
    assert "as it should be" in told([result])


def test_a_wrong_candidate_is_red_with_a_case_and_a_command() -> None:
    """Even where no token differs."""
    (result,) = ran(replace(PART, reference=False, candidates=("dispatch-o!beta_times_0_999",)))
    assert not result.ok
    text = told([result])
    assert "unexplained from request" in text
    assert "gdn-verify check CASE.json --path dispatch-o" in text
    assert '"schema": 1' in text


def test_faults_are_flagged_and_one_that_is_not_is_told() -> None:
    """A fault that no output shows turns the part red."""
    (result,) = ran(
        replace(PART, reference=False, faults=("dropped_decay", "every_row_resumed", "z_of_a_power_of_two"))
    )
    flagged = {s.fault.name: s.flagged for s in result.seeded}
    assert flagged == {"dropped_decay": True, "every_row_resumed": True, "z_of_a_power_of_two": False}
    assert [s.became_a_case for s in result.seeded] == [True, True, False]
    assert not result.ok
    assert "z_of_a_power_of_two was not seen" in told([result])
    assert "2 of 3 seeded faults flagged, 2 of them became a case" in told([result])


def test_a_core_that_raises_is_told_with_a_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine lives on, and others are asked."""

    def raising(path: Path) -> Callable[[Launch], Outputs]:
        def run(launch: Launch) -> Outputs:
            if any(row.tokens > 4 for row in launch.batch.rows):
                raise ValueError("rows of more than four tokens")
            return path.run(launch)

        return run

    monkeypatch.setitem(faults.PATH_FAULTS, "raising", raising)
    part = replace(PART, reference=False, candidates=("dispatch-o!raising",), faults=("raising",))
    (result,) = ran(part)
    assert not result.ok
    # Its zeros are beyond any noise, but a planting that breaks has shown nothing of the fault that it was to be.
    assert not result.seeded[0].flagged
    assert not result.seeded[0].became_a_case
    assert "raising was not seen: layers.0.linear_attn raised ValueError" in told([result])
    known = ("raising", "dropped_decay")
    monkeypatch.setattr(faults, "CATALOGUE", tuple(Fault(name, "toy", raises=True) for name in known))
    (result,) = ran(replace(part, faults=known))
    assert [s.flagged for s in result.seeded] == [True, False]
    assert [s.became_a_case for s in result.seeded] == [True, False]
    text = told([result])
    assert "raised ValueError: rows of more than four tokens" in text
    assert "gdn-verify check CASE.json --path dispatch-o" in text


class Failing(ToySession):
    """Fails in what `wanted` says of a question."""

    wanted: Callable[[Variant], bool]

    def transcript(self, scenario: Scenario, wanted: Variant = REFERENCES, *more: Any, **named: Any) -> Transcript:
        said = super().transcript(scenario, wanted, *more, **named)
        return replace(said, **self.fate) if type(self).wanted(wanted) else said

    fate: ClassVar[Mapping[str, Any]] = {"raised": "layer 0 raised ValueError: boom"}


@pytest.mark.parametrize("fate", [{"raised": "layer 0 raised ValueError: boom"}, {"problems": ("boom",)}])
def test_a_noisy_run_that_failed_is_no_noise(monkeypatch: pytest.MonkeyPatch, fate: Mapping[str, Any]) -> None:
    """What it then says would be a budget that explains anything."""
    made = {"wanted": staticmethod(lambda asked: asked.noise > 0), "fate": fate}
    monkeypatch.setattr(running, "Session", type("Noisy", (Failing,), made))
    (result,) = ran(replace(PART, reference=False, candidates=("dispatch-o!dropped_decay",)))
    assert "noisy run" in result.trouble
    assert "boom" in result.trouble


def test_where_faults_are_seeded_a_healthy_core_is_held_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that flags whatever it is asked would flag every fault."""
    part = replace(PART, reference=False, candidates=("oracle",), faults=("dropped_decay",))
    for where in (part, replace(part, seeded_in=replace(TOY, name="apart"))):
        (result,) = ran(where)
        assert [v.judgement.candidate for v in result.verdicts] == ["oracle", FALLBACK]
        assert result.ok
    monkeypatch.setattr(Budget, "limit", property(lambda budget: 0.0))
    (result,) = ran(part)
    assert result.seeded[0].flagged
    assert [v.ok for v in result.verdicts] == [True, False]
    assert not result.ok


class Dying(ToySession):
    """An engine that dies when it is asked for the last candidate, or looked into."""

    def transcript(self, scenario: Scenario, wanted: Variant = REFERENCES, *more: Any, **named: Any) -> Transcript:
        if wanted.fault == "tiled_heads":
            raise self.death
        return super().transcript(scenario, wanted, *more, **named)

    def watched(self, *more: Any, **named: Any) -> Seen:
        raise SessionError("it died while it was looked into")

    death: ClassVar[Exception] = SessionError("it died")


@pytest.mark.parametrize("death", [SessionError("it died"), KeyError("it died")])
def test_an_engine_that_dies_loses_nothing_that_was_found_before(
    monkeypatch: pytest.MonkeyPatch, death: Exception
) -> None:
    """Nor do other parts, whatever it was that went wrong."""
    monkeypatch.setattr(running, "Session", type("Dying", (Dying,), {"death": death}))
    words = (FALLBACK, "dispatch-o!dropped_decay", "dispatch-o!tiled_heads")
    first, second = ran(replace(PART, candidates=words), PART)
    assert [v.judgement.candidate for v in first.verdicts] == ["oracle", *words[:2]]
    assert "it died" in first.trouble
    assert not first.ok
    assert second.ok
    assert "looking at its launches failed: it died while it was looked into" in told([first])


def test_a_look_that_finds_nothing_says_how_much_it_has_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a watcher that breaks is no launch that is right."""
    (result,) = ran(replace(PART, scenario=replace(TOY, expects=()), reference=False, candidates=("oracle",)))
    looked = running.Looked(launches=12, unknown=3)
    wrong = replace(result.verdicts[0], judgement=replace(result.verdicts[0].judgement, problems=("?",)))
    text = told([replace(result, verdicts=(replace(wrong, looked=looked),))])
    assert "none of 12 launches was found wrong" in text
    assert "of 3 rows it is not known" in text

    def broken(*_: Any) -> None:
        raise TypeError("no digest")

    monkeypatch.setattr(Watch, "__call__", broken)
    (result,) = ran(replace(PART, reference=False, candidates=("dispatch-o!dropped_decay",)))
    assert "looking at its launches failed: layers.0.linear_attn raised TypeError: no digest" in told([result])


def test_a_scenario_that_did_not_happen_is_red() -> None:
    """What it is for has not been shown."""
    (result,) = ran(replace(PART, scenario=replace(TOY, expects=("preemptions",))))
    assert not result.ok
    assert "no preemptions" in told([result])


def test_bytes_that_noise_explains_are_enough_where_no_token_is_owed() -> None:
    """As in bfloat16."""
    (result,) = ran(replace(PART, reference=False, rule=Rule.EXPLAINED))
    assert result.ok


def test_pages_and_data_hold_what_the_terminal_does() -> None:
    """The fault, its tier, and the tokens side by side."""
    results = ran(replace(PART, reference=False, candidates=("dispatch-o!tiled_heads",), faults=("dropped_decay",)))
    data = json.loads(json.dumps(report.as_json(results)))
    assert data["parts"][0]["pairs"][0]["explained"] is False
    assert data["parts"][0]["faults"][0]["pinpointed"]["tier"] == "kernel"
    far = replace(results[0].verdicts[0].judgement, worst=Leaving(difference.Place(0, 0), float("inf"), 1.0))
    result = replace(results[0], verdicts=(replace(results[0].verdicts[0], judgement=far),))
    (part,) = json.loads(json.dumps(report.as_json([result]), allow_nan=False))["parts"]
    assert part["pairs"][0]["worst"]["ratio"] == "inf"
    for suffix in (".md", ".html"):
        page = report.page(results, suffix)
        assert "dropped_decay" in page
        assert "[" in page  # the token that differs, among its neighbours


def test_cases_and_launches_are_saved(tmp_path: File) -> None:
    """The case can be read again; the launch has its pools before and after."""
    e2e_command.saved(ran(replace(PART, reference=False, faults=("dropped_decay",))), tmp_path)
    (case,), (launch,) = tmp_path.glob("*.json"), tmp_path.glob("*.npz")
    assert load(case).case.batches
    assert "dropped_decay" in case.name
    with np.load(launch) as arrays:
        assert arrays["x"].shape[0] == arrays["out"].shape[0]
        assert arrays["before/ssm"].shape == arrays["after/ssm"].shape


def test_the_command_ends_with_1_and_writes_both_files(monkeypatch: pytest.MonkeyPatch, tmp_path: File) -> None:
    """0 where all is well, 2 for words that name nothing."""
    parts = (replace(PART, faults=()), replace(PART, scenario=replace(TOY, name="lacking", expects=("drafts",))))
    monkeypatch.setattr(e2e_command, "whole", lambda: parts)
    files = ["--json", str(tmp_path / "r.json"), "--page", str(tmp_path / "r.html")]
    done = CliRunner().invoke(app, ["e2e", "--parts", "toy", "--models", str(tmp_path), *files])
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "r.json").read_text())["parts"][0]["ok"]
    assert "<table>" in (tmp_path / "r.html").read_text()
    assert CliRunner().invoke(app, ["e2e", "--models", str(tmp_path)]).exit_code == 1
    for words in ("nothing", "toy,lakcing", ",", "toy,,nothing"):
        assert CliRunner().invoke(app, ["e2e", "--parts", words]).exit_code == 2, words
    assert CliRunner().invoke(app, ["e2e", "--page", "r.txt"]).exit_code == 2


def test_a_repeated_run_asks_every_pair_again_and_says_the_worst_of_each(
    monkeypatch: pytest.MonkeyPatch, tmp_path: File
) -> None:
    """Of other prompts each time, where faults would be seeded as well; cases of one do not take another's place."""
    part = replace(PART, faults=("dropped_decay",), seeded_in=replace(TOY, name="apart"))
    monkeypatch.setattr(e2e_command, "whole", lambda: (part,))
    (asked,) = e2e_command.chosen("", faults=False, repeat=3)
    (result,) = ran(asked)
    assert [v.judgement.candidate for v in result.verdicts] == ["oracle", FALLBACK, FALLBACK] * 3
    assert not result.seeded
    assert len({v.judgement.scenario for v in result.verdicts}) == 6
    assert [(row.sets, row.flagged) for row in report.repeated([result])] == [(3, 0)] * 3
    assert report.repeated([result])[1].worst == max(v.judgement.worst.ratio for v in result.verdicts[1::3])
    assert "oracle → dispatch-o in apart: 3 sets of prompts, 0 flagged, worst ratio " in told([result])
    (other,) = e2e_command.chosen("", faults=False, seed=5)
    assert {question.scenario.seed for question in other.questions} == {5}
    (wrong,) = ran(replace(asked, candidates=("dispatch-o!dropped_decay",), seeds=(7,)))
    e2e_command.saved([wrong], tmp_path)
    assert len(list(tmp_path.glob("*.npz"))) == 2


def test_the_whole_run_asks_for_one_kind_of_launch_alone() -> None:
    """All others are then the engine's own core's."""
    words = [variant(word) for part in whole() for word in part.candidates]
    assert {Kind.DECODE, Kind.PREFILL} <= {word.only for word in words}


def test_the_whole_run_seeds_at_least_25_faults_each_in_a_scenario_that_is_run() -> None:
    """None of the catalogue is left out."""
    seeded_faults = [fault for part in whole() for fault in part.faults]
    assert set(seeded_faults) == {fault.name for fault in CATALOGUE} <= set(known_faults())
    assert len(set(seeded_faults)) >= 25
    assert {fault.scenario for fault in CATALOGUE} <= set(SCENARIOS)


def test_prompts_are_those_of_their_lengths_and_of_their_seed() -> None:
    """Shared beginnings and phrases that come again are there."""
    for scenario in SCENARIOS.values():
        prompts = scenario.prompts(512)
        assert [tuple(map(len, each)) for each in prompts] == [asked.lengths for asked in scenario.rounds]
        assert prompts == scenario.prompts(512) != seeded(scenario, 5).prompts(512)
    first, second = SCENARIOS["prefix"].prompts(512)
    assert first[0][:400] == second[2][:400]
    repeated = SCENARIOS["ngram"].prompts(512)[0][0]
    assert repeated[1:7] == repeated[7:13]


def test_rounds_are_cut_and_lengths_go_with_them() -> None:
    """Alone, or two at a time."""
    asked = asking(alone(TOY), Variant("oracle"), 64)
    assert [len(each) for each in asked.rounds] == [1] * 6
    assert asked.lengths == (6,) * 6
    assert [len(each) for each in asking(cut(TOY, 2), Variant("oracle"), 64).rounds] == [2, 1, 2, 1]


def test_a_checkpoint_s_name_is_all_that_it_is() -> None:
    """Another seed is another folder."""
    one = Checkpoint(Model.QWEN3_NEXT)
    assert one.name == Checkpoint(Model.QWEN3_NEXT).name != replace(one, seed=2).name
    assert one.gdn_layers == 3
