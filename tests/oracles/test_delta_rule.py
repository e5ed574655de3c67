"""The two float64 algorithms of the delta rule, against each other, exact arithmetic and other hands."""

from __future__ import annotations

import importlib.util
import inspect
import time
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from oracle_cases import DEFECTS, GATES, DeltaCase, delta_case, literal, worst_error, worst_state_error

from gdn_verify.oracles import exact
from gdn_verify.oracles.chunked import delta_rule_chunked
from gdn_verify.oracles.sequential import delta_rule
from gdn_verify.oracles.sites import quiet_sites

CLOSE = 1e-9
delta_rule_folded = partial(delta_rule_chunked, folded=True)
IN_CHUNKS = [pytest.param(delta_rule_chunked, id="chunked"), pytest.param(delta_rule_folded, id="folded")]
ALGORITHMS = [pytest.param(delta_rule, id="sequential"), *IN_CHUNKS]


def random_case(seed: int, longest: int = 200, gate: str | None = None) -> DeltaCase:
    return delta_case(np.random.default_rng(seed), longest, gate)


@pytest.mark.parametrize(
    ("in_chunks", "block"), [(delta_rule_chunked, n) for n in range(20)] + [(delta_rule_folded, n) for n in range(5)]
)
def test_the_algorithms_agree_on_thousands_of_cases(in_chunks, block):
    """Two derivations of one recurrence, and two ways to bracket one, differ by float64 rounding only, row by row."""
    for seed in range(100 * block, 100 * block + 100):
        case = random_case(seed)
        chunk = (1, 3, 16, 64, 128)[seed % 5]
        o, h = delta_rule(*case)
        _, states = delta_rule(*case, every_token=True)
        other_o, other_h = in_chunks(*case, chunk)
        assert worst_error(case, other_o, o, states) < CLOSE, seed
        assert worst_state_error(other_h, h) < CLOSE, seed


@pytest.mark.parametrize("chunk", [1, 2, 5, 16, 64, 100])
def test_folded_chunks_are_exact_to_eleven_digits(chunk):
    """Where little cancels, for chunks that are no power of two either: a block or a row left out would show."""
    for seed in range(40):
        case = random_case(seed, 130)
        case = case._replace(k=case.k * 0.3, state=case.state * 1e-3)
        o, h = delta_rule(*case)
        _, states = delta_rule(*case, every_token=True)
        other_o, other_h = delta_rule_folded(*case, chunk)
        assert worst_error(case, other_o, o, states) < 1e-11, seed
        assert worst_state_error(other_h, h) < 1e-11, seed


@pytest.mark.parametrize("segment", [16, 48, 160])
def test_joined_segments_are_the_whole_row(segment):
    """The same sums in another order, for rows of none, of part of one and of several."""
    for seed in range(40):
        case = random_case(seed, 130)
        case = case._replace(k=case.k * 0.3, state=case.state * 1e-3)
        o, h = delta_rule(*case)
        _, states = delta_rule(*case, every_token=True)
        other_o, other_h = delta_rule_folded(*case, 16, segment=segment)
        assert worst_error(case, other_o, o, states) < 1e-11, seed
        assert worst_state_error(other_h, h) < 1e-11, seed


@pytest.mark.parametrize("seed", range(60))
def test_the_recurrence_is_the_literal_one(seed):
    """Tiles of value columns compute what one line of numpy an operation does, after every token."""
    case = random_case(seed, 70)
    o, states = literal(case)
    got_o, got_states = delta_rule(*case, every_token=True)
    assert worst_error(case, got_o, o, states) < 1e-11
    assert worst_state_error(got_states, states) < 1e-11


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("defect", DEFECTS)
def test_a_wrong_recurrence_is_seen(defect, algorithm):
    """Each planted mistake passes the bound of the tests above by far."""
    rng = np.random.default_rng(5)
    T, H, HV, K, V = 70, 2, 4, 8, 6
    case = DeltaCase(
        *rng.standard_normal((2, 1, T, H, K)) / np.sqrt(K),
        rng.standard_normal((1, T, HV, V)),
        -rng.random((1, T, HV)),
        rng.random((1, T, HV)),
        rng.standard_normal((1, 1, HV, V, K)),
        np.array([0, T]),
    )
    o, states = literal(case, defect)
    assert worst_error(case, algorithm(*case)[0], o, states) > 1e6 * CLOSE


@pytest.mark.parametrize("V", [1, 2, 63, 64, 65, 130])
def test_value_columns_do_not_depend_on_their_neighbours(V):
    """The tile width is no part of the result: a column alone gives the same bits."""
    rng = np.random.default_rng(V)
    q, k = rng.standard_normal((2, 1, 5, 1, 7))
    v, g, beta = rng.standard_normal((1, 5, 2, V)), -rng.random((1, 5, 2)), rng.random((1, 5, 2))
    state, starts = rng.standard_normal((1, 1, 2, V, 7)), np.array([0, 5])
    o, h = delta_rule(q, k, v, g, beta, state, starts)
    for y in {0, V // 2, V - 1}:
        alone = delta_rule(q, k, v[..., y : y + 1], g, beta, state[..., y : y + 1, :], starts)
        assert np.array_equal(alone[0], o[..., y : y + 1])
        assert np.array_equal(alone[1], h[..., y : y + 1, :])


@pytest.mark.parametrize(
    "algorithm", [delta_rule, partial(delta_rule_chunked, chunk=2), partial(delta_rule_folded, chunk=2)]
)
@pytest.mark.parametrize("gate", list(GATES))
def test_both_algorithms_match_exact_arithmetic(gate, algorithm):
    """Fifty digits of the equations, on five tokens and two value heads of one key head."""
    rng = np.random.default_rng(3)
    T, H, HV, K, V = 5, 1, 2, 3, 2
    q, k = rng.standard_normal((2, 1, T, H, K)) / 2
    v, g, beta = rng.standard_normal((1, T, HV, V)), GATES[gate](rng, (1, T, HV)), rng.random((1, T, HV))
    state = rng.standard_normal((1, 1, HV, V, K))
    want = exact.delta_rule(*(x[0].tolist() for x in (q, k, v, g, beta, state[0])))
    got = algorithm(q, k, v, g, beta, state, np.array([0, T]))
    for mine, digits in zip(got, want, strict=True):
        digits = np.array(digits, dtype=float)
        np.testing.assert_allclose(mine.reshape(digits.shape), digits, rtol=1e-13, atol=1e-14)


def fla_naive() -> ModuleType:
    """FLA's plain torch reference, loaded alone: its package asks for a Triton driver on import."""
    package = importlib.util.find_spec("fla")
    if package is None:
        pytest.skip("pip install 'gdn-verify[fla]'")
    path = Path(package.submodule_search_locations[0]) / "ops/gated_delta_rule/naive.py"
    spec = importlib.util.spec_from_file_location("fla_naive", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def transformers_model() -> ModuleType:
    name = "transformers.models.qwen3_next.modeling_qwen3_next"
    return pytest.importorskip(name, reason="pip install 'gdn-verify[transformers]'")


PEERS = {
    "transformers recurrent": lambda: transformers_model().torch_recurrent_gated_delta_rule,
    "transformers chunk": lambda: transformers_model().torch_chunk_gated_delta_rule,
    "fla recurrent": lambda: fla_naive().naive_recurrent_gated_delta_rule,
    "fla chunk": lambda: fla_naive().naive_chunk_gated_delta_rule,
}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("tokens", [1, 7, 130])
@pytest.mark.parametrize("peer", PEERS)
def test_other_hands_agree_in_float32(peer, tokens, algorithm):
    """Their state is K×V, their q unscaled, their heads not grouped: r = 1 here."""
    theirs = inspect.unwrap(PEERS[peer]())  # transformers' name runs FLA's kernel where FLA is installed
    make = torch.Generator().manual_seed(tokens)
    rows, heads, K, V = 2, 3, 16, 8
    q, k = torch.nn.functional.normalize(torch.randn(2, rows, tokens, heads, K, generator=make), dim=-1)
    v = torch.randn(rows, tokens, heads, V, generator=make)
    g, beta = -torch.rand(rows, tokens, heads, generator=make), torch.rand(rows, tokens, heads, generator=make)
    state = torch.randn(rows, heads, K, V, generator=make)
    o, h = theirs(q, k, v, g=g, beta=beta, initial_state=state, output_final_state=True)

    packed = [x.reshape(1, rows * tokens, *x.shape[2:]).numpy() for x in (q * K**-0.5, k, v, g, beta)]
    starts = np.arange(rows + 1) * tokens
    mine_o, mine_h = algorithm(*packed, state.mT[None].numpy(), starts)
    np.testing.assert_allclose(mine_o.reshape(o.shape), o.numpy(), atol=2e-5)
    np.testing.assert_allclose(mine_h[0], h.mT.numpy(), atol=2e-5)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
class TestEdges:
    """What the contract says of rows and gates at their limits."""

    def test_a_row_without_tokens_keeps_its_state(self, algorithm):
        """Bit for bit, in every run, even where the state holds a NaN."""
        case = random_case(1)._replace(query_start_loc=np.array([0, 0, 0]))
        state = np.full((1, 2, *case.state.shape[2:]), np.nan)
        state[0, 1] = -0.0
        _, h = algorithm(*case._replace(state=state), sites=quiet_sites() + 0.1, runs=3)
        assert h.tobytes() == np.repeat(state, 3, axis=0).tobytes()

    def test_tokens_beyond_the_rows_give_zeros(self, algorithm):
        """Padded tokens read nothing, NaN included."""
        case = random_case(2)
        padded = [np.concatenate([x, np.full((1, 3, *x.shape[2:]), np.nan)], 1) for x in case[:5]]
        o, h = algorithm(*padded, *case[5:])
        want_o, want_h = algorithm(*case)
        assert np.array_equal(o[:, :-3], want_o)
        assert not o[:, -3:].any()
        assert np.array_equal(h, want_h)

    def test_a_gate_of_minus_infinity_forgets(self, algorithm):
        """exp(-inf) is 0: what follows does not depend on what was before, and nothing is NaN."""
        case = random_case(8, gate="plain")._replace(query_start_loc=np.array([0, 40]))
        case = DeltaCase(*(x[:, :40] for x in case[:5]), case.state[:, :1], case.query_start_loc)
        case.g[:, 20] = -np.inf
        o, h = algorithm(*case)
        tail = DeltaCase(*(x[:, 20:] for x in case[:5]), 0 * case.state, np.array([0, 20]))
        assert np.isfinite(o).all()
        np.testing.assert_allclose(o[:, 20:], algorithm(*tail)[0], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(h, algorithm(*tail)[1], rtol=1e-9, atol=1e-12)

    def test_powers_of_two_scale_exactly(self, algorithm):
        """v and S₀ times 2ⁿ scale o and h bit for bit; negating them negates."""
        case = random_case(4, 100)
        o, h = algorithm(*case)
        for factor in (2.0**-40, -(2.0**7)):
            scaled = case._replace(v=case.v * factor, state=case.state * factor)
            assert all(np.array_equal(x, y * factor) for x, y in zip(algorithm(*scaled), (o, h), strict=True))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"k": np.zeros((1, 4, 1, 3))}, r"k has shape \(1, 4, 1, 3\), expected \(1 or 1 runs, 4, 2, 3\)"),
            ({"v": np.zeros((1, 4, 3, 2))}, "heads of v is 3, expected a positive multiple of heads of q = 2"),
            ({"g": np.zeros((2, 4, 2))}, r"g has shape \(2, 4, 2\)"),
            ({"state": np.zeros((1, 1, 2, 3, 2))}, "state has shape"),
            ({"beta": np.zeros((1, 4, 2), dtype=np.uint16)}, "beta has dtype uint16, expected a floating-point"),
            ({"query_start_loc": np.array([0, 5])}, "ends at 5, expected at most 4"),
            ({"query_start_loc": np.array([1, 4])}, "expected 0 and then a rising list"),
        ],
    )
    def test_a_wrong_argument_is_named(self, algorithm, change, message):
        """ValueError with the argument, its shape and what was expected."""
        shapes = (1, 4, 2, 3), (1, 4, 2, 3), (1, 4, 2, 2), (1, 4, 2), (1, 4, 2), (1, 1, 2, 2, 3)
        case = DeltaCase(*(np.zeros(shape) for shape in shapes), np.array([0, 4]))
        with pytest.raises(ValueError, match=message):
            algorithm(*case._replace(**change))


@pytest.mark.slow
def test_a_long_prompt_takes_seconds():
    """8192 tokens of a full-size layer cost at most 10 s of processor time: 5 s on two cores."""
    rng = np.random.default_rng(0)
    T, H, HV, K = 8192, 16, 32, 128
    q, k = unit = rng.standard_normal((2, 1, T, H, K))
    unit /= np.linalg.norm(unit, axis=-1, keepdims=True)
    v, g, beta = rng.standard_normal((1, T, HV, K)), -rng.random((1, T, HV)), rng.random((1, T, HV))
    state = np.zeros((1, 1, HV, K, K))
    delta_rule(q[:, :1], k[:, :1], v[:, :1], g[:, :1], beta[:, :1], state, np.array([0, 1]))  # compiles
    begin = time.process_time()
    delta_rule(q, k, v, g, beta, state, np.array([0, T]))
    assert time.process_time() - begin < 10.0
