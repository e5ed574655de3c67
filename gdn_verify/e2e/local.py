"""A local checkpoint of a user's own: a baseline and a candidate on its prompts, each in an environment of its own."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path as File

from gdn_verify.e2e.judgement import judge
from gdn_verify.e2e.noise import Noise
from gdn_verify.e2e.plan import Rule
from gdn_verify.e2e.run import Result, Verdict
from gdn_verify.e2e.scenario import Round, Scenario, Settings
from gdn_verify.e2e.session import Model, Session, SessionError
from gdn_verify.e2e.transcript import Transcript
from gdn_verify.e2e.variant import ORACLE, STOCK, Variant

AT_ONCE = 8
"""Requests in a round."""
NOISY_RUNS = 8
LINES = (
    "The capital of France is",
    "def fibonacci(n):",
    "Once upon a time",
    "1, 1, 2, 3, 5, 8,",
    "Q: What is 17 + 25? A:",
)
"""Prompts where a user gives none."""


@dataclass(frozen=True)
class Side:
    """Whose core, and the Python of its engine."""

    core: Variant
    python: str = sys.executable


@dataclass(frozen=True)
class Local:
    """What is asked: a model's folder, prompts as lines of text or as tokens, and how many tokens each generates."""

    model: str
    baseline: Side
    candidate: Side
    settings: Settings
    lines: tuple[str, ...] = LINES
    tokens: tuple[tuple[int, ...], ...] = ()
    generate: int = 64


def prompts_of(file: File) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    """(lines of text, lists of tokens): the prompts of a file, one a line, or in JSON a list of either.

    Raises ValueError for a file that holds none.
    """
    text = file.read_text(encoding="utf-8")
    found = json.loads(text) if file.suffix == ".json" else [line for line in text.splitlines() if line.strip()]
    if not found:
        raise ValueError(f"{file}: no prompt; write one a line, or a JSON list of texts or of lists of tokens")
    if all(isinstance(each, str) for each in found):
        return tuple(found), ()
    return (), tuple(tuple(int(token) for token in each) for each in found)


def run_local(asked: Local) -> Result:
    """The pair on the user's model: the baseline first, then the candidate, never two engines at a time."""
    started = time.perf_counter()
    name = f"{File(asked.model).name} {asked.settings.dtype}"
    try:
        verdict, version = _compared(asked, name)
    except SessionError as error:
        return Result(name, trouble=str(error), seconds=time.perf_counter() - started)
    return Result(name, (verdict,), version=version, seconds=time.perf_counter() - started)


def _compared(asked: Local, name: str) -> tuple[Verdict, str]:
    model, core = Model(local=asked.model), asked.baseline.core
    with Session(model, asked.settings, python=asked.baseline.python) as session:
        scenario = _scenario(asked, asked.tokens or session.encoded(asked.lines), name)
        base = session.transcript(scenario, core)
        sites = asked.candidate.core.core if core.core == ORACLE and asked.candidate.core.core != STOCK else ""
        budget = Noise(session, scenario, base, sites, core).budget(NOISY_RUNS)
        version = session.opened.version
    with Session(model, asked.settings, python=asked.candidate.python) as session:
        free = session.transcript(scenario, asked.candidate.core)
        same = all(a.tokens == b.tokens for a, b in zip(base.requests, free.requests, strict=True))
        forced: Transcript | None = None if same else session.transcript(scenario, asked.candidate.core, base)
        version = f"{version}; {session.opened.version}"
    names = (f"{core} ({asked.baseline.python})", f"{asked.candidate.core} ({asked.candidate.python})")
    judged = judge(name, names, base, free, forced, budget)
    return Verdict(judged, Rule.EXPLAINED, base, free), version


def _scenario(asked: Local, prompts: Sequence[tuple[int, ...]], name: str) -> Scenario:
    rounds = tuple(tuple(prompts[at : at + AT_ONCE]) for at in range(0, len(prompts), AT_ONCE))
    shapes = tuple(Round(tuple(map(len, each)), asked.generate) for each in rounds)
    return replace(Scenario(name, shapes, asked.settings), given=rounds)
