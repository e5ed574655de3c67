"""A mutant's failure is made simple, localised and written as a script, which tells right kernels from wrong ones."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path as File

import pytest
from test_compare import CASE
from typer.testing import CliRunner

from gdn_verify.autopsy import ALIVE, FIXED, Autopsy, _reproduced, autopsy, shows
from gdn_verify.autopsy_command import _scripts
from gdn_verify.cases.case import Batch, Case
from gdn_verify.cases.case import Row as CaseRow
from gdn_verify.cases.codec import CaseFile, dumps, loads
from gdn_verify.cases.contract import DTypes, Geometry, Kind
from gdn_verify.cli import app
from gdn_verify.mutants.known import Known, known
from gdn_verify.mutants.record import Row, save
from gdn_verify.mutants.slipped import plant_of
from gdn_verify.mutants.systematic import Slip, mutants
from gdn_verify.mutants.trial import Fate, Mutant
from gdn_verify.service import Job
from gdn_verify.suspect import Suspect

FORGOTTEN = next(mutant for mutant in known() if mutant.name == "decay_forgotten")
SECONDS = 3.0


def slip(file: str, before: str) -> Slip:
    return next(mutant for mutant in mutants([file]) if mutant.before == before)


def killed(mutant: Mutant, path: str = "fallback", finding: str = "", **fields: str) -> Row:
    """A campaign's row of a mutant, by a finding that the case shows."""
    if not finding:
        plant = plant_of(mutant) if isinstance(mutant, Slip) else mutant.plant
        with Suspect(Job(path, "cpu", Kind.MIXED, plant=plant)) as suspect:
            (finding, *_) = suspect.shown((CASE.case, CASE.presentation))
    check, _, kind = finding.partition("/")
    told = {"check": check, "finding": kind, "path": path, "host": "cpu", "kind": "mixed", "case": dumps(CASE)}
    return Row(
        name=mutant.name, operator=mutant.operator, line=mutant.first, before=mutant.before, after=mutant.after,
        fate=Fate.KILLED, **{**told, **fields},
    )  # fmt: skip


def test_a_function_around_a_path_has_no_wrong_kernels_to_run() -> None:
    """Its case is made simple and localised, and the script is tried on right ones."""
    found = autopsy(FORGOTTEN, killed(FORGOTTEN), "delta", SECONDS)
    assert found.trouble == ""
    assert (found.stage, found.expected) == ("delta", "delta")
    assert found.tokens < CASE.case.batches[0].tokens
    assert (found.wrong, found.right) == (None, FIXED)
    assert 0 < found.lines < 80


def test_a_slip_of_source_is_run_by_its_script() -> None:
    """The kernels' own folder, with the slip in it, exits with 1."""
    mutant = slip("delta.py", "h * decay")
    found = autopsy(mutant, killed(mutant), seconds=SECONDS)
    assert (found.wrong, found.right, found.trouble) == (ALIVE, FIXED, "")


def test_a_finding_that_the_case_alone_does_not_show_is_told() -> None:
    """As one that is pooled over a run, or that another check came before."""
    found = autopsy(FORGOTTEN, killed(FORGOTTEN, finding="bias/slope"), seconds=SECONDS)
    assert "does not show" in found.trouble
    assert (found.tokens, found.lines) == (0, 0)


def test_slips_are_not_planted_in_builders() -> None:
    """Which make tables and have no launches."""
    mutant = mutants(["tables.py"])[0]
    found = autopsy(mutant, killed(mutant, "tables", "tables/wrong"), seconds=SECONDS)
    assert "table builder" in found.trouble


def test_no_slip_is_called_so() -> None:
    """Names without colons are of other modules."""
    from gdn_verify.mutants import slipped

    with pytest.raises(AttributeError, match="no systematic mutant"):
        _ = slipped.nothing


@pytest.mark.slow
def test_the_command_goes_on_from_its_file(tmp_path: File) -> None:
    """And takes up only what is of the same case; it sums up sizes, stages and scripts."""
    assert isinstance(FORGOTTEN, Known)
    save(tmp_path / "rows.json", [killed(FORGOTTEN)])
    words = ["autopsy", str(tmp_path / "rows.json"), "--json", str(tmp_path / "out.json"), "--seconds", "2"]
    first = CliRunner().invoke(app, words)
    assert first.exit_code == 0, first.output
    assert "the right stage is named for 1 of 1" in first.output
    assert "on right kernels 1 of 1 exit with 0" in first.output
    assert "1 of 1 made simple" in first.output
    assert "decay_forgotten" not in CliRunner().invoke(app, words).output
    (told,) = json.loads((tmp_path / "out.json").read_text())
    stale = replace(Autopsy(**{**told, "geometry": tuple(told["geometry"])}), case="{}")
    (tmp_path / "out.json").write_text(json.dumps([vars(stale)]))
    assert "decay_forgotten" in CliRunner().invoke(app, words).output
    assert loads(told["file"]).case.batches[0].tokens == told["tokens"]


def test_what_shows_in_no_value_is_told_apart() -> None:
    """A race, or what a captured graph froze: its script is no failure of the script."""
    shown = Autopsy("shown", "values/o", lines=50, wrong=ALIVE, right=FIXED)
    silent = replace(shown, name="silent", finding="memory/race", silent=True, wrong=FIXED)
    assert [*_scripts([shown, silent])][1:] == [
        "on right kernels 2 of 2 exit with 0",
        "on wrong ones 1 of 1 with 1",
        "1 show in no value of a launch, so in no script: silent",
    ]
    missed = replace(shown, name="missed", wrong=FIXED)
    assert "on wrong ones 1 of 2 with 1; not: missed" in [*_scripts([shown, missed])]


def test_rows_that_are_not_there_are_refused(tmp_path: File) -> None:
    """With the command that writes them."""
    ended = CliRunner().invoke(app, ["autopsy", str(tmp_path / "rows.json")])
    assert (ended.exit_code, "gdn-verify mutants --json" in ended.output) == (2, True)


def test_a_launch_that_kills_its_process_is_looked_at_carefully() -> None:
    """The worker dies of stores that go anywhere; the next one checks each access before it is made."""
    pytest.importorskip("triton")
    name = "triton/intra_kernel.py::gdn_intra_kernel::sign::27"
    (wild,) = (mutant for mutant in mutants(["triton/intra_kernel.py"]) if mutant.name == name)
    case = Case(Geometry(1, 1, 1, 1, W=2), DTypes(), 1, (Batch((CaseRow(1, (0,)),)),))
    found = Autopsy(name, "memory/write out of bounds: w_out", file=dumps(CaseFile(case)))
    row = killed(wild, "chunk-delta", found.finding, host="interpreter", kind="prefill")
    found = _reproduced(found, wild, row, plant_of(wild), sys.executable)
    assert not found.trouble
    assert found.right == FIXED
    assert shows(found.wrong)
