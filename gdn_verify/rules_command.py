"""`gdn-verify rules`: what would published tests of Gated DeltaNet kernels let through?"""

from __future__ import annotations

import json
from pathlib import Path as File
from typing import Annotated

import typer

from gdn_verify.facts import measure
from gdn_verify.mutants import peers
from gdn_verify.mutants.rules import RULES
from gdn_verify.report import rules as report
from gdn_verify.report.terminal import wide
from gdn_verify.words import refuse, words_of


def rules(
    names: Annotated[str, typer.Option(help="Rules, separated by commas; all by default.")] = "",
    mutants: Annotated[str, typer.Option(help="Mutants, separated by commas; all by default.")] = "",
    workers: Annotated[int, typer.Option(help="Worker processes; 0 for one a core.", min=0)] = 0,
    json_file: Annotated[File | None, typer.Option("--json", help="Write the report to this file as JSON.")] = None,
) -> None:
    """Run published tests' launches and comparisons over the mutants of this project's code, and count what passes."""
    chosen, planted = words_of(names, RULES, "rule"), words_of(mutants, peers.known(), "mutant")
    console = wide()

    def tell(question: object) -> None:
        assert isinstance(question, peers.RulesOf)
        console.print(f"{question.path} on {question.host}: {len(question.mutants)} mutants", highlight=False)

    found, absent = measure(peers.questions(planted, chosen), workers=workers or None, progress=tell)
    report.show(found, absent, console)
    if json_file:
        json_file.write_text(json.dumps(report.as_json(found, absent), indent=1) + "\n", encoding="utf-8")
    if not found:
        raise refuse("nothing was measured; see `gdn-verify paths`")
