"""Two versions of one implementation: the same bits are told as such, and one bit of a constant is found."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path as File

import pytest
from typer.testing import CliRunner

import gdn_verify
from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.codec import CaseFile, save
from gdn_verify.cases.contract import DTypes, Geometry
from gdn_verify.cases.presentation import Presentation
from gdn_verify.cases.values import Fill, Gates, States, Values, Vectors
from gdn_verify.cli import app
from gdn_verify.compare import Install, NotLoadedError, compare

SOURCES = File(gdn_verify.__file__).parent / "kernels"
VALUES = Values(7, Vectors.NORMAL, Vectors.TINY, Fill.NORMAL, Gates.NORMAL, state=States.NORMAL)
CASE = CaseFile(
    Case(Geometry(2, 4, 16, 16), DTypes(), 2, (Batch((Row(1, (1,)), Row(5, (0,)))),), VALUES), Presentation()
)
"""Keys so short that the ε of their norm tells, in float32."""
HERE = Install("here")
EPS = "QK_NORM_EPS = 1e-6"
NEXT = "QK_NORM_EPS = 1.0000001e-6"
"""The next number of float32."""


def tree(folder: File, right: str = "", wrong: str = "") -> File:
    """A source tree of kernels with an edit of one line."""
    home = folder / "gdn_verify" / "kernels"
    shutil.copytree(SOURCES, home, ignore=shutil.ignore_patterns("__pycache__"))
    if right:
        (file,) = (file for file in home.rglob("*.py") if right in file.read_text())
        file.write_text(file.read_text().replace(right, wrong))
    return folder


def test_another_tree_with_the_same_code_is_a_no_op(tmp_path: File) -> None:
    """Whatever its comments; both are timed."""
    other = tree(tmp_path / "other", EPS, f"{EPS}  # as ever")
    found = compare("fallback", "cpu", (HERE, Install("other", folders=(str(other),))), [CASE, CASE])
    assert [case.same for case in found.cases] == [True, True]
    assert found.moved == []
    assert 0.1 < found.speed < 10.0


def test_one_bit_of_a_constant_is_found(tmp_path: File) -> None:
    """In noise units it is next to nothing, and the case says where."""
    other = tree(tmp_path / "other", EPS, NEXT)
    (case,) = compare("fallback", "cpu", (HERE, Install("other", folders=(str(other),))), [CASE]).cases
    assert not case.same
    assert 0.0 < case.ratio < 1.0
    assert case.result in ("out", "h")


def test_a_case_that_a_version_cannot_run_has_moved(tmp_path: File) -> None:
    """What it raised is told."""
    other = tree(tmp_path / "other", EPS, f"{EPS}\n1 / 0")
    with pytest.raises(NotLoadedError, match=r"(?s)other: .*ZeroDivisionError"):
        compare("fallback", "cpu", (HERE, Install("other", folders=(str(other),))), [CASE])
    raises = tree(tmp_path / "raises", "    h = h * decay\n", "    raise RuntimeError('no more')\n")
    (case,) = compare("fallback", "cpu", (HERE, Install("raises", folders=(str(raises),))), [CASE]).cases
    assert (case.same, case.trouble) == (False, "RuntimeError: no more")


def test_what_both_refuse_is_the_same() -> None:
    """And counts among the cases that did not run: a path of decode rows takes no longer ones."""
    (case,) = compare("fused-decode", "interpreter", (HERE, HERE), [CASE]).cases
    assert case.same
    assert case.trouble.startswith("refused: ")


def test_the_command_exits_with_one_where_bits_moved(tmp_path: File) -> None:
    """Unless they moved within what is allowed."""
    save(tmp_path / "case.json", CASE)
    other = tree(tmp_path / "other", EPS, NEXT)
    words = [
        "compare",
        "here",
        str(other),
        "--path",
        "fallback",
        "--host",
        "cpu",
        "--case",
        str(tmp_path / "case.json"),
    ]
    moved = CliRunner().invoke(app, words)
    assert (moved.exit_code, "0 bit for bit the same, 1 moved" in moved.output) == (1, True), moved.output
    assert CliRunner().invoke(app, [*words, "--within", "1"]).exit_code == 0


def test_a_revision_of_a_repository_is_a_version(tmp_path: File) -> None:
    """Its tree is unpacked for the run."""
    repository = tree(tmp_path / "repository")
    for words in (["init", "-q"], ["add", "-A"], ["-c", "user.name=n", "-c", "user.email=e", "commit", "-qm", "m"]):
        subprocess.run(["git", "-C", str(repository), *words], check=True)
    save(tmp_path / "case.json", CASE)
    words = ["compare", f"{repository}@HEAD", "here", "--path", "fallback", "--case", str(tmp_path / "case.json")]
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, "1 bit for bit the same" in done.output) == (0, True), done.output


@pytest.mark.parametrize("word", ["nowhere", "nowhere@HEAD"])
def test_what_is_no_version_is_refused(word: str) -> None:
    """With what would be one."""
    done = CliRunner().invoke(app, ["compare", "here", word, "--path", "fallback"])
    assert done.exit_code == 2
