"""`cuda.fused_decode`, emulated: the fallback's results from every configuration, and every other bit untouched."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gdn_verify.kernels.cuda.choices import CANDIDATES, SPEC_CANDIDATES, configurations
from gdn_verify.kernels.cuda.config import Config, Sizes

from ..triton.problems import Problem, one_each
from ..triton.situations import DECODE_ROWS, DRAFTS, LAYERS
from .launching import DECODE, JOINED, PLAIN, SPEC, STAGED, TICKETS, check, check_mixed_up

TILED = Problem(K=40, V=24)
"""Several turns in every configuration, several chunks of K, neither a power of two."""
SERVED = Problem(H=1, K=128, V=128, rows=one_each(2))


@pytest.mark.parametrize("order", ["VK", "KV"])
@pytest.mark.parametrize("family", DECODE)
def test_every_configuration_agrees(family, order):
    """Heads, split heads and key heads, in clusters and by tickets, in registers and in stages."""
    check(replace(TILED, state_order=order), family)


@pytest.mark.parametrize("family", [pytest.param(PLAIN, marks=pytest.mark.slow), JOINED])  # each compiles
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


def for_cards(drafts: bool) -> list[Config]:
    """What may be chosen on chips without clusters and with them, and what a sweep tries; once each."""
    tried = SPEC_CANDIDATES if drafts else CANDIDATES
    sizes = Sizes(1, 2, 128, 128, 4, False)
    chosen = [config for chip in (80, 90) for config in configurations(chip, sizes, drafts)]
    return list(dict.fromkeys((*chosen, *tried)))


@pytest.mark.slow
@pytest.mark.parametrize("config", for_cards(drafts=False), ids=lambda config: config.name)
def test_every_configuration_for_a_card(config, monkeypatch):
    """On heads of the size that is served, with the blocks that a card would have."""
    served = dict.fromkeys(("activations", "conv", "state"), torch.bfloat16)
    monkeypatch.setitem(DECODE, "asked", config)
    check(replace(SERVED, state=torch.float32), "asked")
    check(replace(SERVED, state_order="KV", **served), "asked")


@pytest.mark.slow
@pytest.mark.parametrize("config", for_cards(drafts=True), ids=lambda config: config.name)
def test_every_configuration_of_drafts_for_a_card(config, monkeypatch):
    """The same for drafts of three tokens."""
    monkeypatch.setitem(SPEC, "asked", config)
    check(replace(DRAFTS, rows=DRAFTS.rows[:2], H=1, K=128, V=128), "asked")


def test_what_meets_by_chance():
    """Every knob turned at random, a row pattern and a configuration a seed."""
    check_mixed_up(list(DECODE_ROWS.values()), list(DECODE))
