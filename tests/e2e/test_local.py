"""A user's own checkpoint: prompts of a file, two environments, a task by (a stand-in for) lm_eval."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path as File

import pytest
from toy_session import ToySession
from typer.testing import CliRunner

from gdn_verify.cli import app
from gdn_verify.e2e import local
from gdn_verify.e2e.local import Local, Side, prompts_of, run_local
from gdn_verify.e2e.messages import Prompts
from gdn_verify.e2e.scenario import Settings
from gdn_verify.e2e.task import Score, TaskError, score
from gdn_verify.e2e.variant import Variant, variant

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


def test_a_baseline_that_is_no_oracle_has_the_noise_of_its_batches() -> None:
    """Which explains the oracle, and no wrong heads."""
    assert run_local(asked("oracle", baseline="dispatch-o")).ok
    assert not run_local(asked("dispatch-o!tiled_heads", baseline="dispatch-o")).ok


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
assert "pretrained=mine" in sys.argv[sys.argv.index("--model_args") + 1]
right = 0.5 if os.environ.get("GDN_VERIFY_CORE") else 0.9
results = {"gsm8k": {"exact_match,strict-match": right, "exact_match_stderr,strict-match": 0.05}}
os.makedirs(room + "/mine")
json.dump({"results": results}, open(room + "/mine/results_now.json", "w"))
"""


def test_a_task_is_scored_on_the_core_that_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: File) -> None:
    """By the environment of lm_eval's process; accuracies are held to chance."""
    (tmp_path / "lm_eval.py").write_text(LM_EVAL)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    own = score("mine", Side(Variant("stock")), Settings(), 20)
    ours = score("mine", Side(Variant("dispatch-o")), Settings(), 20)
    assert (own.accuracy, ours.accuracy, own.questions) == (0.9, 0.5, 20)
    assert own.differs(ours)
    assert not own.differs(Score(0.85, 0.05, 20))


def test_lm_eval_that_is_not_there_is_told_with_its_install_line() -> None:
    """It is not installed here."""
    with pytest.raises(TaskError, match="lm_eval"):
        score("mine", Side(Variant("stock"), sys.executable), Settings(), 20)


def test_words_that_mean_nothing_end_the_command_at_once(tmp_path: File) -> None:
    """Before any engine is started."""
    for more in (["--candidate", "nobody"], ["--prompts", str(tmp_path / "none")]):
        assert CliRunner().invoke(app, ["e2e", "--model", str(tmp_path), *more]).exit_code == 2
