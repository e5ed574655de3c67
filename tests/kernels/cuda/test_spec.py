"""`cuda.fused_spec_decode`, emulated: the fallback's results from every configuration, every other bit untouched."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ..triton.situations import DRAFTS, LAYERS, SPEC_ROWS
from .launching import SPEC, check, check_mixed_up


@pytest.mark.parametrize("order", ["VK", "KV"])
@pytest.mark.parametrize("family", SPEC)
def test_every_configuration_agrees(family, order):
    """Split and whole heads, in clusters and by tickets."""
    check(replace(DRAFTS, K=40, V=24, state_order=order), family)


@pytest.mark.parametrize("change", LAYERS.values(), ids=LAYERS)
def test_every_layer(change):
    """All ratios, widths, types, layouts, alignments and options."""
    check(replace(DRAFTS, **change), "head, 4 splits")


@pytest.mark.parametrize("family", ["head, cluster", "head, 2 splits, tickets"])
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("name", SPEC_ROWS)
def test_every_padding(name, keep, family):
    """Illegal counts, rows and columns that are padding, rows that are not looked at."""
    check(replace(SPEC_ROWS[name], zero_pads=not keep), family)


def test_what_meets_by_chance():
    """Every knob turned at random, a row pattern and a configuration a seed."""
    check_mixed_up(list(SPEC_ROWS.values()), list(SPEC))
