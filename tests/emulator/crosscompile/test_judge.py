"""Limits and spills, judged from numbers alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gdn_verify.emulator.crosscompile.judge import Verdict, judge
from gdn_verify.emulator.crosscompile.resources import Compiled, Resources
from gdn_verify.emulator.crosscompile.targets import CHIPS, Chip

MODEST = Resources(registers=64, spill_bytes=0, scratch_bytes=0, shared_bytes=0, threads=256)


def _verdict(needs: Resources, chip: str, may_spill: bool = False) -> Verdict:
    return judge(Compiled(needs), CHIPS[chip], may_spill)


@pytest.mark.parametrize("chip", CHIPS.values(), ids=str)
@pytest.mark.parametrize(
    ("need", "limit"), [("shared_bytes", "shared_memory"), ("registers", "registers"), ("threads", "")]
)
@pytest.mark.parametrize("may_spill", [False, True])
def test_a_limit_may_be_reached_and_not_exceeded(chip: Chip, need: str, limit: str, may_spill: bool) -> None:
    """To the byte, for every chip, whoever's kernel it is."""
    most = getattr(chip, limit) if limit else 1024
    assert _verdict(replace(MODEST, **{need: most}), chip.name, may_spill).ok
    (fault,) = _verdict(replace(MODEST, **{need: most + 1}), chip.name, may_spill).faults
    assert (str(most + 1) in fault, f"{chip} has {most}" in fault) == (True, True)


@pytest.mark.parametrize("need", ["spill_bytes", "scratch_bytes"])
def test_private_memory_is_a_fault_or_a_note(need: str) -> None:
    """Spills of vector registers, and scratch without any: an array that was indexed, say."""
    crowded = replace(MODEST, **{need: 4})
    assert len(_verdict(crowded, "gfx942", may_spill=False).faults) == 1
    relaxed = _verdict(crowded, "gfx942", may_spill=True)
    assert (relaxed.ok, len(relaxed.notes)) == (True, 1)


def test_scalar_spills_are_a_note() -> None:
    """They go to lanes of vector registers; where they go to scratch, that is the fault."""
    scalar = replace(MODEST, scalar_spills=5)
    verdict = _verdict(scalar, "gfx942", may_spill=False)
    assert (verdict.ok, verdict.notes) == (True, ("5 scalar registers spilled",))
    assert not _verdict(replace(scalar, scratch_bytes=4), "gfx942", may_spill=False).ok


def test_what_does_not_compile_fails_whoever_wrote_it() -> None:
    """The compiler's words are the fault."""
    assert judge(Compiled(None, "LLVM ERROR"), CHIPS["sm_90"], may_spill=True).faults == ("LLVM ERROR",)
