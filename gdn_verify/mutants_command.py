"""`gdn-verify mutants`: how many mistakes in this project's own kernels does the gate see?"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from math import inf
from pathlib import Path as File
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from gdn_verify.campaign import Campaign, in_cuda_alone, plan
from gdn_verify.cases.catalogue import CLASSES
from gdn_verify.mutants import in_cuda
from gdn_verify.mutants.in_cuda import miswritten
from gdn_verify.mutants.known import known, on_cards
from gdn_verify.mutants.operators import OPERATORS
from gdn_verify.mutants.picture import PictureError, draw
from gdn_verify.mutants.record import Row, Summary, load, save, waiting
from gdn_verify.mutants.systematic import files
from gdn_verify.mutants.systematic import mutants as all_mutants
from gdn_verify.mutants.trial import Fate, Mutant, sampled
from gdn_verify.report.terminal import wide
from gdn_verify.words import refuse

SAVING = 10.0
"""Seconds between two states of the JSON file."""
CATALOGUE, SYSTEMATIC, CUDA = "catalogue", "systematic", "cuda"
WEAK = 1
"""Exit status of a score below the least one."""


def mutants(
    classes: Annotated[
        str,
        typer.Option(
            "--class",
            help="Classes of bugs, operators, catalogue or systematic; all of these by default. Or cuda, alone: "
            "mistakes in the sources in CUDA C++, which are emulated.",
        ),
    ] = "",
    sources: Annotated[
        str, typer.Option("--files", help="Files of gdn_verify/kernels, and no bugs of the catalogue.")
    ] = "",
    names: Annotated[str, typer.Option(help="Mutants by name; all by default.")] = "",
    sample: Annotated[int, typer.Option(help="Try so many, always the same; 0 for all.", min=0)] = 0,
    shard: Annotated[str, typer.Option(help="i/n: the i-th of n parts, counted from 1.")] = "1/1",
    limit: Annotated[float, typer.Option(help="Seconds after which a mutant that lives is left open; 0 for none.")] = 0,
    shrink: Annotated[float, typer.Option(help="Seconds to seek the smallest case that kills; 0 for none.", min=0)] = 0,
    least: Annotated[float, typer.Option(help="The least score, 0 to 1, for exit status 0.", min=0, max=1)] = 0.0,
    workers: Annotated[int, typer.Option(help="Processes; one a core by default.", min=0)] = 0,
    json: Annotated[File | None, typer.Option("--json", help="Write rows here, and go on from those there.")] = None,
    plot: Annotated[File | None, typer.Option(help="Draw what became of each class to this file.")] = None,
) -> None:
    """Plant real bugs and small mistakes in copies of this project's kernels, and see which the gate's cases show.

    A mutant is killed by a finding of any check, and survives if it lives through the whole gate profile.
    """
    for module, extra in (("coverage", "mutants"), ("triton", "interpreter")):
        if find_spec(module) is None:
            raise refuse(f"{module} is not installed; pip install 'gdn-verify[{extra}]'")
    known_classes = (CATALOGUE, SYSTEMATIC, CUDA, *CLASSES, *OPERATORS)
    of_cuda = CUDA in classes.split(",")
    there = in_cuda.files() if of_cuda else files()
    chosen = _chosen(_words("--class", classes, known_classes), _words("--files", sources, there), names)
    chosen = _shard(sampled(chosen, sample) if sample else chosen, shard)
    kept = {} if json is None else load(json, miswritten() if of_cuda else [*known(), *all_mutants()])
    rows = {mutant.name: kept[mutant.name] for mutant in chosen if mutant.name in kept}
    tried = waiting(chosen, rows)
    saved, console, done = time.monotonic(), wide(), len(chosen) - len(tried)
    try:
        host = in_cuda.HOST if in_cuda_alone(tried) else "interpreter"
        for row in Campaign(plan(mutants=tried), limit or inf, shrink=shrink, host=host).run(tried, workers or None):
            rows[row.name], done = row, done + 1
            console.print(_line(row, done, len(chosen)), soft_wrap=True, markup=False, highlight=False)
            if json and time.monotonic() - saved > SAVING:
                save(json, (kept | rows).values())
                saved = time.monotonic()
    finally:
        if json:
            save(json, (kept | rows).values())
    _show(console, list(rows.values()))
    if plot:
        try:
            draw(list(rows.values()), (*CLASSES, *OPERATORS), plot)
        except PictureError as error:
            raise refuse(str(error)) from None
    if Summary.of(rows.values()).score < least:
        raise typer.Exit(WEAK)


def _words(option: str, text: str, known: Sequence[str]) -> list[str]:
    words = [word for word in text.split(",") if word]
    for word in words:
        if word not in known:
            raise refuse(f"{option} {word}: not one of {', '.join(known)}")
    return words


def _chosen(classes: Sequence[str], sources: Sequence[str], names: str) -> list[Mutant]:
    """Mutants of these classes, files and names; the catalogue's first."""
    if CUDA in classes and len(classes) > 1:
        raise refuse(f"--class {','.join(classes)}: {CUDA} stands alone; its mutants run on a host of their own")
    every: list[Mutant] = []
    if CUDA in classes:
        every += miswritten(sources)
    else:
        every += [*(() if sources else known()), *all_mutants(sources)]
    found = [m for m in every if not classes or m.operator in classes or _family(m) in classes]
    wanted = {name for name in names.split(",") if name}
    if missing := wanted - {mutant.name for mutant in found}:
        raise refuse(f"--names {', '.join(sorted(missing))}: no such mutant here; the JSON of a run lists them")
    return [mutant for mutant in found if not wanted or mutant.name in wanted]


def _family(mutant: Mutant | Row) -> str:
    if mutant.bug:
        return CATALOGUE
    return CUDA if mutant.name.startswith(in_cuda.FOLDER) else SYSTEMATIC


def _shard(chosen: list[Mutant], text: str) -> list[Mutant]:
    number, _, parts = text.partition("/")
    if not (number.isdigit() and parts.isdigit() and 1 <= int(number) <= int(parts)):
        raise refuse(f"--shard {text}: write it as i/n, as in 1/4")
    return chosen[int(number) - 1 :: int(parts)]


def _line(row: Row, done: int, of: int) -> str:
    how = f"{row.check}/{row.finding}, {row.path} {row.kind}, case {row.cases}" if row.check else row.finding
    return f"{done}/{of} {row.fate} {row.name} ({how}, {row.seconds:.1f} s)"


def _show(console: Console, rows: Sequence[Row]) -> None:
    """A line a class of the catalogue and an operator, and the mutants that live."""
    families = {CATALOGUE: tuple(CLASSES), SYSTEMATIC: tuple(OPERATORS), CUDA: tuple(in_cuda.OPERATORS)}
    for family, classes in families.items():
        if own := [row for row in rows if _family(row) == family]:
            console.print(_table(family, classes, own))
    if cards := on_cards() if any(row.bug for row in rows) else ():
        console.print(f"not tried: {', '.join(cards)}, which need a card", soft_wrap=True, markup=False)
    for row in rows:
        if row.fate in (Fate.SURVIVED, Fate.OPEN, Fate.ELSEWHERE):
            text = f"{row.fate} {row.name}, line {row.line}: {row.before!r} -> {row.after!r}"
            console.print(text, soft_wrap=True, markup=False)


def _table(family: str, classes: Sequence[str], rows: Sequence[Row]) -> Table:
    table = Table(title=f"{family} mutants", title_justify="left", box=None, pad_edge=False)
    fates = [fate.value for fate in Fate]
    for heading in ("class", *fates, "score", "median s", "95 % s", *(["tokens"] if _sizes(rows) else [])):
        table.add_column(heading, justify="left" if heading == "class" else "right", no_wrap=True)
    for each in [*classes, ""]:
        own = [row for row in rows if not each or row.operator == each]
        if own:
            counts = Counter(row.fate.value for row in own)
            times = sorted(row.seconds for row in own if row.fate == Fate.KILLED)
            spread = [f"{times[int(share * (len(times) - 1))]:.1f}" if times else "" for share in (0.5, 0.95)]
            spread += [_range(_sizes(own))] if _sizes(rows) else []
            score = f"{Summary.of(own).score:.1%}"
            table.add_row(each or "all", *(str(counts[fate] or "") for fate in fates), score, *spread)
    return table


def _sizes(rows: Sequence[Row]) -> list[int]:
    """Tokens of the smallest cases, fewest first."""
    return sorted(row.tokens for row in rows if row.tokens is not None)


def _range(sizes: Sequence[int]) -> str:
    """Median and most."""
    return f"{sizes[len(sizes) // 2]}, ≤ {sizes[-1]}" if sizes else ""
