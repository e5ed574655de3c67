"""`gdn-verify autopsy`: how simple, how well told and how runnable are the failures of a campaign's mutants?"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path as File
from statistics import median
from typing import Annotated

import typer
from rich.console import Console

from gdn_verify.autopsy import FIXED, PATIENCE, Autopsy, autopsy, shows
from gdn_verify.cases.catalogue import catalogue
from gdn_verify.cases.contract import Kind
from gdn_verify.mutants.known import known
from gdn_verify.mutants.record import load
from gdn_verify.mutants.systematic import mutants as all_mutants
from gdn_verify.mutants.trial import Fate, Mutant, sampled
from gdn_verify.report.terminal import wide
from gdn_verify.words import refuse

SHORT = (Kind.DECODE, Kind.SPEC)


def autopsies(
    rows: Annotated[File, typer.Argument(help="What `gdn-verify mutants --json` wrote.", metavar="ROWS.json")],
    names: Annotated[str, typer.Option(help="Mutants by name; all that were killed by a case by default.")] = "",
    sample: Annotated[int, typer.Option(help="Take so many, always the same; 0 for all.", min=0)] = 0,
    seconds: Annotated[float, typer.Option(help="For how long a simpler case is sought.", min=1)] = PATIENCE,
    output: Annotated[
        File | None, typer.Option("--json", help="Write what came of each here, and go on from those there.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Mutants at a time; 0 for one a core.", min=0)] = 1,
    python: Annotated[str, typer.Option(help="The Python that runs the scripts, without this suite.")] = sys.executable,
) -> None:
    """Shrink, localise and reproduce the failure of each killed mutant; tell how far that carries."""
    if not rows.exists():
        raise refuse(f"{rows}: no such file; `gdn-verify mutants --json {rows}` writes one")
    every: list[Mutant] = [*known(), *all_mutants()]
    killed = {name: row for name, row in load(rows, every).items() if row.fate == Fate.KILLED and row.case}
    wanted = {name for name in names.split(",") if name}
    if missing := wanted - killed.keys():
        raise refuse(f"--names {', '.join(sorted(missing))}: no case in {rows} killed such a mutant")
    chosen = [mutant for mutant in every if mutant.name in (wanted or killed)]
    chosen = sampled(chosen, sample) if sample else chosen
    expected = {mutant.name: mutant.stage for bug in catalogue() for mutant in bug.mutants}
    begun, console = _begun(output), wide()
    done = {name: each for name, each in begun.items() if name in killed and each.case == killed[name].case}
    with ThreadPoolExecutor(workers or len(os.sched_getaffinity(0))) as pool:
        asked = [
            pool.submit(autopsy, mutant, killed[mutant.name], expected.get(mutant.name, ""), seconds, python)
            for mutant in chosen
            if mutant.name not in done
        ]
        for found in (each.result() for each in as_completed(asked)):
            done[found.name] = found
            console.print(_line(found), soft_wrap=True, markup=False, highlight=False)
            if output:
                output.write_text(json.dumps([asdict(each) for each in done.values()], indent=1), encoding="utf-8")
    kinds = {name: row.kind for name, row in killed.items()}
    _show([done[mutant.name] for mutant in chosen], kinds, console)


def _begun(output: File | None) -> dict[str, Autopsy]:
    if output is None or not output.exists():
        return {}
    told = json.loads(output.read_text(encoding="utf-8"))
    return {each["name"]: Autopsy(**{**each, "geometry": tuple(each["geometry"])}) for each in told}


def _line(found: Autopsy) -> str:
    script = f"{found.lines} lines, exits {found.wrong} and {found.right}" if found.lines else "no script"
    script += ", values are right" * found.silent
    stage = f"stage {found.stage or '?'}" + (f" (is {found.expected})" if found.expected else "")
    size = f"{found.rows} rows, {found.tokens} tokens, H, HV, K, V {found.geometry}"
    trouble = f"; {found.trouble.splitlines()[-1]}" if found.trouble else ""
    return f"{found.name}: {found.finding}: {size}; {stage}; {script}; {found.seconds:.0f} s{trouble}"


def _show(found: Sequence[Autopsy], kinds: dict[str, str], console: Console) -> None:
    short = [each for each in found if kinds[each.name] in SHORT]
    long = [each for each in found if kinds[each.name] not in SHORT]
    for line in (*_sizes("decode and drafts", short), *_sizes("others", long), *_stages(found), *_scripts(found)):
        console.print(line, soft_wrap=True, markup=False, highlight=False)


def _sizes(title: str, own: Sequence[Autopsy]) -> Iterator[str]:
    whole, own = len(own), [each for each in own if each.tokens]
    if own:
        middle = ", ".join(f"{median(each.geometry[axis] for each in own):g}" for axis in range(4))
        rows, tokens = median(each.rows for each in own), median(each.tokens for each in own)
        yield (
            f"{title}, {len(own)} of {whole} made simple: in the median {rows:g} rows, {tokens:g} tokens, "
            f"H, HV, K, V {middle}"
        )


def _stages(found: Sequence[Autopsy]) -> Iterator[str]:
    if staged := [each for each in found if each.expected]:
        right = [each for each in staged if each.stage == each.expected]
        yield f"the right stage is named for {len(right)} of {len(staged)}{_others(staged, right)}"


def _scripts(found: Sequence[Autopsy]) -> Iterator[str]:
    scripts = [each for each in found if each.lines]
    if not scripts:
        return
    spans = sorted(each.seconds for each in scripts)
    most, lines = spans[int(0.95 * (len(spans) - 1))], median(each.lines for each in scripts)
    yield f"{len(scripts)} scripts of {lines:g} lines, after {median(spans):.0f} s, 95 % within {most:.0f} s"
    healthy = [each for each in scripts if each.right == FIXED]
    yield f"on right kernels {len(healthy)} of {len(scripts)} exit with 0{_others(scripts, healthy)}"
    shown = [each for each in scripts if each.wrong is not None and not each.silent]
    wrong = [each for each in shown if shows(each.wrong)]
    died = sum(each.wrong is not None and each.wrong < 0 for each in wrong)
    how = f" ({died} died of a signal)" if died else ""
    yield f"on wrong ones {len(wrong)} of {len(shown)} with 1{how}{_others(shown, wrong)}"
    if silent := [each.name for each in scripts if each.silent]:
        yield f"{len(silent)} show in no value of a launch, so in no script: {', '.join(silent)}"


def _others(every: Iterable[Autopsy], good: Sequence[Autopsy]) -> str:
    left = [each.name for each in every if each not in good]
    return f"; not: {', '.join(left)}" if left else ""
