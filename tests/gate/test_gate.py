"""What a kernel author's runner executes: every path this machine can run agrees with the oracle."""

from __future__ import annotations

from collections.abc import Callable


def test_path_agrees(gdn_target: tuple[str, str, str], gdn_gate: Callable[[tuple[str, str, str]], None]) -> None:
    """A path on a host agrees with the oracle over a profile's cases of one kind."""
    gdn_gate(gdn_target)
