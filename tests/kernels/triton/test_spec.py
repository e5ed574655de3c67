"""`fused_spec_decode` in the interpreter: the fallback's results from every configuration, and no other bit touched."""

from __future__ import annotations

from dataclasses import replace

import pytest

from .accounts import assert_left
from .families import SPEC
from .problems import draft, mixed_up
from .situations import DRAFTS, LAYERS, SPEC_ROWS
from .test_decode import check

pytest.importorskip("triton")
SORTS = ("1 split", "4 splits")
TILED = replace(DRAFTS, K=40, V=24)


@pytest.mark.parametrize("packing", ["flat", "interleaved"])
@pytest.mark.parametrize("family", SPEC)
def test_every_configuration_agrees(interpreted, family, packing):
    """Whole heads and split ones, with ragged ends."""
    order = "VK" if packing == "flat" else "KV"
    interpreted(check, replace(TILED, packing=packing, state_order=order), family)


@pytest.mark.parametrize("family", SORTS)
@pytest.mark.parametrize("width", [1, 2, 8])
def test_every_width(interpreted, width, family):
    """From one slot a row to the widest table that is taken."""
    rows = (draft(width, width, *range(width)), draft(1, 1, *range(width, 2 * width)))
    interpreted(check, replace(DRAFTS, rows=rows, width=width, slots=2 * width + 1), family)


@pytest.mark.parametrize("family", SORTS)
@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_and_layout(interpreted, name, family):
    """Ratios, sizes, types, strides and options, each alone."""
    change = {**LAYERS[name]}
    if "tokens" in change:
        change["tokens"] = DRAFTS.num_tokens + 2
    interpreted(check, replace(DRAFTS, **change), family)


@pytest.mark.parametrize("family", SORTS)
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("name", SPEC_ROWS)
def test_every_padding(interpreted, name, keep, family):
    """Rows and tokens that are none, illegal counts included: zeros, or with zero_pads=False what was there."""
    interpreted(check, replace(SPEC_ROWS[name], zero_pads=not keep), family)


def check_mixed_up(seeds: range) -> None:
    """In the interpreter's process: a row pattern and a configuration a seed."""
    for seed in seeds:
        problem = mixed_up(list(SPEC_ROWS.values())[seed % len(SPEC_ROWS)], seed)
        family = list(SPEC)[seed % len(SPEC)]
        try:
            check(problem, family)
        except AssertionError as error:
            raise AssertionError(f"{family!r}, {problem}") from error


def test_options_do_not_interfere(interpreted):
    """All of them turned at random at once."""
    interpreted(check_mixed_up, range(15))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(15, 315, 50))
def test_options_do_not_interfere_at_length(interpreted, first):
    """The same, 300 times."""
    interpreted(check_mixed_up, range(first, first + 50))


def check_chain() -> None:
    """In the interpreter's process: three launches, each accepting some of what the one before drafted."""
    from .families import launch

    problem = replace(DRAFTS, rows=(draft(3, 1, 1, 2, 3), draft(2, 1, 4, 5, 6)))
    left = problem.buffers()
    for accepted, family in (((1, 1), "1 split"), ((2, 1), "4 splits"), ((3, 2), "2 splits")):
        rows = tuple(draft(3, count, *row.slots) for count, row in zip(accepted, problem.rows, strict=True))
        step = replace(problem, rows=rows, seed=sum(accepted))
        given = step.buffers()
        given.conv_pool.restore(left.conv_pool)
        given.pool.restore(left.pool)
        before, left = given.copy(), given
        launch(step, left, family)
        assert_left(step, before, left)


def test_a_launch_continues_from_what_was_accepted(interpreted):
    """State and history after each of three launches of different configurations are the next one's start."""
    interpreted(check_chain)
