"""`fused_decode` in the interpreter: the fallback's results from every configuration, and every other bit untouched."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import patch

import pytest

from .accounts import assert_left
from .families import DECODE, PLAIN, SPLIT, STAGED, launch
from .problems import Problem, mixed_up
from .situations import DECODE_ROWS, LAYERS

pytest.importorskip("triton")
TILED = Problem(K=40, V=24)
"""Several tiles of V in every configuration, several pieces of K, neither a power of two."""


def check(problem: Problem, family: str) -> None:
    """In the interpreter's process: one launch, accounted for."""
    left = problem.buffers()
    before = left.copy()
    launch(problem, left, family)
    assert_left(problem, before, left)


def check_as_amd(problem: Problem, family: str) -> None:
    """The same with what is compiled for AMD: conv states are stored last."""
    from gdn_verify.kernels.triton import decode
    from gdn_verify.kernels.triton.target import Target

    with patch.object(decode, "current_target", lambda: Target("hip", "gfx942")):
        check(problem, family)


@pytest.mark.parametrize("packing", ["flat", "interleaved"])
@pytest.mark.parametrize("family", DECODE)
def test_every_configuration_agrees(interpreted, family, packing):
    """Heads, split heads and key heads, unrolled and in stages, over several tiles with ragged ends."""
    order = "VK" if packing == "flat" else "KV"
    interpreted(check, replace(TILED, packing=packing, state_order=order), family)


@pytest.mark.parametrize("family", DECODE)
def test_every_configuration_without_a_norm(interpreted, family):
    """Nothing to join then; three heads to a key head."""
    interpreted(check, replace(TILED, H=1, ratio=3, norm=None), family)


@pytest.mark.parametrize("family", ["head", "key head", STAGED])
def test_what_is_compiled_for_amd(interpreted, family):
    """The other place of the conv state's stores: after the state."""
    interpreted(check_as_amd, TILED, family)


@pytest.mark.parametrize("family", [PLAIN, SPLIT])
@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_and_layout(interpreted, name, family):
    """Ratios, sizes, types, strides and options, each alone."""
    interpreted(check, replace(Problem(), **LAYERS[name]), family)


@pytest.mark.parametrize("family", [SPLIT, STAGED])
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("name", DECODE_ROWS)
def test_every_padding(interpreted, name, keep, family):
    """Rows and tokens that are none: zeros, or with zero_pads=False the bytes that were there."""
    interpreted(check, replace(DECODE_ROWS[name], zero_pads=not keep), family)


def check_mixed_up(seeds: range, rows: dict[str, Problem] = DECODE_ROWS) -> None:
    """In the interpreter's process: a row pattern and a configuration a seed."""
    for seed in seeds:
        problem = mixed_up(list(rows.values())[seed % len(rows)], seed)
        family = list(DECODE)[seed % len(DECODE)]
        try:
            check(problem, family)
        except AssertionError as error:
            raise AssertionError(f"{family!r}, {problem}") from error


def test_options_do_not_interfere(interpreted):
    """All of them turned at random at once."""
    interpreted(check_mixed_up, range(20))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(20, 420, 50))
def test_options_do_not_interfere_at_length(interpreted, first):
    """The same, 400 times."""
    interpreted(check_mixed_up, range(first, first + 50))
