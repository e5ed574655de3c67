"""A case that fails only behind another of its process: the other is found, both are made simple, and localised."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path as File

import pytest
from typer.testing import CliRunner

from gdn_verify.autopsy import autopsy
from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.codec import CaseFile, dumps, load, loads, save
from gdn_verify.cases.contract import DType, DTypes, Geometry
from gdn_verify.cases.presentation import Presentation
from gdn_verify.cli import app
from gdn_verify.earlier import Behind, Seeking
from gdn_verify.facts import measure
from gdn_verify.localise_command import Locating
from gdn_verify.located import Found
from gdn_verify.mutants import planter_of
from gdn_verify.mutants.known import known
from gdn_verify.mutants.record import Row as Record
from gdn_verify.mutants.trial import Fate

NAME = "dtype_of_the_first_launch"
PLANT = planter_of(NAME)
CASE = Case(Geometry(1, 2, 4, 4, W=2), DTypes(activation=DType.F16), 1, (Batch((Row(2, (0,)),)),))
FILE = dumps(CaseFile(CASE, Presentation()))


def sought(plant: str | None, target: str = "") -> list[Behind]:
    found, absent = measure([Seeking("fallback", "cpu", FILE, target, plant, seconds=6.0)])
    assert not absent
    return found


def located(file: str) -> list[Found | str]:
    found, absent = measure([Locating("fallback", "cpu", file, PLANT)])
    assert not absent
    return found


def test_the_case_before_is_found_and_both_are_made_simple() -> None:
    """A launch of another type: behind it the case fails, and its stage is told; alone it does not."""
    assert not located(FILE)
    (found,) = sought(PLANT)
    assert found.feature == "type of activation"
    least = loads(found.file)
    (before,) = least.before
    assert least.case.batches[0].tokens <= CASE.batches[0].tokens
    assert replace(before.case, dtypes=least.case.dtypes) == least.case
    assert {least.case.dtypes.activation, before.case.dtypes.activation} == {DType.F16, DType.BF16}
    (seen,) = located(found.file)
    assert not isinstance(seen, str)
    assert seen.stage == "unpack"


def test_of_a_right_path_nothing_is_found() -> None:
    """Whatever was launched before."""
    assert not sought(None)


@pytest.mark.slow
def test_an_autopsy_goes_on_with_both() -> None:
    """Where the case does not show the finding by itself."""
    mutant = next(each for each in known() if each.name == NAME)
    (found,) = sought(PLANT)
    check, _, finding = found.target.partition("/")
    row = Record(
        fate=Fate.KILLED, check=check, finding=finding, path="fallback", host="cpu", kind="prefill", case=FILE,
        name=NAME, operator=mutant.operator, line=0, before=mutant.before, after=mutant.after,
    )  # fmt: skip
    told = autopsy(mutant, row, "unpack", 20.0)
    assert (told.stage, 0 < told.tokens <= 2, told.lines) == ("unpack", True, 0)
    assert "type of activation bfloat16" in told.behind


@pytest.mark.slow
def test_the_command_seeks_it_where_it_is_asked_to(tmp_path: File) -> None:
    """Of a case that agrees by itself it says how; the pair is kept, and `localise` takes it up."""
    save(tmp_path / "case.json", CaseFile(CASE, notes="from a gate"))
    words = ["shrink", str(tmp_path / "case.json"), "--path", "fallback", "--plant", NAME]
    alone = CliRunner().invoke(app, words)
    assert (alone.exit_code, "--earlier 60" in " ".join(alone.output.split())) == (2, True), alone.output
    told = CliRunner().invoke(app, [*words, "--earlier", "6"])
    assert told.exit_code == 0, told.output
    assert "behind a launch of the same process with type of activation bfloat16" in told.output
    small = load(tmp_path / "case.small.json")
    assert (len(small.before), small.notes) == (1, "from a gate")
    where = ["localise", str(tmp_path / "case.small.json"), "--path", "fallback", "--plant", NAME]
    assert "stage: unpack" in CliRunner().invoke(app, where).output
