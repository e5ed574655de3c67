"""A local checkpoint of a user's own: a baseline and a candidate on its prompts, each in an environment of its own."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path as File

from gdn_verify.e2e.budget import RUNS_BEFORE_ACCUSATION
from gdn_verify.e2e.judgement import judge
from gdn_verify.e2e.noise import EXACT, Noise
from gdn_verify.e2e.plan import Rule
from gdn_verify.e2e.run import Looked, Result, Verdict, look
from gdn_verify.e2e.scenario import Round, Scenario, Settings
from gdn_verify.e2e.session import Model, Session, SessionError
from gdn_verify.e2e.transcript import Transcript
from gdn_verify.e2e.variant import ORACLE, OWN, STOCK, Variant, whose

AT_ONCE = 8
"""Requests in a round."""
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
    core, wanted = asked.baseline.core, asked.candidate.core
    with _session(asked, asked.baseline) as session:
        scenario = _scenario(asked, asked.tokens or session.encoded(asked.lines), name)
        base = session.transcript(scenario, core)
        if base.failure:
            raise SessionError(f"the baseline {core} failed, so it accuses nobody: {base.failure}")
        noise = Noise(session, scenario, base, sites_of(asked), core)
        budget, version = noise.budget(), session.opened.version
    names = (f"{core} ({asked.baseline.python})", f"{wanted} ({asked.candidate.python})")
    looked: Looked | None = None
    with _session(asked, asked.candidate) as session:
        free = session.transcript(scenario, wanted)
        same = all(a.tokens == b.tokens for a, b in zip(base.requests, free.requests, strict=True))
        forced: Transcript | None = None if same else session.transcript(scenario, wanted, base)
        version = f"{version}; {session.opened.version}"
        if not (judged := judge(name, names, base, free, forced, budget)).explained:
            looked = look(session, scenario, wanted)
    if judged.first is not None:
        with _session(asked, asked.baseline) as noise.session:
            judged = judge(name, names, base, free, forced, noise.budget(RUNS_BEFORE_ACCUSATION))
    return Verdict(judged, Rule.EXPLAINED, base, free, None if judged.explained else looked), version


def _session(asked: Local, side: Side) -> Session:
    """An engine of the user's model; without lines of text nobody needs its tokenizer."""
    return Session(Model(local=asked.model), asked.settings, python=side.python, tokenizer=not asked.tokens)


def sites_of(asked: Local) -> tuple[str, ...]:
    """Paths by whose roundings noise is made: of either side, unless it is the float64 core itself."""
    made: list[str] = []
    for core in (asked.baseline.core, asked.candidate.core):
        if core != EXACT:
            made.append("" if core.core == ORACLE else whose(core.core, asked.settings.seam))
        if core.only is not None and core.core not in OWN:  # all other launches are the engine's
            made.append(whose(STOCK, asked.settings.seam))
    return tuple(made) or ("",)


def _scenario(asked: Local, prompts: Sequence[tuple[int, ...]], name: str) -> Scenario:
    """Raises SessionError for a prompt that is too long for the engine that was asked for."""
    needed = max(map(len, prompts)) + asked.generate
    if needed > asked.settings.length:
        raise SessionError(
            f"a prompt and what it generates take {needed} tokens, and the engine has length={asked.settings.length}; "
            f"ask for --length {needed}"
        )
    rounds = tuple(tuple(prompts[at : at + AT_ONCE]) for at in range(0, len(prompts), AT_ONCE))
    shapes = tuple(Round(tuple(map(len, each)), asked.generate) for each in rounds)
    return replace(Scenario(name, shapes, asked.settings), given=rounds)
