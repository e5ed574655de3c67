"""Accuracy on a task, by lm_eval where it is installed: a model's vLLM on a core of this suite's, and on its own.

lm_eval makes engines of its own; the plugin puts the core in them that `plugin.CORE` names, and writes down at their
end whether it did their work. Both sides answer the same questions, so they are compared question by question.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import comb
from pathlib import Path
from typing import Any

from gdn_verify.e2e.environment import put
from gdn_verify.e2e.local import Side
from gdn_verify.e2e.plugin import ASKED, CORE, TOLD
from gdn_verify.e2e.scenario import Settings
from gdn_verify.e2e.variant import STOCK

TASK = "gsm8k"
METRIC, FILTER = "exact_match", "strict-match"
INSTALL = "pip install 'lm_eval[vllm]'"
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
"""A task may be fetched."""
LENGTH = 4096
"""Tokens that an engine takes at least: five worked examples come before each question."""
LEAST = 0.05
"""A baseline that answers no more than that cannot lose much, and says nothing of its candidate."""
CHANCE = 2.7e-3
"""How likely chance may be to set two accuracies apart so far, before it is said that they differ: three sigma."""


class TaskError(RuntimeError):
    """The task could not be run, or says nothing; the message says why, and the way out."""


@dataclass(frozen=True)
class Score:
    """Whether each question, by its number, was answered rightly."""

    answers: Mapping[int, bool] = field(default_factory=dict)

    @property
    def questions(self) -> int:
        """How many."""
        return len(self.answers)

    @property
    def accuracy(self) -> float:
        """The share of right answers."""
        return sum(self.answers.values()) / self.questions

    def chance(self, other: Score) -> float:
        """How likely it is that as many questions change sides as unevenly, if neither side is better (McNemar, exact).

        Raises TaskError where the two were not asked the same.
        """
        if self.answers.keys() != other.answers.keys():
            raise TaskError("the two sides were not asked the same questions; run both with one version of lm_eval")
        changed = [right for number, right in self.answers.items() if right != other.answers[number]]
        count, least = len(changed), min(sum(changed), len(changed) - sum(changed))
        return min(1.0, 2 * sum(comb(count, k) for k in range(least + 1)) / 2**count)

    def differs(self, other: Score) -> bool:
        """Whether two are farther apart than chance explains. Raises TaskError where this says nothing of the other."""
        if self.accuracy < LEAST:
            raise TaskError(f"the baseline is right in {self.accuracy:.1%} of all: its candidate has nothing to lose")
        return self.chance(other) < CHANCE


def score(model: str, side: Side, settings: Settings, questions: int, task: str = TASK) -> Score:
    """What a side answers of the first so many questions of a task. Raises TaskError."""
    arguments = {
        "pretrained": model, "dtype": settings.dtype, "enforce_eager": True,
        "max_model_len": max(settings.length, LENGTH), "max_num_batched_tokens": settings.budget,
        "max_num_seqs": settings.seats, **settings.given,
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="gdn-verify-task-") as room:
        command = [
            side.python, "-m", "lm_eval", "--model", "vllm", "--tasks", task, "--limit", str(questions),
            "--model_args", ",".join(f"{name}={value}" for name, value in arguments.items()),
            "--output_path", room, "--log_samples",
        ]  # fmt: skip
        told = Path(room, "told")
        told.mkdir()
        environment = {**_environment(side, settings), TOLD: str(told)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            words = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
            hint = f"; {INSTALL} there" if "No module named lm_eval" in done.stderr else ""
            raise TaskError(f"lm_eval of {side.python} ended with {done.returncode}: {words[0]}{hint}")
        if side.core.core != STOCK:
            _require_core(told, side)
        return Score(dict(_answers(Path(room), task)))


def _environment(side: Side, settings: Settings) -> dict[str, str]:
    made = dict(os.environ)
    put(made, alone=False)
    for name in OFFLINE:
        if name not in os.environ:
            del made[name]
    asked = {} if side.core.core == STOCK else {ASKED: settings.seam, CORE: str(side.core)}
    return {**made, **asked}


def _require_core(room: Path, side: Side) -> None:
    """Raises TaskError unless some engine has written that the core ran, and none that anything was amiss."""
    told: list[Any] = [json.loads(file.read_text(encoding="utf-8")) for file in room.glob("*.json")]
    problems = [problem for each in told for problem in each["problems"]]
    if problems:
        raise TaskError(f"{side.core} did not do the work of lm_eval's engine: {'; '.join(problems)}")
    if not sum(each["launches"] for each in told):
        raise TaskError(
            f"no engine of lm_eval's has told that {side.core} ran in it; is gdn-verify installed beside {side.python}?"
        )


def _answers(room: Path, task: str) -> Iterator[tuple[int, bool]]:
    """Each question and whether the answer was right, of what lm_eval has logged. Raises TaskError for none."""
    files = sorted(room.rglob(f"samples_{task}_*.jsonl"))
    lines = [json.loads(line) for line in files[-1].read_text(encoding="utf-8").splitlines()] if files else []
    found = [line for line in lines if line.get("filter", FILTER) == FILTER]
    if not found:
        raise TaskError(f"lm_eval logged no {FILTER} answers of {task}; see its --log_samples")
    for line in found:
        yield int(line["doc_id"]), bool(line[METRIC])
