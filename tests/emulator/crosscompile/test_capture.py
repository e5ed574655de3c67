"""What is captured is what Triton would compile: every configuration, specialised as a launch would be, nothing run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Toy = Callable[..., Any]


def test_integers_are_specialised_as_a_launch_does(toy: Toy) -> None:
    """1 is a constant, multiples of 16 are known to be, others are not; unless the kernel asks for none of it."""
    assert toy("specialisations", "gfx942", 1, 5, 48) == [("constexpr", False), ("i32", False), ("i32", True)]
    assert toy("specialisations", "gfx942", 1, 48, special=False) == [("i32", False), ("i32", False)]
    assert toy("specialisations", "sm_90", 2**40) == [("i64", True)]


def test_a_launch_is_kept_once_and_alignment_makes_another(toy: Toy) -> None:
    """Three equal launches are one; a pointer that is not aligned compiles to other code."""
    assert toy("repeated", "sm_90") == 2


def test_an_autotuned_kernel_gives_every_configuration(toy: Toy) -> None:
    """Not the first, not the best: all that its own pruning leaves. No configuration is timed or remembered."""
    assert toy("configurations", "tuned", "gfx942") == toy("configurations", "tuned", "gfx942")
    first, second = toy("configurations", "tuned", "sm_90")
    assert (first.split()[0], second.split()[0]) == ("N=4096", "N=32768")
    assert len(toy("configurations", "pruned", "sm_90")) == 1


def test_words_tell_configurations_apart(toy: Toy) -> None:
    """Constants, warps, and options that are not the chip's defaults."""
    assert toy("configurations", "crowded", "gfx942") == ["N=4096 num_warps=1 waves_per_eu=8"]
    assert toy("configurations", "crowded", "sm_80") == ["N=4096 num_warps=1 maxnreg=32"]


@pytest.mark.parametrize(
    ("chip", "backend", "arch", "warp_size", "shared", "capability"),
    [
        ("gfx942", "hip", "gfx942", 64, 65536, (9, 4)),
        ("gfx1201", "hip", "gfx1201", 32, 65536, (12, 0)),
        ("sm_90", "cuda", 90, 32, 232448, (9, 0)),
        ("sm_120", "cuda", 120, 32, 101376, (12, 0)),
    ],
)
def test_libraries_are_told_the_chip(
    toy: Toy, chip: str, backend: str, arch: object, warp_size: int, shared: int, capability: tuple[int, int]
) -> None:
    """By Triton's driver and by torch alike: many choose configurations by the one or the other."""
    seen = toy("seen_inside", chip)
    assert seen["target"] == {"backend": backend, "arch": arch, "warp_size": warp_size}
    assert (seen["shared"], seen["capability"]) == (shared, capability)
    assert seen["name"].startswith("AMD" if backend == "hip" else "NVIDIA")


def test_everything_is_restored(toy: Toy) -> None:
    """Also when the block raises."""
    assert toy("left_behind") is False


def test_tensors_stay_on_the_processor(toy: Toy) -> None:
    """A wrapper that insists on a card's tensors sees none: it cannot be captured."""
    assert toy("on_real_device", "sm_90") == "refused"


def test_interpreter_mode_is_an_error(toy: Toy) -> None:
    """An empty list would prove nothing."""
    assert "unset TRITON_INTERPRET" in toy("under_interpreter")
