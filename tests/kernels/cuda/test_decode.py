"""`cuda.fused_decode`, emulated: the fallback's results from every configuration, and every other bit untouched."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ..triton.problems import Problem, mixed_up, one_each
from ..triton.situations import DECODE_ROWS, LAYERS
from .launching import DECODE, JOINED, PLAIN, STAGED, TICKETS, check

TILED = Problem(K=40, V=24)
"""Several turns in every configuration, several chunks of K, neither a power of two."""


@pytest.mark.parametrize("order", ["VK", "KV"])
@pytest.mark.parametrize("family", DECODE)
def test_every_configuration_agrees(family, order):
    """Heads, split heads and key heads, in clusters and by tickets, in registers and in stages."""
    check(replace(TILED, state_order=order), family)


@pytest.mark.parametrize("family", [PLAIN, JOINED])
@pytest.mark.parametrize("change", LAYERS.values(), ids=LAYERS)
def test_every_layer(change, family):
    """All ratios, widths, types, layouts, alignments and options."""
    check(replace(TILED, **change), family)


@pytest.mark.parametrize("family", [PLAIN, JOINED, TICKETS, STAGED])
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("name", DECODE_ROWS)
def test_every_padding(name, keep, family):
    """Rows and tokens that are none: zeros, or with zero_pads=False the bytes that were there."""
    check(replace(DECODE_ROWS[name], zero_pads=not keep), family)


@pytest.mark.parametrize("ratio", [12, 24])
def test_more_value_heads_than_a_cluster_has_blocks(ratio):
    """They take tickets."""
    check(Problem(H=1, ratio=ratio), "head, 4 splits")


@pytest.mark.parametrize("size", [160, 256])
@pytest.mark.parametrize("order", ["VK", "KV"])
def test_wide_heads(size, order):
    """More of K than a thread would hold with the usual number of lanes."""
    check(Problem(H=1, K=size, V=256, rows=one_each(2), state_order=order), "head, cluster")


def test_what_meets_by_chance():
    """Every knob turned at random, a row pattern and a configuration a seed."""
    rows = list(DECODE_ROWS.values())
    for seed in range(40):
        problem = mixed_up(rows[seed % len(rows)], seed)
        family = list(DECODE)[seed % len(DECODE)]
        try:
            check(problem, family)
        except AssertionError as error:
            raise AssertionError(f"{family!r}, {problem}") from error
