"""`gdn-verify catchers`: which bugs does each check see, and which does it alone?"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path as File
from typing import Annotated

import typer
from rich.console import Console

from gdn_verify.catchers import alone, checks_of
from gdn_verify.mutants.known import known
from gdn_verify.report.terminal import wide
from gdn_verify.words import words_of

NOBODY = 1
"""Exit status where some mutant is seen by no check."""


def catchers(
    names: Annotated[str, typer.Option(help="Mutants of the catalogue; all that need no card by default.")] = "",
    cases: Annotated[
        int, typer.Option(help="Cases of each of a mutant's kinds, half as many of a variant.", min=1)
    ] = 30,
    workers: Annotated[int, typer.Option(help="Worker processes; 0 for one a core.", min=0)] = 0,
    output: Annotated[
        File | None, typer.Option("--json", help="Write the checks of each here, and go on from those there.")
    ] = None,
) -> None:
    """Run every mutant of the catalogue under all checks, and tell which see it; exit 1 if none sees some."""
    mutants = {mutant.name: mutant for mutant in known()}
    chosen, console = words_of(names, mutants, "mutant"), wide()
    begun = json.loads(output.read_text(encoding="utf-8")) if output and output.exists() else {}
    found: dict[str, list[str]] = {name: checks for name, checks in begun.items() if name in mutants}
    for name in chosen:
        if name not in found:
            found[name] = [*checks_of(mutants[name], cases, workers or None)]
            console.print(f"{name}: {', '.join(found[name]) or 'nothing'}", soft_wrap=True, highlight=False)
            if output:
                output.write_text(json.dumps(found, indent=1), encoding="utf-8")
    _show({name: found[name] for name in chosen}, console)
    if not all(found[name] for name in chosen):
        raise typer.Exit(NOBODY)


def _show(found: dict[str, list[str]], console: Console) -> None:
    only = alone(found)
    for check, count in sorted(Counter(check for checks in found.values() for check in checks).items()):
        lone = f"; alone: {', '.join(only[check])}" if check in only else ""
        console.print(f"{check} sees {count} of {len(found)}{lone}", soft_wrap=True, highlight=False)
