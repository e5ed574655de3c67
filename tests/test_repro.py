"""A repro runs where this suite is not: it exits with 0 on right kernels, and with 1 on ones with a bug."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path as File

import pytest
import torch
from typer.testing import CliRunner

import gdn_verify
from gdn_verify.autopsy import ALIVE, FIXED, status
from gdn_verify.calls import NoEntryError, recorded
from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.catalogue import catalogue
from gdn_verify.cases.codec import CaseFile, dumps, save
from gdn_verify.cases.contract import DType, DTypes, Geometry, Kind
from gdn_verify.cases.presentation import Presentation
from gdn_verify.cases.shapes import drawn_cases
from gdn_verify.cases.sizes import TINY
from gdn_verify.cases.strategies import Fed, cases
from gdn_verify.cli import app
from gdn_verify.facts import measure
from gdn_verify.hosts import HOSTS
from gdn_verify.literals import number, tensor
from gdn_verify.located import Localised, Raised, Touched
from gdn_verify.mutants import planter_of
from gdn_verify.mutants.catalogued import EDITS as MUTANT_EDITS
from gdn_verify.mutants.catalogued import changes
from gdn_verify.mutants.sources import changed
from gdn_verify.paths import find
from gdn_verify.paths.base import Path
from gdn_verify.repro import repro
from gdn_verify.repro_command import Reproduced, Reproducing
from gdn_verify.repro_text import RAW

SOURCES = File(gdn_verify.__file__).parent / "kernels"
EDITS = {
    "no decay": ("delta.py", "h = h * decay", "h = h + 0"),
    "β left out": ("delta.py", "for x in (g.exp(), beta, v))", "for x in (g.exp(), beta**0, v))"),
}
"""Bugs of the fallback, each by its file and an edit."""


def drawn(path: Path, kind: Kind, count: int, fresh: bool = False) -> list[Fed]:
    """Cases that the path takes, without bfloat16, of which Triton's own interpreter makes other numbers.

    With a row that begins a sequence, where they are asked to.
    """
    found = islice(drawn_cases(cases(path.capabilities, path.conventions, kind, size=TINY), 11), 40 * count)
    taken = (fed for fed, _ in found if not path.refuses(*fed) and not _narrow(fed[0].dtypes))
    return [*islice((fed for fed in taken if not fresh or _begins(fed)), count)]


def _begins(fed: Fed) -> bool:
    return any(row.fresh and row.tokens > 1 for row in fed[0].batches[0].rows)


def _narrow(dtypes: DTypes) -> bool:
    return DType.BF16 in vars(dtypes).values()


@pytest.fixture
def alone(tmp_path: File) -> File:
    """A package of nothing but kernels, as an engine could have it."""
    home = tmp_path / "alone" / "gdn_verify"
    shutil.copytree(SOURCES, home / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    (home / "__init__.py").write_text('__version__ = "0"\n')
    return home.parent


def run(script: str, home: File) -> subprocess.CompletedProcess[str]:
    file = home / "repro.py"
    file.write_text(script)
    environment = {**os.environ, "PYTHONPATH": str(home)}
    return subprocess.run(
        [sys.executable, str(file)], env=environment, cwd=home, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("kind", [Kind.DECODE, Kind.PREFILL, Kind.SPEC, Kind.MIXED])
def test_right_kernels_are_right_without_the_suite(kind: Kind, alone: File) -> None:
    """Whatever the layout, the padding and the drafts."""
    path = find("fallback")
    for fed in drawn(path, kind, 2):
        ended = run(repro(*fed, path, HOSTS["cpu"], 0, "a title"), alone)
        assert (ended.returncode, ended.stdout) == (0, "right\n"), ended.stdout + ended.stderr


@pytest.mark.parametrize("bug", [pytest.param("no decay", marks=pytest.mark.slow), "β left out"])
def test_a_bug_makes_it_exit_with_one(bug: str, alone: File) -> None:
    """Telling what is expected and what it got."""
    file, right, wrong = EDITS[bug]
    source = alone / "gdn_verify" / "kernels" / file
    text = source.read_text()
    assert text.count(right) == 1
    source.write_text(text.replace(right, wrong))
    path = find("fallback")
    ended = [run(repro(*fed, path, HOSTS["cpu"], 0, bug), alone) for fed in drawn(path, Kind.DECODE, 4)]
    shown = [each for each in ended if each.returncode == 1]
    assert shown
    assert all("expected" in each.stdout and ", got" in each.stdout for each in shown)


@pytest.mark.parametrize("name", ["fresh_rows_read_their_slot"])
def test_catalogued_bugs_of_triton_kernels_are_reproduced(name: str, alone: File) -> None:
    """In Triton's own interpreter, and the same scripts are right with the right kernels."""
    mutant = next(m for bug in catalogue() for m in bug.mutants if m.name == name)
    path = find(mutant.path)
    files = [dumps(CaseFile(*fed)) for fed in drawn(path, Kind.PREFILL, 2, fresh=True)]
    made, absent = measure([Reproducing(path.name, "interpreter", file) for file in files])
    assert not absent, absent
    scripts = [each.script for each in made if isinstance(each, Reproduced)]
    assert len(scripts) == len(files)
    assert [run(script, alone).returncode for script in scripts] == [0] * len(scripts)
    for edit in mutant.edits:
        source = alone / "gdn_verify" / "kernels" / edit.file
        source.write_text(source.read_text().replace(edit.right, edit.wrong))
    ended = [run(script, alone) for script in scripts]
    assert any(each.returncode == 1 and "expected" in each.stdout for each in ended)


def test_a_decode_is_reproduced_in_under_sixty_lines(tmp_path: File) -> None:
    """Of a third party's kernel, and it needs that party's package alone."""
    pytest.importorskip("fla")
    path = find("fla-recurrent")
    fed = drawn(path, Kind.DECODE, 1)[0]
    made, _ = measure([Reproducing(path.name, "interpreter", dumps(CaseFile(*fed)))])
    (found,) = made
    assert isinstance(found, Reproduced)
    assert sum(bool(line.strip()) for line in found.script.splitlines()) < 60
    assert "gdn_verify" not in found.script
    (tmp_path / "nothing").mkdir()
    ended = run(found.script, tmp_path / "nothing")
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_bfloat16_of_the_interpreter_needs_a_card(alone: File) -> None:
    """Triton's own makes other numbers of it: a right kernel would be accused. Without a card the script cannot run."""
    dtypes = DTypes(activation=DType.BF16)
    case = Case(Geometry(1, 1, 1, 1), dtypes, 1, (Batch((Row(17, (0,)),)),))
    made, _ = measure([Reproducing("chunk-delta", "interpreter", dumps(CaseFile(case, Presentation())))])
    (found,) = made
    assert isinstance(found, Reproduced)
    assert "and a card: Triton's own interpreter" in found.script
    assert run(found.script, alone).returncode == (0 if torch.cuda.is_available() else 2)


@pytest.mark.parametrize(("path", "host"), [("fused-decode", "interpreter"), ("fallback", "cpu")])
def test_a_decode_of_a_whole_layer_too(path: str, host: str, alone: File) -> None:
    """Once it is shrunk; what a call is given is not written down again for the oracle."""
    case = Case(Geometry(1, 2, 2, 4), DTypes(), 1, (Batch((Row(1, (0,)),)),))
    made, _ = measure([Reproducing(path, host, dumps(CaseFile(case, Presentation())))])
    (found,) = made
    assert isinstance(found, Reproduced)
    assert sum(bool(line.strip()) for line in found.script.splitlines()) < 60
    assert run(found.script, alone).returncode == 0


def test_the_command_writes_a_script_and_an_issue(tmp_path: File) -> None:
    """To the files that are named."""
    save(tmp_path / "case.json", CaseFile(*drawn(find("fallback"), Kind.DECODE, 1)[0]))
    script, text = tmp_path / "repro.py", tmp_path / "issue.md"
    words = ["repro", str(tmp_path / "case.json"), "--path", "fallback", "-o", str(script), "--issue", str(text)]
    words += ["--explain", "2"]
    ended = CliRunner().invoke(app, words)
    assert ended.exit_code == 0, ended.output
    assert script.read_text().startswith('"""fallback:')
    assert "nothing is wrong with the launch here" in " ".join(ended.output.split())
    assert f"torch {torch.__version__}" in text.read_text()
    assert script.read_text() in text.read_text()
    nowhere = CliRunner().invoke(app, [*words[:4], "-o", str(tmp_path / "no" / "repro.py")])
    assert (nowhere.exit_code, "a folder that exists" in nowhere.output) == (2, True)


@pytest.mark.parametrize(("path", "words"), [("tables", "builds tables"), ("transformers-chunk", "names no entries")])
def test_what_cannot_be_reproduced_is_refused(path: str, words: str, tmp_path: File) -> None:
    """With the reason."""
    save(tmp_path / "case.json", CaseFile(*drawn(find("transformers-chunk"), Kind.DECODE, 1)[0]))
    ended = CliRunner().invoke(app, ["repro", str(tmp_path / "case.json"), "--path", path])
    assert ended.exit_code == 2
    assert words in ended.output


def test_a_launch_without_live_rows_is_reproduced(alone: File) -> None:
    """What must not change is all that there is to look at."""
    path = find("fallback")
    case = Case(Geometry(1, 2, 4, 4, num_spec=2), DTypes(), 2, (Batch((Row(0, (0,)), Row(2, (None,)))),))
    script = repro(case, Presentation(), path, HOSTS["cpu"], 0, "nobody")
    assert run(script, alone).returncode == 0
    source = alone / "gdn_verify" / "kernels" / "fallback.py"
    source.write_text(source.read_text() + "\n\ndef gated_delta_net(*given, **named):\n    given[6][1] = 1.0\n")
    ended = run(script, alone)
    assert (ended.returncode, "ssm_pool, slots of nobody" in ended.stdout) == (1, True), ended.stderr


def test_columns_behind_the_windows_are_looked_at(alone: File) -> None:
    """A conv slot is longer where a row may draft, and a plain row leaves the rest alone."""
    path = find("fallback")
    case = Case(Geometry(1, 2, 4, 4, num_spec=2), DTypes(), 1, (Batch((Row(1, (0,)),)),))
    script = repro(case, Presentation(), path, HOSTS["cpu"], 0, "behind")
    assert run(script, alone).returncode == 0
    wrong = script.replace("result0 = ", "conv_pool[0, :, 3:] = 7.0\nresult0 = ")
    assert run(wrong, alone).returncode == 1


def test_what_cannot_run_is_neither_right_nor_wrong(alone: File) -> None:
    """A script that breaks off says so by a status of its own."""
    case = Case(Geometry(1, 2, 4, 4), DTypes(), 1, (Batch((Row(1, (0,)),)),))
    script = repro(case, Presentation(), find("fallback"), HOSTS["cpu"], 0, "broken")
    (alone / "gdn_verify" / "kernels" / "rows.py").write_text("raise RuntimeError('no such card')\n")
    ended = run(script, alone)
    assert (ended.returncode, "no such card" in ended.stderr) == (2, True)


def test_the_alignment_of_operands_is_kept() -> None:
    """Kernels are compiled for it."""
    path = find("fallback")
    case = Case(Geometry(1, 2, 4, 4), DTypes(), 1, (Batch((Row(3, (0,)),)),))
    script = repro(case, Presentation(misalign=1), path, HOSTS["cpu"], 0, "odd")
    assert ", 1)" in next(line for line in script.splitlines() if line.startswith("conv_pool = put("))


def test_a_path_that_calls_nothing_by_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its function was looked up before."""
    path = find("fallback")
    monkeypatch.setattr(path, "entries", ("gdn_verify.kernels.fallback:gated_delta_net_packed",))
    case = Case(Geometry(1, 2, 4, 4), DTypes(), 1, (Batch((Row(1, (0,)),)),))
    with pytest.raises(NoEntryError, match="look them up when it runs"):
        repro(case, Presentation(), path, HOSTS["cpu"], 0, "none")


def test_a_path_without_entries_has_no_calls() -> None:
    """It is said, and nothing is recorded."""
    with pytest.raises(NoEntryError, match="names no entries"), recorded(()):
        pass


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_numbers_are_the_shortest_that_are_exact(dtype: torch.dtype) -> None:
    """In the type that they are of."""
    for value in torch.randn(200, generator=torch.Generator().manual_seed(3)).to(dtype).tolist():
        text = number(value, dtype)
        assert float(torch.tensor(float(text), dtype=dtype)) == value
    assert [number(x, dtype) for x in (0.0, 1.0, -0.5, float("nan"), float("-inf"))] == [
        "0.",
        "1.",
        "-0.5",
        "nan",
        "-inf",
    ]


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 4), (9, 9)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int32, torch.bool])
def test_tensors_are_written_bit_for_bit(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Short ones as lists, long ones packed, constant ones as such."""
    prelude: dict[str, object] = {"torch": torch, "base64": base64, "nan": float("nan")}
    exec(RAW, prelude)
    values = (torch.randn(shape, generator=torch.Generator().manual_seed(5)) * 9).to(dtype)
    for each in (values, torch.zeros_like(values)):
        made = eval(tensor(each), prelude)
        assert (made.dtype, made.shape) == (each.dtype, each.shape)
        assert torch.equal(made, each)


STEP = Case(Geometry(1, 2, 2, 2, W=2), DTypes(), 1, (Batch((Row(1, (0,)),)),))


def of_a_case(case: Case, path: str, host: str, plant: str | None = None) -> Reproduced:
    (made,), absent = measure([Reproducing(path, host, dumps(CaseFile(case)), plant)])
    assert not absent
    assert isinstance(made, Reproduced)
    return made


def test_what_a_path_raises_is_shown_by_its_script() -> None:
    """It exits with 1 where the calls raise, and with 0 where they do not, and are right."""
    made = of_a_case(STEP, "fallback", "cpu", planter_of("squeezed_launch_of_one_token"))
    assert isinstance(made.found, Raised)
    assert status(made.script, {}) == FIXED
    conv = (SOURCES / "conv.py").read_text()
    broken = conv.replace("    y = ", "    raise RuntimeError('no conv')\n    y = ", 1)
    assert broken != conv
    assert status(made.script, {"conv.py": broken}) == ALIVE


def test_a_read_of_scratch_that_nobody_wrote_is_shown_by_its_script() -> None:
    """New memory holds NaN in it, which right kernels do not mind."""
    pytest.importorskip("triton")
    name = "upper_half_of_b_not_stored"
    made = of_a_case(STEP, "chunk-delta", "interpreter", planter_of(name))
    assert isinstance(made.found, Touched)
    assert sum(bool(line.strip()) for line in made.script.splitlines()) <= 60
    assert status(made.script, {}) == FIXED
    assert status(made.script, changed(*changes(MUTANT_EDITS[name]))) == ALIVE


def test_a_launch_without_tokens_has_a_script() -> None:
    """Its tensors have no elements, whose strides say nothing."""
    made = of_a_case(replace(STEP, batches=(Batch((Row(0, (0,)),)),)), "fallback", "cpu")
    assert made.found is None
    assert status(made.script, {}) == FIXED


def test_a_read_around_a_tensor_is_shown_by_its_script() -> None:
    """It lays NaN there, as the arena does; the values alone are right where memory happens to hold zeros."""
    pytest.importorskip("triton")
    name, case = "one_row_is_never_short", replace(STEP, batches=(Batch((Row(1, (0,), fresh=True),)),))
    made = of_a_case(case, "chunk-delta", "interpreter", planter_of(name))
    assert isinstance(made.found, Localised)
    assert sum(bool(line.strip()) for line in made.script.splitlines()) <= 60
    assert status(made.script, {}) == FIXED
    assert status(made.script, changed(*changes(MUTANT_EDITS[name]))) == ALIVE


def test_a_store_around_a_tensor_is_shown_by_its_script() -> None:
    """Where nothing of the launch's own is wrong."""
    made = of_a_case(STEP, "fallback", "cpu", planter_of("byte_past_the_end"))
    assert isinstance(made.found, Touched)
    assert sum(bool(line.strip()) for line in made.script.splitlines()) <= 64
    assert status(made.script, {}) == FIXED
    text = (SOURCES / "fallback.py").read_text()
    right = "    return deliver(o if z is None else _norm(o, z, layer, rows), output, conv.dtype)"
    assert right in text
    past = "    output.as_strided((1,), (1,), output.storage_offset() + output.numel()).zero_()\n"
    assert status(made.script, {"fallback.py": text.replace(right, past + right)}) == ALIVE
