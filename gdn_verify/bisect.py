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
    """git refuses: what is no repository or revision, or no history in which the first comes before the second."""


def bisect(repository: File, good: str, bad: str, question: Question) -> Answer:
    """Ask of commits between `good` and `bad` until the first is found that moved. Raises BisectError.

    Commits that cannot be imported, or in which no case runs, are passed over, as `git bisect skip` does.
    """
    good, bad = (_git(repository, "rev-parse", "--verify", f"{name}^{{commit}}") for name in (good, bad))
    with tempfile.TemporaryDirectory() as room:
        first, tree = File(room) / "good", File(room) / "tree"
        for place, commit in ((first, good), (tree, bad)):
            _git(repository, "clone", "--quiet", "--shared", "--no-checkout", str(repository.resolve()), str(place))
            _git(place, "checkout", "--quiet", "--detach", commit)
        asked = File(room) / "question.json"
        asked.write_text(json.dumps({"good": str(first), "question": asdict(question)}))
        _git(tree, "bisect", "start", bad, good)
        if said := _searched(tree, asked):
            return Answer("", said)
        commit = _git(tree, "rev-parse", "refs/bisect/bad")
        return Answer(commit, _git(tree, "log", "-1", "--format=%h %as %an: %s", commit))


def _searched(tree: File, asked: File) -> str:
    """Let git ask; "" once it has found the commit, else what it says."""
    # -P: the tree may have a package of this suite's name, which is its kernels alone
    step = [sys.executable, "-P", "-m", "gdn_verify.bisect", str(asked)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((SOURCE, os.environ.get("PYTHONPATH", "")))}
    ran = subprocess.run(
        ["git", "-C", str(tree), "bisect", "run", *step], env=environment, capture_output=True, text=True, check=False
    )
    return _last(ran.stdout + ran.stderr) if ran.returncode else ""


def _git(repository: File, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(repository), *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BisectError(f"git {' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()


def _last(text: str, lines: int = 12) -> str:
    return "\n".join(text.strip().splitlines()[-lines:])


def step(asked: File, tree: File) -> int:
    """What `git bisect run` is told of the commit that is checked out in `tree`."""
    told = json.loads(asked.read_text())
    question = Question(**{**told["question"], "cases": tuple(told["question"]["cases"])})
    installs = question.install("good", File(told["good"])), question.install("this commit", tree)
    try:
        found = compare(question.path, question.host, installs, [loads(text) for text in question.cases])
    except NotLoadedError as error:
        sys.stdout.write(f"skipped: {error}\n")
        return SKIP
    if all(case.trouble for case in found.cases):
        sys.stdout.write(f"skipped: no case runs: {found.cases[0].trouble}\n")
        return SKIP
    return BAD if found.exceeds(question.within) else GOOD


def main(words: Sequence[str]) -> int:
    """A step of a bisection, in the tree that is the current folder."""
    try:
        return step(File(words[0]), File.cwd())
    except Exception:
        traceback.print_exc()
        return ABORT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
