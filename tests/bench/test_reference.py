"""The vectorised equations are those of the oracle, to float64's last digits, for rows of one token and of drafts."""

from __future__ import annotations

import benched
import numpy as np
import pytest
import torch

from gdn_verify.bench.inputs import draw
from gdn_verify.bench.reference import accepted, conv_pool_after, conv_stream, evaluate, states_before
from gdn_verify.cases.contract import Geometry, Options, Span, Stage, StateOrder
from gdn_verify.checks.question import double
from gdn_verify.oracles.compose import Problem, clean
from gdn_verify.oracles.compose import evaluate as oracle

SPANS = [
    benched.WHOLE,
    benched.UN_NORMED,
    benched.RECURRENCE,
    Span(Stage.DELTA, Stage.DELTA),
    Span(Stage.GATES, Stage.NORM),
]
GEOMETRIES = [benched.TINY, benched.DRAFTS, Geometry(1, 3, 12, 5, W=2), Geometry(2, 2, 4, 4, W=3, num_spec=1)]


def asked(inputs, span: Span, order: StateOrder) -> Problem:
    """The same launch as the oracle takes it."""
    everything, S = slice(0, inputs.setting.rows), inputs.geometry.S
    names = {"x": "mixed_qkv", **{name: name for name in "abqkvgz"}, "beta": "beta"}
    names |= {name: name for name in ("A_log", "dt_bias", "conv_weight", "norm_weight")}
    tensors = {name: double(getattr(inputs, attribute)) for name, attribute in names.items()}
    if Stage.GATES in span:  # the oracle takes what it is given for computed
        del tensors["g"], tensors["beta"]
    return Problem(
        geometry=inputs.geometry,
        options=Options(),
        span=span,
        query_start_loc=np.arange(0, inputs.setting.tokens + 1, S),
        tensors=tensors,
        state=double(states_before(inputs, everything, order)),
        history=double(conv_stream(inputs, everything)[..., : inputs.geometry.W - 1]),
        every_token=True,
    )


@pytest.mark.parametrize("span", SPANS, ids=str)
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda g: f"{g.H},{g.HV},{g.K},{g.V},{g.W},{g.S}")
def test_it_is_the_oracle(span: Span, geometry: Geometry) -> None:
    """Outputs and the state after each token agree to 1e-12, relative, in either order of the state."""
    for order, layout in benched.CORNERS:
        inputs = draw(benched.setting(geometry), "cpu", 5, order, layout)
        out, h = evaluate(inputs, span, order, slice(0, 3))
        expected = oracle(asked(inputs, span, order), clean())
        name = "out" if Stage.NORM in span else "o"
        for mine, theirs in ((out, expected[name]), (h, expected["h"])):
            theirs = torch.from_numpy(theirs[0])
            assert (mine.flatten(0, 1) - theirs).norm() < 1e-12 * theirs.norm()


def test_rows_can_be_taken_in_stretches() -> None:
    """A stretch of rows has the results that these rows have among all, but for the order of sums."""
    inputs = draw(benched.setting(benched.DRAFTS, rows=5), "cpu", 5, *benched.CORNERS[0])
    whole = evaluate(inputs, benched.WHOLE, StateOrder.VK, slice(0, 5))
    part = evaluate(inputs, benched.WHOLE, StateOrder.VK, slice(2, 4))
    for among_all, alone in zip(whole, part, strict=True):
        torch.testing.assert_close(among_all[2:4], alone, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda g: f"{g.W},{g.S}")
def test_the_conv_pool_is_the_fallbacks(geometry: Geometry) -> None:
    """Bit for bit, drafts and their accepted counts included; the slots of no row keep their bytes."""
    inputs = draw(benched.setting(geometry, rows=6), "cpu", 5, *benched.CORNERS[0])
    if geometry.S > 1:
        assert len(set(accepted(inputs).tolist())) > 1
    expected = conv_pool_after(inputs)
    benched.fallback().prepare(inputs)()
    assert torch.equal(inputs.conv_pool, expected)


def test_inputs_are_the_same_in_every_layout() -> None:
    """A seed is one problem: layouts change strides and never numbers, and slot 0 belongs to nobody."""
    drawn = {corner: draw(benched.setting(), "cpu", 5, *corner) for corner in benched.CORNERS}
    first = drawn[benched.CORNERS[0]]
    assert 0 not in first.state_indices
    for (order, _), inputs in drawn.items():
        pool = inputs.pool if order is StateOrder.VK else inputs.pool.transpose(2, 3)
        assert torch.equal(pool, first.pool)
        assert torch.equal(inputs.conv_pool, first.conv_pool)
        assert torch.equal(inputs.qkvz, first.qkvz)
        assert inputs.pool.is_contiguous()
