"""The noise budget: its sum, its floor, what it refuses, and the blocks in which its runs are made."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gdn_verify.cases.contract import DType, DTypes, Geometry, Options, Span, Stage
from gdn_verify.oracles import noise
from gdn_verify.oracles.compose import Algorithm, Problem, evaluate
from gdn_verify.oracles.noise import Expected, Rounding, expect
from gdn_verify.oracles.rounding import chunked_tensor_core, sequential_float32
from gdn_verify.oracles.sites import Site

DELTA = Span(Stage.DELTA, Stage.DELTA)


def problem(size: float = 1.0, T: int = 5) -> Problem:
    rng, g = np.random.default_rng(2), Geometry(H=1, HV=2, K=4, V=3)
    tensors = {
        "q": rng.standard_normal((T, 1, 4)),
        "k": rng.standard_normal((T, 1, 4)),
        "v": rng.standard_normal((T, 2, 3)) * size,
        "g": -rng.random((T, 2)),
        "beta": rng.random((T, 2)),
    }
    state = rng.standard_normal((1, 2, 3, 4)) * size
    return Problem(g, Options(), DELTA, np.array([0, T]), tensors, state)


EXACT = Rounding((), (("o", DType.BF16), ("h", DType.F32)))


def test_without_sites_the_budget_is_an_ulp_of_the_row():
    """‖row‖ · u of its storage type, and not less than that type's underflow."""
    for name, dtype in EXACT.outputs:
        item = expect(problem(), EXACT)[name]
        floor = dtype.underflow * item.value.shape[-1] ** 0.5
        want = np.hypot(dtype.unit_roundoff * np.linalg.norm(item.value, axis=-1), floor)
        np.testing.assert_allclose(item.budget, want, rtol=1e-12)


def test_a_row_of_zeros_has_the_underflow_as_budget():
    """Never 0: a denormal that is flushed is no finding, a number is."""
    item = expect(problem(size=0.0), EXACT)["o"]
    np.testing.assert_array_equal(item.budget, DType.BF16.underflow * 3**0.5)
    assert item.ratios(np.full(item.value.shape, 1e-6)).min() > 1e30


@pytest.mark.parametrize("make", [sequential_float32, chunked_tensor_core])
def test_a_budget_scales_with_the_values(make):
    """2¹⁰ times the values and states, 2¹⁰ times the budget, bit for bit: it has no unit."""
    rounding = make(DTypes(DType.BF16))
    rounding = replace(rounding, sites=tuple((s, d, f) for s, d, f in rounding.sites if d is not DType.F16))
    small, large = expect(problem(), rounding), expect(problem(2.0**10), rounding)
    for name in ("o", "h"):
        np.testing.assert_allclose(large[name].budget, small[name].budget * 2.0**10, rtol=1e-9)


def test_a_narrower_type_has_a_wider_budget():
    """bfloat16 in place of float32 at one site, 2¹⁶ times the noise from there."""
    at = lambda dtype: Rounding(((Site.U, dtype, 1.0),), (("o", DType.F32), ("h", DType.F32)))  # noqa: E731
    narrow, wide = expect(problem(), at(DType.BF16))["h"], expect(problem(), at(DType.F32))["h"]
    assert 0.2 * 2**16 < np.median(narrow.budget / wide.budget) < 2**16


def test_the_spread_is_that_of_uniform_errors():
    """One site on the output: u/√3 of the row, beside the output's own ulp."""
    rounding = Rounding(((Site.OUT, DType.BF16, 1.0),), (("o", DType.F32),))
    item = expect(problem(T=40), rounding, runs=2000)["o"]
    share = item.budget / (DType.BF16.unit_roundoff * np.linalg.norm(item.value, axis=-1))
    np.testing.assert_allclose(share, 3**-0.5, rtol=0.1)


@pytest.mark.parametrize("bytes_of_a_block", [1, 4000, 1 << 30])
def test_blocks_of_runs_do_not_change_the_budget_much(monkeypatch, bytes_of_a_block):
    """One run at a time or all at once: other random numbers, the same spread; the clean value to the bit."""
    rounding = sequential_float32(DTypes())
    whole = expect(problem(), rounding, runs=400)
    monkeypatch.setattr(noise, "_BYTES_OF_A_BLOCK", bytes_of_a_block)
    blocks = expect(problem(), rounding, runs=400)
    for name in ("o", "h"):
        np.testing.assert_array_equal(blocks[name].value, whole[name].value)
        np.testing.assert_allclose(blocks[name].budget, whole[name].budget, rtol=0.2)


@pytest.mark.parametrize("T", [1, 5])
@pytest.mark.parametrize("bytes_of_a_block", [4000, 1 << 27])
@pytest.mark.parametrize("make", [sequential_float32, chunked_tensor_core])
def test_pieces_of_a_block_do_not_change_a_bit_of_the_budget(monkeypatch, make, bytes_of_a_block, T):
    """A run at a time, a few, or a block: the same draws, added up in the same order, of a single row too."""
    monkeypatch.setattr(noise, "_BYTES_OF_A_BLOCK", bytes_of_a_block)
    asked, rounding = problem(T=T), make(DTypes(DType.BF16))
    made = []
    for bytes_of_a_piece in (1, 3 * noise.bytes_of_a_run(asked), 1 << 27):
        monkeypatch.setattr(noise, "_BYTES_OF_A_PIECE", bytes_of_a_piece)
        made.append(expect(asked, rounding, runs=40))
    for name in ("o", "h", "q_hat"):
        assert all(np.array_equal(item[name].budget, made[0][name].budget) for item in made)


def test_a_result_of_one_row_is_added_up_like_any_other():
    """Over all runs and elements, in blocks of whatever pieces."""
    rng = np.random.default_rng(3)
    value, runs = rng.standard_normal((1, 1, 24)), rng.standard_normal((7, 1, 1, 24))
    whole, pieces = noise._Squares(value), noise._Squares(value)
    whole.add(runs.copy())
    for start in (0, 2, 6):
        pieces.add(runs[start : {0: 2, 2: 6, 6: 7}[start]].copy())
    np.testing.assert_array_equal(pieces.sum(), whole.sum())
    np.testing.assert_allclose(whole.sum(), np.square(runs - value).sum(axis=(0, 3)), rtol=1e-12)


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize("bad", [np.inf, np.nan, 1e200])
def test_an_oracle_that_is_not_finite_has_no_budget(bad, algorithm):
    """An infinite budget would excuse anything, also one of a result that still is finite: it is an error instead."""
    asked = problem()
    v = asked.tensors["v"].copy()
    v[2, 1, 0] = bad
    rounding = Rounding(((Site.U, DType.BF16, 1.0), (Site.V_TAIL, DType.BF16, 1.0)), (), algorithm)
    with pytest.raises(FloatingPointError, match="not finite"):
        expect(asked.with_tensors(v=v), rounding)


@pytest.mark.parametrize("algorithm", [Algorithm.CHUNKED, Algorithm.FOLDED])
def test_states_inside_a_row_are_the_sequential_forms(algorithm):
    """Chunks have none. Rows of 4, 0 and 2 tokens end in the chunks' states, and give their outputs, all the same."""
    asked = replace(problem(T=6), query_start_loc=np.array([0, 4, 4, 6]), state=np.ones((3, 2, 3, 4)))
    every = replace(asked, every_token=True)
    ends = [3, 5]
    for site, moved in ((Site.STATE_DECAY, range(6)), (Site.U, [0, 1, 2, 4]), (Site.QH_DOT, [])):
        rounding = Rounding(((site, DType.BF16, 1.0),), (), algorithm, 8)
        made, whole = (evaluate(asked_for, rounding.draw(1, 2)) for asked_for in (every, asked))
        assert [t for t in range(6) if not np.array_equal(made["h"][1, t], made["h"][0, t])] == list(moved)
        assert np.array_equal(made["h"][:, ends], whole["h"][:, [0, 2]])
        assert np.array_equal(made["o"], whole["o"])


@pytest.mark.parametrize("kept", [[3], [0, 2, 3], [1, 4, 5], []])
@pytest.mark.parametrize("algorithm", Algorithm)
def test_states_that_are_not_kept_are_not_made(algorithm, kept):
    """Those that are have the bits they have among all; outputs do not change."""
    asked = replace(problem(T=6), query_start_loc=np.array([0, 4, 4, 6]), state=np.ones((3, 2, 3, 4)), every_token=True)
    few = replace(asked, kept=np.array(kept, np.int64))
    draw = replace(chunked_tensor_core(DTypes(DType.BF16)), algorithm=algorithm).draw(1, 3)
    every, some = evaluate(asked, draw), evaluate(few, draw)
    assert np.array_equal(some["h"], every["h"][:, kept])
    assert np.array_equal(some["o"], every["o"])


def test_nothing_is_broadcast():
    """A result of one head cannot stand for two."""
    with pytest.raises(ValueError, match=r"\(5, 1, 3\), expected \(5, 2, 3\)"):
        expect(problem(), EXACT)["o"].ratios(np.zeros((5, 1, 3)))


def test_a_ratio_may_be_zero_but_its_budget_not():
    """The oracle's own value is at distance 0."""
    item: Expected = expect(problem(), EXACT)["h"]
    assert item.ratios(item.value).max() == 0.0
    assert item.budget.min() > 0.0
