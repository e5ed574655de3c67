"""Autotuned kernels run the configuration that is pinned, also after another was."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

EMULATED = str(Path(__file__).parents[1] / "emulator")
SCRIPT = f"""
import sys
from gdn_verify.hosts import HOSTS
host = HOSTS["interpreter"]
host.prepare()
sys.path.insert(0, {EMULATED!r})
import emulated
from gdn_verify.hosts.autotune import most_configurations
assert [emulated.tuned(), host.pin(1), emulated.tuned(), host.pin(2), emulated.tuned()] == [1, None, 2, None, 1]
assert most_configurations(["_tuned"]) == 2
assert most_configurations(["nobody's"]) == 0
"""


def test_a_pin_holds_until_the_next() -> None:
    """What an autotuner remembers of the one before is forgotten; places are counted round."""
    result = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
