"""Launches compiled for chips that are not here: what passes, and what must not though the compiler is content."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from gdn_verify.emulator.crosscompile.judge import judge
from gdn_verify.emulator.crosscompile.resources import Compiled
from gdn_verify.emulator.crosscompile.targets import CHIPS

Toy = Callable[..., Any]
Submits = Callable[..., "Future[Any]"]


def _faults(compiled: Compiled, chip: str, may_spill: bool = False) -> tuple[str, ...]:
    return judge(compiled, CHIPS[chip], may_spill).faults


def _on_every_chip(submit: Submits, name: str) -> Iterator[tuple[str, Compiled]]:
    answers = {chip: submit("compiled", name, chip) for chip in CHIPS}
    for chip, answer in answers.items():
        ((_, compiled),) = answer.result(timeout=240)
        yield chip, compiled


def test_a_healthy_kernel_passes_on_all_seven_chips(submit: Submits) -> None:
    """With numbers of each vendor's kind."""
    chips = []
    for chip, compiled in _on_every_chip(submit, "healthy"):
        chips.append(chip)
        assert _faults(compiled, chip) == ()
        assert 0 < compiled.resources.registers < 64
        assert compiled.resources.threads == 4 * CHIPS[chip].warp_size
        assert bool(compiled.resources.scalar_registers) == (CHIPS[chip].backend == "hip")
    assert chips == ["gfx942", "gfx950", "gfx1201", "sm_80", "sm_90", "sm_100", "sm_120"]


@pytest.mark.parametrize("name", ["by target", "descriptor", "tuple"])
def test_kernels_of_every_kind_compile(submit: Submits, name: str) -> None:
    """One that asks for its target, and ones that take descriptors, tuples and None."""
    for chip, compiled in _on_every_chip(submit, name):
        assert _faults(compiled, chip, may_spill=True) == ()


def test_shared_memory_over_the_limit_fails(submit: Submits) -> None:
    """128 KiB: every compiler is content, and three of the chips could not launch it."""
    faulty = set()
    for chip, compiled in _on_every_chip(submit, "gathered"):
        assert (compiled.error, compiled.resources.shared_bytes) == ("", 128 * 1024)
        if faults := _faults(compiled, chip, may_spill=True):
            faulty.add(chip)
            assert faults == (f"131072 bytes of shared memory a block, and {chip} has {CHIPS[chip].shared_memory}",)
    assert faulty == {"gfx942", "gfx1201", "sm_120"}


def test_a_bad_second_configuration_is_found(toy: Toy) -> None:
    """The first, which a machine that pins autotuning would run, is good."""
    (_, first), (words, second) = toy("compiled", "tuned", "gfx1201")
    assert _faults(first, "gfx1201") == ()
    assert "131072 bytes of shared memory" in _faults(second, "gfx1201")[0]
    assert "N=32768" in words


@pytest.mark.parametrize("chip", ["gfx942", "sm_90"])
def test_a_spilling_kernel_fails(toy: Toy, chip: str) -> None:
    """By both vendors' accounts; it is only a note for kernels that may spill."""
    ((_, compiled),) = toy("compiled", "crowded", chip)
    needs = compiled.resources
    assert (needs.spill_bytes > 0, needs.scratch_bytes > 0) == (True, True)
    assert f"{needs.spill_bytes} bytes of vector registers spilled a thread" in _faults(compiled, chip)
    relaxed = judge(compiled, CHIPS[chip], may_spill=True)
    assert (relaxed.ok, len(relaxed.notes)) == (True, 2)


def test_too_many_threads_fail(toy: Toy) -> None:
    """32 warps are 2048 threads where a warp is 64 wide, and that compiles."""
    ((_, wide),) = toy("compiled", "32 warps", "gfx942")
    ((_, narrow),) = toy("compiled", "32 warps", "gfx1201")
    assert _faults(wide, "gfx942") == ("2048 threads a block, and gfx942 has 1024",)
    assert _faults(narrow, "gfx1201") == ()


def test_inline_ptx_fails_on_amd_alone(toy: Toy) -> None:
    """With the assembler's own words."""
    ((_, amd),) = toy("compiled", "inline PTX", "gfx942")
    ((_, nvidia),) = toy("compiled", "inline PTX", "sm_90")
    assert amd.resources is None
    assert "invalid instruction" in amd.error
    assert "mov.b32" in amd.error
    assert _faults(nvidia, "sm_90") == ()


def test_a_compiler_that_aborts_is_contained(toy: Toy) -> None:
    """It is a failed result with the signal and the last words, and the next compilation works."""
    came = toy("with_compiler", "aborts", "gfx942", 60.0)
    assert came.resources is None
    assert "the compiler died: SIGABRT" in came.error
    assert "LLVM ERROR: out of ideas" in came.error
    assert _faults(toy("compiled", "healthy", "gfx942")[0][1], "gfx942") == ()


def test_a_compiler_that_hangs_is_stopped(toy: Toy) -> None:
    """After the patience it was given."""
    came = toy("with_compiler", "hangs", "sm_90", 0.5)
    assert "stopped after 0.5 s" in came.error
    assert came.seconds < 30


def test_an_account_that_cannot_be_read_is_a_failure(toy: Toy) -> None:
    """Missing numbers are not zeros."""
    came = toy("with_compiler", "mumbles", "gfx942", 60.0)
    assert came.resources is None
    assert "vgpr_spill_count" in came.error
