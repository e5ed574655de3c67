"""`gdn-verify e2e`: greedy output of a real engine with one core exchanged for another."""

from __future__ import annotations

import json
import re
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path as File
from typing import Annotated

import numpy as np
import typer

from gdn_verify.e2e.local import LINES, Local, Side, prompts_of, run_local
from gdn_verify.e2e.plan import FALLBACK, Part, whole
from gdn_verify.e2e.run import Place, Result, run
from gdn_verify.e2e.scenario import Settings, seeded
from gdn_verify.e2e.task import TASK, TaskError, score
from gdn_verify.e2e.variant import STOCK, Variant, variant
from gdn_verify.paths import UnknownPathError
from gdn_verify.report import e2e as report
from gdn_verify.report.page import SUFFIXES
from gdn_verify.report.terminal import wide
from gdn_verify.runs import RED, progress
from gdn_verify.words import refuse

LOCAL_BUDGET = 2048
"""Tokens of a step, where a user's own model is asked."""
PYTHON = "A Python with vLLM in it (requirements/e2e.txt); by default this one."


def e2e(
    parts: Annotated[str, typer.Option(help="Parts of the run by words of their names, by commas; all.")] = "",
    faults: Annotated[bool, typer.Option("--faults/--no-faults", help="Seed the faults as well.")] = True,
    engine: Annotated[str, typer.Option(help=PYTHON, metavar="PYTHON")] = sys.executable,
    reference: Annotated[
        str, typer.Option(help="A Python with transformers; by default the engine's.", metavar="PYTHON")
    ] = "",
    seed: Annotated[int, typer.Option(help="Other prompts than the usual; 0 for the usual.", min=0)] = 0,
    repeat: Annotated[int, typer.Option(help="Ask the pairs so often, of other prompts each time.", min=1)] = 1,
    models: Annotated[
        File | None, typer.Option(help="Keep the tiny models here; else in a folder that goes.", metavar="FOLDER")
    ] = None,
    workers: Annotated[int, typer.Option(help="Engines side by side; 0 for two.", min=0)] = 0,
    json_file: Annotated[
        File | None, typer.Option("--json", help="Write the report to this file as JSON.", metavar="FILE")
    ] = None,
    page_file: Annotated[
        File | None, typer.Option("--page", help="Write it as a page too: .md or .html.", metavar="FILE")
    ] = None,
    save: Annotated[
        File | None, typer.Option(help="Write cases, and the launches that they were made of, here.", metavar="FOLDER")
    ] = None,
    model: Annotated[
        File | None, typer.Option(help="Ask a local checkpoint instead of the tiny ones.", metavar="FOLDER")
    ] = None,
    prompts: Annotated[
        File | None, typer.Option(help="With --model: prompts, one a line, or JSON.", metavar="FILE")
    ] = None,
    baseline: Annotated[str, typer.Option(help="With --model: a core, as stock, oracle, dispatch-o.")] = STOCK,
    candidate: Annotated[str, typer.Option(help="With --model: the core that is held to it.")] = FALLBACK,
    candidate_engine: Annotated[
        str, typer.Option(help="With --model: the candidate's Python; by default the engine's.", metavar="PYTHON")
    ] = "",
    dtype: Annotated[str, typer.Option(help="With --model: the type of activations.")] = "bfloat16",
    seam: Annotated[str, typer.Option(help="With --model: the platform, cpu, cuda or rocm.")] = "cpu",
    generate: Annotated[int, typer.Option(help="With --model: tokens for each prompt.", min=1)] = 64,
    length: Annotated[int, typer.Option(help="With --model: tokens of a request at most.", min=1)] = 4096,
    options: Annotated[
        str, typer.Option("--engine-options", help="With --model: arguments of vLLM's LLM, in JSON.", metavar="JSON")
    ] = "",
    questions: Annotated[int, typer.Option(help="With --model: ask so many of gsm8k too, by lm_eval.", min=0)] = 0,
) -> None:
    """Hold cores to the float64 oracle inside vLLM, and that to transformers; exit 1 for what noise cannot explain."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if page_file and page_file.suffix not in SUFFIXES:
        raise refuse(f"--page {page_file}: a page is {' or '.join(SUFFIXES)}")
    if model:
        if parts or seed or repeat > 1 or models or reference or workers or not faults:
            words = "--parts, --no-faults, --seed, --repeat, --models, --reference and --workers"
            raise refuse(f"{words} are of the tiny models, not of --model")
        sides = (Side(_core(baseline), engine), Side(_core(candidate), candidate_engine or engine))
        settings = _settings(dtype, seam, length, options)
        lines, tokens = _prompts(prompts)
        asked_of = Local(str(model), *sides, settings, lines, tokens, generate)
        results = [run_local(asked_of)]
        if save:
            saved(results, save)
        red = _give(results, json_file, page_file)
        if questions:
            red = not _score(asked_of, questions) or red
        raise typer.Exit(RED if red else 0)
    asked = chosen(parts, faults, seed, repeat)
    with tempfile.TemporaryDirectory(prefix="gdn-verify-e2e-") as room:
        root = models or File(room)
        root.mkdir(parents=True, exist_ok=True)
        results = _run(asked, Place(str(root), engine, reference or engine), workers or 2)
    if save:
        saved(results, save)
    if _give(results, json_file, page_file):
        raise typer.Exit(RED)


def _settings(dtype: str, seam: str, length: int, options: str) -> Settings:
    """Of a user's own model. Raises typer.Exit for options that are none."""
    made = Settings(dtype=dtype, budget=LOCAL_BUDGET, seam=seam, blocks=0, length=length, options=options)
    try:
        assert made.given is not None
    except ValueError as error:
        raise refuse(f"--engine-options: {error}") from None
    return made


def _core(word: str) -> Variant:
    try:
        return variant(word)
    except UnknownPathError as error:
        raise refuse(str(error)) from None


def _prompts(file: File | None) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    try:
        return prompts_of(file) if file else (LINES, ())
    except (OSError, ValueError) as error:
        raise refuse(str(error)) from None


def _score(asked: Local, questions: int) -> bool:
    """Ask both sides a task, and print what they answer; whether they are alike. What was printed before stays."""
    try:
        one, other = (score(asked.model, side, asked.settings, questions) for side in (asked.baseline, asked.candidate))
        return not report.show_scores(one, other, wide())
    except TaskError as error:
        report.show_trouble(f"{TASK}: {error}", wide())
        return False


def chosen(words: str, faults: bool, seed: int = 0, repeat: int = 1) -> tuple[Part, ...]:
    """The parts that have some word in their name, `repeat` times with other prompts.

    Raises typer.Exit for a word that none has: others would be run, and it would look as if this one was.
    """
    known = whole()
    named = {part.name: part for part in known}
    asked = [word.strip() for word in words.split(",")] if words else []
    for word in asked:
        if not word or not any(word in name for name in named):
            raise refuse(f"--parts {words!r}: no part is called {word!r}; parts are {'; '.join(named)}")
    wanted = [name for name in named if not asked or any(word in name for word in asked)]
    parts = [named[name] for name in wanted]
    if not faults:
        parts = [replace(part, faults=()) for part in parts]
    if seed:
        parts = [_of_other_prompts(part, seed) for part in parts]
    return tuple(replace(part, seeds=_more(part.scenario.seed, repeat)) for part in parts)


def _of_other_prompts(part: Part, seed: int) -> Part:
    apart = None if part.seeded_in is None else seeded(part.seeded_in, seed)
    return replace(part, scenario=seeded(part.scenario, seed), seeded_in=apart)


def _more(first: int, repeat: int) -> tuple[int, ...]:
    """Seeds of prompts beside the first."""
    return tuple(first + 100 * number for number in range(1, repeat))


def _run(parts: Sequence[Part], place: Place, workers: int) -> list[Result]:
    with progress() as bar:
        total = bar.add_task("engines", total=len(parts))

        def told(line: str) -> None:
            bar.update(total, advance=1, description=line)

        return run(parts, place, workers, told)


def saved(results: Sequence[Result], folder: File) -> None:
    """Each case as NAME.json, for `gdn-verify check`, `shrink` and `repro`; the engine's launch beside it, NAME.npz."""
    folder.mkdir(parents=True, exist_ok=True)
    for result in results:
        wrong = [(f"{v.judgement.candidate}-{v.judgement.scenario}", v.pinpointed) for v in result.verdicts]
        wrong += [(f"{s.fault.name}-{s.judgement.scenario}", s.pinpointed) for s in result.seeded]
        for name, found in wrong:
            if found is not None:
                stem = re.sub(r"[^\w.-]+", "-", f"{result.name}-{name}")
                np.savez_compressed(folder / f"{stem}.npz", **found.arrays)  # type: ignore[arg-type]
                if found.case:
                    (folder / f"{stem}.json").write_text(found.case, encoding="utf-8")


def _give(results: Sequence[Result], json_file: File | None, page_file: File | None) -> bool:
    """Write it and show it; whether anything is not as it should be."""
    if json_file:
        json_file.write_text(json.dumps(report.as_json(results), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    if page_file:
        page_file.write_text(report.page(results, page_file.suffix), encoding="utf-8")
    report.show(results, wide())
    return not all(result.ok for result in results)
