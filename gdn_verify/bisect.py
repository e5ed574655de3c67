"""The commit of a kernel's repository that moved its results: `git bisect` over `compare`.

git chooses the commits, in a clone of its own that shares the repository's objects: the user's tree is left alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path as File

import gdn_verify
from gdn_verify.cases.codec import loads
from gdn_verify.compare import Install, NotLoadedError, compare

GOOD, BAD, SKIP, ABORT = 0, 1, 125, 255
"""What a step tells `git bisect run`: as before, moved, cannot be told, the step itself failed."""
SOURCE = str(File(gdn_verify.__file__).parent.parent)


@dataclass(frozen=True)
class Question:
    """What is asked of every commit: do these cases (files' texts) give what `good` gives, to `within` budgets?

    `inside` is the folder of the repository that its packages are in. `python` runs both; "" is this one.
    """

    path: str
    host: str
    cases: tuple[str, ...]
    within: float = 0.0
    inside: str = ""
    python: str = ""

    def install(self, name: str, tree: File) -> Install:
        """The version that a tree of the repository is."""
        return Install(name, self.python or sys.executable, (str(tree / self.inside),))


@dataclass(frozen=True)
class Answer:
    """The first commit that moved, "" where git could not tell, and what git says of it."""

    commit: str
    says: str


class BisectError(ValueError):
    """No history to search: git refuses it, or its good end does not run or is not like itself, or its bad one is."""


def bisect(repository: File, good: str, bad: str, question: Question) -> Answer:
    """Ask of commits between `good` and `bad` until the first is found that moved. Raises BisectError.

    Commits that cannot be imported, or in which no case runs, are passed over, as `git bisect skip` does. The two ends
    are asked first: one must run and be like itself, and the other must have moved.
    """
    commits = [_git(repository, "rev-parse", "--verify", f"{name}^{{commit}}") for name in (good, bad)]
    if _git(repository, "merge-base", *commits) == commits[1]:  # git would say so too, after a minute's launches
        raise BisectError(f"git: {bad} comes before {good}, or is it; name the good commit first")
    with tempfile.TemporaryDirectory() as room:
        first, tree = File(room) / "good", File(room) / "tree"
        for place, commit in zip((first, tree), commits, strict=True):
            _git(repository, "clone", "--quiet", "--shared", "--no-checkout", str(repository.resolve()), str(place))
            _git(place, "checkout", "--quiet", "--detach", commit)
        for name, place, expected in ((good, first, GOOD), (bad, tree, BAD)):
            status, why = told(question, first, place)
            if status != expected:
                raise BisectError(f"{name}: {why or 'nothing moved in these cases; name one that shows it'}")
        asked = File(room) / "question.json"
        asked.write_text(json.dumps({"good": str(first), "question": asdict(question)}), encoding="utf-8")
        _git(tree, "bisect", "start", *reversed(commits))
        if said := _searched(tree, asked):
            return Answer("", said)
        commit = _git(tree, "rev-parse", "refs/bisect/bad")
        return Answer(commit, _git(tree, "log", "-1", "--format=%h %as %an: %s", commit))


def _searched(tree: File, asked: File) -> str:
    """Let git ask; "" once it has found the commit, else what it says."""
    # -P: the tree may have a package of this suite's name, which is its kernels alone
    step = [sys.executable, "-P", "-m", "gdn_verify.bisect", str(asked)]
    places = [place for place in (SOURCE, os.environ.get("PYTHONPATH", "")) if place]
    environment = {**_environment(), "PYTHONPATH": os.pathsep.join(places)}
    ran = subprocess.run(
        ["git", "-C", str(tree), "bisect", "run", *step], env=environment, capture_output=True, text=True, check=False
    )
    return _last(ran.stdout + ran.stderr) if ran.returncode else ""


def _environment() -> dict[str, str]:
    """Without what git tells its hooks, which goes before `-C`: a user's own repository."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}


def _git(repository: File, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(repository), *words], env=_environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BisectError(f"git {' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()


def _last(text: str, lines: int = 12) -> str:
    return "\n".join(text.strip().splitlines()[-lines:])


def told(question: Question, good: File, tree: File) -> tuple[int, str]:
    """Whether a tree's results are those of the good one, and what is to be said of it."""
    installs = question.install("the good one", good), question.install("this commit", tree)
    try:
        found = compare(question.path, question.host, installs, [loads(text) for text in question.cases])
    except NotLoadedError as error:
        return SKIP, str(error)
    if all(case.trouble for case in found.cases):
        return SKIP, f"no case runs: {found.cases[0].trouble}"
    if not found.exceeds(question.within):
        return GOOD, ""
    worst = found.moved[0]
    return BAD, worst.trouble or f"{worst.result} moved by {worst.ratio:.3g} budgets"


def step(asked: File, tree: File) -> int:
    """What `git bisect run` is told of the commit that is checked out in `tree`."""
    read = json.loads(asked.read_text(encoding="utf-8"))
    question = Question(**{**read["question"], "cases": tuple(read["question"]["cases"])})
    status, why = told(question, File(read["good"]), tree)
    sys.stdout.write(f"{why}\n")
    return status


def main(words: Sequence[str]) -> int:
    """A step of a bisection, in the tree that is the current folder."""
    try:
        return step(File(words[0]), File.cwd())
    except Exception:
        traceback.print_exc()
        return ABORT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
