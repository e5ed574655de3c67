"""The commit that moved a kernel's results is found in a history, past commits that cannot be imported."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path as File

import pytest
from test_compare import CASE, EPS, NEXT, tree
from typer.testing import CliRunner

from gdn_verify.bisect import ABORT, BAD, GOOD, SKIP, BisectError, Question, bisect, main
from gdn_verify.cases.codec import dumps, save
from gdn_verify.cli import app

QUESTION = Question("fallback", "cpu", (dumps(CASE),))


def git(repository: File, *words: str) -> str:
    named = ["-c", "user.name=n", "-c", "user.email=e"]
    return subprocess.run(
        ["git", "-C", str(repository), *named, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


def commit(repository: File, message: str, right: str = "", wrong: str = "") -> str:
    """An edit of one line as a commit; without one, an empty commit."""
    home = repository / "gdn_verify" / "kernels"
    if right:
        (file,) = (file for file in home.rglob("*.py") if right in file.read_text())
        file.write_text(file.read_text().replace(right, wrong))
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "--allow-empty", "-m", message)
    return git(repository, "rev-parse", "HEAD")


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Five commits: the first, a refactor, one that does not import, one that moves a bit, and its successor."""
    repository = tree(tmp_path_factory.mktemp("past") / "repository")
    git(repository, "init", "-q")
    return {
        "repository": str(repository),
        "first": commit(repository, "first"),
        "refactor": commit(repository, "refactor", EPS, f"{EPS}  # as ever"),
        "broken": commit(repository, "broken", f"{EPS}  # as ever", f"{EPS}; 1 / 0"),
        "mended": commit(repository, "mended", f"{EPS}; 1 / 0", EPS),
        "moved": commit(repository, "move a bit", EPS, NEXT),
        "last": commit(repository, "last"),
    }


@pytest.fixture
def history(past: dict[str, str], tmp_path: File) -> dict[str, str]:
    """A copy of that repository, to be changed."""
    repository = tmp_path / "repository"
    shutil.copytree(past["repository"], repository, symlinks=True)
    return {**past, "repository": str(repository)}


@pytest.mark.slow
def test_the_commit_that_moved_a_bit_is_found(history: dict[str, str]) -> None:
    """Though one on the way does not import. The repository stays as it was."""
    repository = File(history["repository"])
    found = bisect(repository, history["first"], "HEAD", QUESTION)
    assert found.commit == history["moved"]
    assert "move a bit" in found.says
    assert git(repository, "status", "--porcelain") == ""
    assert git(repository, "rev-parse", "HEAD") == history["last"]
    assert not (repository / ".git" / "BISECT_LOG").exists()


@pytest.mark.slow
def test_what_git_cannot_tell_is_said(history: dict[str, str]) -> None:
    """Where only a commit that does not import lies between, it may be that or the next."""
    repository = File(history["repository"])
    commit(repository, "broken again", NEXT, f"{NEXT}; 1 / 0")
    commit(repository, "moves", f"{NEXT}; 1 / 0", "QK_NORM_EPS = 1e-3")
    found = bisect(repository, history["last"], "HEAD", QUESTION)
    assert found.commit == ""
    assert "skip" in found.says


def test_the_command_names_the_commit(history: dict[str, str], tmp_path: File) -> None:
    """From case files; within a budget nothing has moved, and no commit is blamed for it."""
    save(tmp_path / "case.json", CASE)
    words = ["bisect", history["repository"], history["mended"], "HEAD", "--path", "fallback"]
    words += ["--case", str(tmp_path / "case.json")]
    found = CliRunner().invoke(app, words)
    assert (found.exit_code, history["moved"] in found.output) == (0, True), found.output
    unmoved = CliRunner().invoke(app, [*words, "--within", "1"])
    assert (unmoved.exit_code, "nothing moved" in unmoved.output) == (2, True), unmoved.output


def test_a_good_end_that_does_not_run_is_refused(history: dict[str, str]) -> None:
    """With what it raises: every other would be passed over."""
    with pytest.raises(BisectError, match="ZeroDivisionError"):
        bisect(File(history["repository"]), history["broken"], "HEAD", QUESTION)


@pytest.mark.slow
def test_a_hooks_environment_does_not_reach_git(history: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """GIT_DIR names the user's repository there, which must stay as it is."""
    repository = File(history["repository"])
    monkeypatch.setenv("GIT_DIR", str(repository / ".git"))
    assert bisect(repository, history["mended"], "HEAD", QUESTION).commit == history["moved"]
    monkeypatch.delenv("GIT_DIR")
    assert git(repository, "rev-parse", "--abbrev-ref", "HEAD") != "HEAD"
    assert git(repository, "rev-parse", "HEAD") == history["last"]


@pytest.mark.parametrize(("good", "bad"), [("nothing", "HEAD"), ("HEAD", "HEAD~2")], ids=["no revision", "backwards"])
def test_what_is_no_history_is_refused(history: dict[str, str], good: str, bad: str) -> None:
    """In git's words."""
    with pytest.raises(BisectError, match="git"):
        bisect(File(history["repository"]), good, bad, QUESTION)
    refused = CliRunner().invoke(app, ["bisect", history["repository"], good, bad, "--path", "fallback"])
    assert refused.exit_code == 2


def test_a_step_that_fails_itself_ends_the_search() -> None:
    """It must not pass for a commit that moved: 1 moved, 125 cannot be told, and above 127 git stops."""
    assert (GOOD, BAD, SKIP) == (0, 1, 125)
    assert main(["nowhere.json"]) == ABORT > 127


@pytest.mark.slow
def test_a_commit_that_runs_no_case_is_passed_over(history: dict[str, str]) -> None:
    """What raises in every case is broken, and the one that moved is beside it."""
    repository = File(history["repository"])
    commit(repository, "raises", "    h = h * decay\n", "    raise RuntimeError('no more')\n")
    commit(repository, "runs again", "    raise RuntimeError('no more')\n", "    h = h * decay\n")
    moves = commit(repository, "moves", NEXT, "QK_NORM_EPS = 1e-3")
    assert bisect(repository, history["last"], "HEAD", QUESTION).commit == moves
