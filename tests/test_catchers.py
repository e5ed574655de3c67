"""Each mutant of the catalogue under all checks: who sees it, and who alone."""

from __future__ import annotations

import json
from pathlib import Path as File

from typer.testing import CliRunner

from gdn_verify.catchers import alone, checks_of
from gdn_verify.cli import app
from gdn_verify.mutants.known import known

MUTANTS = {mutant.name: mutant for mutant in known()}


def test_all_checks_that_see_a_mutant_are_named() -> None:
    """A forgotten decay shows in values and breaks laws."""
    assert set(checks_of(MUTANTS["decay_forgotten"], 6)) == {"values", "laws"}


def test_what_one_check_alone_sees() -> None:
    """By that check; what two see, or nobody, is nobody's alone."""
    found = {"a": ["values"], "b": ["laws", "values"], "c": [], "d": ["values"], "e": ["laws"]}
    assert alone(found) == {"values": ["a", "d"], "laws": ["e"]}


def test_the_command_goes_on_from_its_file(tmp_path: File) -> None:
    """And sums up; a mutant that nobody sees is an exit status of 1."""
    file = tmp_path / "found.json"
    file.write_text(json.dumps({"decay_forgotten": ["laws", "values"], "tiled_heads": ["values"]}))
    words = ["catchers", "--names", "decay_forgotten,tiled_heads", "--json", str(file)]
    ended = CliRunner().invoke(app, words)
    assert ended.exit_code == 0, ended.output
    assert "values sees 2 of 2; alone: tiled_heads" in ended.output
    file.write_text(json.dumps({"decay_forgotten": [], "tiled_heads": ["values"]}))
    assert CliRunner().invoke(app, words).exit_code == 1
