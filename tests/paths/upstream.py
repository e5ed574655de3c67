"""What tests of several projects' kernels share: conformance where they are installed, and defects asked one by one.

A script of defects has functions without arguments, each of which says whether one thing is right by now.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path as File
from typing import Any

import pytest
import torch

from gdn_verify.conformance import MissingPathError, conformance
from gdn_verify.paths import Path


def conforms(path: Path, cases: int = 4) -> None:
    """In the interpreter, but for what the ledger knows, which must be as it says."""
    try:
        conformance(path, "interpreter", cases=cases)
    except MissingPathError as missing:
        pytest.skip(str(missing))


def right_by_now(path: Path, script: str, defect: str) -> bool:
    """Whether a function of a script beside this file says so, in a process of its own; skips without the package."""
    if (missing := path.missing("interpreter")) is not None:
        pytest.skip(str(missing))
    words = [sys.executable, File(__file__).with_name(script), defect]
    ran = subprocess.run(words, capture_output=True, text=True, timeout=300)
    answers = ran.stdout.splitlines()[-1:]
    if answers not in (["right"], ["wrong"]):
        raise RuntimeError(f"{defect} gave no answer: {ran.stderr}")
    return answers == ["right"]


def same(got: torch.Tensor, wanted: torch.Tensor) -> bool:
    """To within what 16 bits round."""
    return torch.allclose(got.float(), wanted.float(), rtol=1e-2, atol=1e-2)


def main(functions: Mapping[str, Any]) -> None:
    """Ask the function that the command names, interpreted and with fixed numbers."""
    from gdn_verify.emulator import interpreter

    interpreter.install()
    torch.manual_seed(0)
    print("right" if functions[sys.argv[1]]() else "wrong")  # noqa: T201 - the answer
