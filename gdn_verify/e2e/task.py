"""Accuracy on a task, by lm_eval where it is installed: a model's vLLM on a core of this suite's, and on its own.

lm_eval makes engines of its own; the plugin puts the core in them that `plugin.CORE` names.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from gdn_verify.e2e.engine import ENVIRONMENT
from gdn_verify.e2e.local import Side
from gdn_verify.e2e.plugin import ASKED, CORE
from gdn_verify.e2e.scenario import Settings
from gdn_verify.e2e.variant import STOCK

TASK = "gsm8k"
METRIC = "exact_match,strict-match"
INSTALL = "pip install 'lm_eval[vllm]'"
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
"""A task may be fetched."""
APART = 3.0
"""Standard errors of the difference beyond which two accuracies are said to differ."""


class TaskError(RuntimeError):
    """The task could not be run; the message says why, and the way out."""


@dataclass(frozen=True)
class Score:
    """An accuracy, its standard error, and how many questions it is of."""

    accuracy: float
    error: float
    questions: int

    def differs(self, other: Score) -> bool:
        """Whether two are farther apart than chance explains."""
        noise = (self.error**2 + other.error**2) ** 0.5
        return abs(self.accuracy - other.accuracy) > APART * noise


def score(model: str, side: Side, settings: Settings, questions: int, task: str = TASK) -> Score:
    """What a side scores on the first so many questions of a task. Raises TaskError."""
    arguments = (
        f"pretrained={model},dtype={settings.dtype},enforce_eager=True,max_model_len={settings.length},"
        f"max_num_batched_tokens={settings.budget},max_num_seqs={settings.seats}"
    )
    with tempfile.TemporaryDirectory(prefix="gdn-verify-task-") as room:
        command = [
            side.python, "-m", "lm_eval", "--model", "vllm", "--model_args", arguments, "--tasks", task,
            "--limit", str(questions), "--output_path", room,
        ]  # fmt: skip
        done = subprocess.run(command, env=_environment(side, settings), capture_output=True, text=True, check=False)
        if done.returncode:
            words = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
            hint = f"; {INSTALL} there" if "No module named lm_eval" in done.stderr else ""
            raise TaskError(f"lm_eval of {side.python} ended with {done.returncode}: {words[0]}{hint}")
        return _read(Path(room), task, questions)


def _environment(side: Side, settings: Settings) -> dict[str, str]:
    kept = {name: value for name, value in ENVIRONMENT.items() if name not in OFFLINE}
    asked = {} if side.core.core == STOCK else {ASKED: settings.seam, CORE: str(side.core)}
    return {**os.environ, **kept, **asked}


def _read(room: Path, task: str, questions: int) -> Score:
    files = sorted(room.rglob("results*.json"))
    if not files:
        raise TaskError("lm_eval wrote no results; see its --output_path")
    found = json.loads(files[-1].read_text(encoding="utf-8"))["results"][task]
    error = METRIC.replace(",", "_stderr,")
    return Score(float(found[METRIC]), float(found[error]), questions)
