"""A user's own checkpoint: prompts of a file, two environments, a task by (a stand-in for) lm_eval."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path as File
from typing import Any, ClassVar

import pytest
from toy_engine import ToyEngine
from toy_session import ToySession
from typer.testing import CliRunner

from gdn_verify.cli import app
from gdn_verify.e2e import local, plugin, seam
from gdn_verify.e2e.cores import core_of
from gdn_verify.e2e.local import Local, Side, prompts_of, run_local, sites_of
from gdn_verify.e2e.messages import Prompts
from gdn_verify.e2e.scenario import Scenario, Settings
from gdn_verify.e2e.session import REFERENCES
from gdn_verify.e2e.task import Score, TaskError, score
from gdn_verify.e2e.transcript import Transcript
from gdn_verify.e2e.variant import Variant, variant
from gdn_verify.hosts import HOSTS

PROMPTS = tuple((n % 40 + 2,) * (n % 7 + 1) for n in range(11))


class Encoding(ToySession):
    """Tokens are the letters of a line."""

    def encoded(self, lines: Sequence[str]) -> Prompts:
        return tuple(tuple(ord(letter) % 60 + 2 for letter in line) for line in lines)


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "Session", Encoding)


def asked(candidate: str, baseline: str = "oracle", tokens: Prompts = PROMPTS) -> Local:
    sides = Side(variant(baseline)), Side(variant(candidate))
    return Local("models/mine", *sides, Settings(), tokens=tokens, generate=5)


def test_the_pair_is_compared_on_all_prompts() -> None:
    """A right candidate is green, a wrong one red."""
    result = run_local(asked("dispatch-o"))
    assert result.ok, result
    (verdict,) = result.verdicts
    assert verdict.judgement.generated == 5 * len(PROMPTS)
    assert sys.executable in verdict.judgement.candidate
    assert not run_local(asked("dispatch-o!dropped_decay")).ok


def test_a_baseline_that_is_no_oracle_has_the_noise_of_both_sides() -> None:
    """Which explains the oracle, and no wrong heads."""
    assert run_local(asked("oracle", baseline="dispatch-o")).ok
    assert not run_local(asked("dispatch-o!tiled_heads", baseline="dispatch-o")).ok


class Rounding(Encoding):
    """The baseline rounds each request for itself, and no two batches alike: as honest cores in bfloat16 do."""

    asked: ClassVar[list[tuple[str, int]]] = []

    def transcript(self, scenario: Scenario, wanted: Variant = REFERENCES, *more: Any, **named: Any) -> Transcript:
        self.asked.append((str(wanted), scenario.most))
        return super().transcript(scenario, wanted, *more, **named)


def test_one_prompt_alone_has_a_budget_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of other sizes are none of it: the float64 core under both sides' roundings is."""
    monkeypatch.setattr(Rounding, "asked", [])
    monkeypatch.setattr(local, "Session", Rounding)
    result = run_local(asked("dispatch-o", baseline="dispatch-o", tokens=PROMPTS[:1]))
    assert result.ok, result
    judged = result.verdicts[0].judgement
    assert judged.worst is not None
    assert judged.worst.budget > 1e-8
    assert {word for word, _ in Rounding.asked} >= {"oracle", "oracle~1", "oracle~8"}
    assert all(most == 0 or word.startswith("oracle~") for word, most in Rounding.asked)
    sizes = {most for word, most in _asked_of(PROMPTS[:3]) if word == "dispatch-o"}
    assert sizes == {0, 1, 2}  # rounds of as many as there are would be the same run again


def _asked_of(tokens: Prompts) -> list[tuple[str, int]]:
    Rounding.asked.clear()
    run_local(asked("dispatch-o", baseline="dispatch-o", tokens=tokens))
    return list(Rounding.asked)


def test_an_accusation_rests_on_more_runs_and_comes_with_a_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the baseline's engine once more; the candidate's is looked into while it is there."""
    result = run_local(asked("dispatch-o!dropped_decay", baseline="dispatch-o"))
    (verdict,) = result.verdicts
    assert verdict.judgement.runs == 32
    assert verdict.pinpointed is not None
    assert verdict.pinpointed.case
    assert run_local(asked("dispatch-o")).verdicts[0].judgement.runs == 8


def test_a_baseline_that_raises_accuses_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """As vLLM's own core on a CPU in float32."""
    monkeypatch.setattr(Encoding, "transcript", lambda *a, **k: Transcript((), raised="AssertionError: BF16"))
    result = run_local(asked("oracle", baseline="dispatch-o"))
    assert not result.verdicts
    assert "accuses nobody: AssertionError: BF16" in result.trouble


def test_noise_is_made_by_the_roundings_of_either_side() -> None:
    """A fault or one kind of launch alone make an oracle no exact one; the engine's own rounds as its platform's."""
    assert sites_of(asked("dispatch-o")) == ("dispatch-o",)
    assert sites_of(asked("stock", baseline="dispatch-o")) == ("dispatch-o", "vllm-cpu-core")
    assert sites_of(replace(asked("stock"), settings=Settings(seam="rocm"))) == ("vllm-core",)
    assert sites_of(asked("dispatch-o", baseline="oracle!dropped_decay")) == ("", "dispatch-o")
    assert sites_of(asked("oracle@decode")) == ("", "vllm-cpu-core")
    assert sites_of(asked("oracle")) == ("",)


def test_a_prompt_that_is_too_long_for_the_engine_is_told() -> None:
    """With the length to ask for."""
    result = run_local(asked("dispatch-o", tokens=((2,) * 1020,)))
    assert "--length 1025" in result.trouble


def test_texts_are_made_tokens_by_the_model_s_own_tokenizer() -> None:
    """Where no tokens are given."""
    assert run_local(asked("dispatch-o", tokens=())).ok


def test_prompts_are_lines_or_json(tmp_path: File) -> None:
    """Texts or lists of tokens; a file without any is refused."""
    (tmp_path / "a.txt").write_text("one two\n\nthree\n")
    assert prompts_of(tmp_path / "a.txt") == (("one two", "three"), ())
    (tmp_path / "b.json").write_text("[[1, 2], [3]]")
    assert prompts_of(tmp_path / "b.json") == ((), ((1, 2), (3,)))
    (tmp_path / "c.txt").write_text("\n")
    with pytest.raises(ValueError, match="no prompt"):
        prompts_of(tmp_path / "c.txt")


LM_EVAL = """
import json, os, sys
room = sys.argv[sys.argv.index("--output_path") + 1]
arguments = sys.argv[sys.argv.index("--model_args") + 1]
assert "pretrained=mine" in arguments and "max_model_len=4096" in arguments and "--log_samples" in sys.argv
core, told = os.environ.get("GDN_VERIFY_CORE"), os.environ["GDN_VERIFY_TOLD"]
if core and core != "oracle":
    problems = ["boom"] if core == "conv" else []
    json.dump({"layers": 3, "launches": 9, "problems": problems}, open(told + "/7.json", "w"))
os.makedirs(room + "/mine")
with open(room + "/mine/samples_gsm8k_now.jsonl", "w") as file:
    for number in range(20):
        right = number % 10 > 0 and not (core and number < 14)
        for name in ("strict-match", "flexible-extract"):
            line = {"doc_id": number, "filter": name, "exact_match": float(right and name == "strict-match")}
            print(json.dumps(line), file=file)
"""


@pytest.fixture
def lm_eval(monkeypatch: pytest.MonkeyPatch, tmp_path: File) -> None:
    """A stand-in of it, whose engine is wrong on another core, says so on one, and says nothing on a third."""
    (tmp_path / "lm_eval.py").write_text(LM_EVAL)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.mark.usefixtures("lm_eval")
def test_a_task_is_scored_on_the_core_that_is_named() -> None:
    """By the environment of lm_eval's process; answers are held to chance question by question."""
    own = score("mine", Side(Variant("stock")), Settings(), 20)
    ours = score("mine", Side(Variant("dispatch-o")), Settings(), 20)
    assert (own.accuracy, ours.accuracy, own.questions) == (0.9, 0.3, 20)
    assert own.differs(ours)


@pytest.mark.usefixtures("lm_eval")
def test_a_task_whose_engine_has_not_run_the_core_says_nothing() -> None:
    """Launches that raise give zeros, and a plugin that is not there is told by nobody."""
    with pytest.raises(TaskError, match=r"did not do the work.*boom"):
        score("mine", Side(Variant("conv")), Settings(), 20)
    with pytest.raises(TaskError, match="no engine of lm_eval's has told"):
        score("mine", Side(Variant("oracle")), Settings(), 20)


def test_answers_are_compared_question_by_question() -> None:
    """A loss that accuracies alone would hide is seen, and a baseline that knows nothing is refused."""
    own = Score({n: n % 2 == 0 for n in range(200)})
    worse = Score({n: n % 2 == 0 and n > 28 for n in range(200)})  # 15 of 200 lost: 7.5 points
    assert own.differs(worse)
    assert not own.differs(Score({n: n % 2 == 0 and n > 4 for n in range(200)}))
    mixed = Score({n: (n % 2 == 0) != (n < 30) for n in range(200)})  # 30 change sides, as many this way as that
    assert own.chance(mixed) == 1.0
    with pytest.raises(TaskError, match="nothing to lose"):
        Score(dict.fromkeys(range(200), False)).differs(own)
    with pytest.raises(TaskError, match="not asked the same"):
        own.differs(Score({1: True}))


def test_a_core_put_in_unasked_tells_at_the_end(tmp_path: File, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an engine of lm_eval's ran, and what was amiss; a process that was no engine writes nothing."""
    monkeypatch.setattr(seam, "SEAM", seam.Seam())
    plugin._tell(tmp_path, Variant("oracle"))
    assert not list(tmp_path.iterdir())
    engine = ToyEngine(seam=seam.SEAM)
    engine.generate([[3, 4]], 3, core_of(Variant("oracle"), HOSTS["cpu"]))
    plugin._tell(tmp_path, Variant("oracle"))
    (file,) = tmp_path.iterdir()
    assert json.loads(file.read_text()) == {"layers": 1, "launches": 3, "problems": []}
    seam.SEAM.raised = "boom"
    plugin._tell(tmp_path, Variant("oracle"))
    assert json.loads(file.read_text())["problems"] == ["boom"]


def test_lm_eval_that_is_not_there_is_told_with_its_install_line() -> None:
    """It is not installed here."""
    with pytest.raises(TaskError, match="lm_eval"):
        score("mine", Side(Variant("stock"), sys.executable), Settings(), 20)


def test_a_task_that_fails_takes_nothing_of_the_pair_along(tmp_path: File, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is shown and written before; cases are saved; options of the tiny models are refused."""
    made = ["e2e", "--model", "mine", "--baseline", "oracle", "--dtype", "float32"]
    files = ["--json", str(tmp_path / "r.json"), "--save", str(tmp_path / "cases")]
    done = CliRunner().invoke(app, [*made, *files, "--questions", "5", "--candidate", "dispatch-o!dropped_decay"])
    assert done.exit_code == 1, done.output
    assert "gdn-verify check CASE.json" in done.output
    assert "gsm8k: lm_eval of" in done.output
    assert len(json.loads((tmp_path / "r.json").read_text())["parts"]) == 1
    assert list((tmp_path / "cases").glob("*.json"))
    for more in (["--repeat", "2"], ["--seed", "3"], ["--workers", "1"], ["--engine-options", "[1]"]):
        assert CliRunner().invoke(app, [*made, *more]).exit_code == 2, more


def test_words_that_mean_nothing_end_the_command_at_once(tmp_path: File) -> None:
    """Before any engine is started."""
    for more in (["--candidate", "nobody"], ["--prompts", str(tmp_path / "none")]):
        assert CliRunner().invoke(app, ["e2e", "--model", str(tmp_path), *more]).exit_code == 2
