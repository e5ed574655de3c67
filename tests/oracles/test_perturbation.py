"""Monte Carlo arithmetic: clean runs, live sites, sizes of the noise, and what random numbers depend on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from oracle_cases import unit_keys

from gdn_verify.oracles import _compiled, sequential, stages
from gdn_verify.oracles._folded import _decays_by_blocks
from gdn_verify.oracles._noise import noise_of
from gdn_verify.oracles.chunked import delta_rule_chunked
from gdn_verify.oracles.sequential import delta_rule
from gdn_verify.oracles.sites import Site, quiet_sites

Stage = Callable[..., tuple[np.ndarray, ...]]


def delta_inputs(T: int = 20) -> tuple[np.ndarray, ...]:
    """Two rows (of T - 3 and 3 tokens), two value heads of one key head, K = 5, V = 4."""
    rng = np.random.default_rng(0)
    q, k = unit_keys(rng, (2, 1, T, 1, 5), 0.5)
    v, g, beta = rng.standard_normal((1, T, 2, 4)), -rng.random((1, T, 2)), rng.random((1, T, 2))
    return q, k, v, g, beta, rng.standard_normal((1, 2, 2, 4, 5)), np.array([0, T - 3, T])


def conv(sites: np.ndarray, seed: int = 1, runs: int = 2, first: int = 0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(1)
    x, weight, bias = rng.standard_normal((1, 9, 6)), rng.standard_normal((6, 4)), rng.standard_normal(6)
    history = rng.standard_normal((2, 6, 3))
    return (stages.causal_conv(x, weight, bias, history, np.array([0, 4, 9]), True, sites, seed, runs, first),)


def gates(sites: np.ndarray, seed: int = 1, runs: int = 2, first: int = 0) -> tuple[np.ndarray, ...]:
    a, b = np.random.default_rng(2).standard_normal((2, 1, 9, 3))
    return stages.gates(a, b, np.zeros(3), np.zeros(3), sites, seed, runs, first=first)


def norm(sites: np.ndarray, seed: int = 1, runs: int = 2, first: int = 0) -> tuple[np.ndarray, ...]:
    q, k = np.random.default_rng(3).standard_normal((2, 1, 9, 3, 5))
    return stages.qk_norm(q, k, 0.5, sites=sites, seed=seed, runs=runs, first=first)


def by_token(sites: np.ndarray, seed: int = 1, runs: int = 2, first: int = 0) -> tuple[np.ndarray, ...]:
    return delta_rule(*delta_inputs(), sites, seed, runs, first=first)


def in_chunks(sites: np.ndarray, seed: int = 1, runs: int = 2, first: int = 0) -> tuple[np.ndarray, ...]:
    return delta_rule_chunked(*delta_inputs(), 8, sites, seed, runs, first=first)


def folded(sites: np.ndarray, seed: int = 1, runs: int = 2, first: int = 0) -> tuple[np.ndarray, ...]:
    return delta_rule_chunked(*delta_inputs(), 8, sites, seed, runs, first=first, folded=True)


def joined(sites: np.ndarray, seed: int = 1, runs: int = 2, first: int = 0) -> tuple[np.ndarray, ...]:
    return delta_rule_chunked(*delta_inputs(), 4, sites, seed, runs, first=first, folded=True, segment=4)


def gated_norm(sites: np.ndarray, seed: int = 1, runs: int = 2, first: int = 0) -> tuple[np.ndarray, ...]:
    o, z = np.random.default_rng(4).standard_normal((2, 1, 9, 3, 5))
    return (stages.gated_norm(o, z, np.ones(5), 1e-6, "silu", sites, seed, runs, first),)


STAGES: list[Stage] = [conv, gates, norm, by_token, in_chunks, folded, joined, gated_norm]
BOTH, FIRST, SECOND = (True, True), (True, False), (False, True)

# What each site moves when it alone is perturbed: (g, β), (q̂, k̂) or (o, h).
LIVE: list[tuple[Stage, tuple[bool, ...], str]] = [
    (conv, (True,), "CONV_TAP CONV_SUM CONV_ACT CONV_OUT"),
    (gates, FIRST, "GATE_SUM SOFTPLUS GATE"),
    (gates, SECOND, "BETA_SIGMOID BETA"),
    (norm, BOTH, "QK_SUM QK_NORM LENGTH"),
    (by_token, BOTH, "STATE_DECAY STATE_UPDATE DECAY_EXPONENT DECAY SNAPSHOT HK_DOT U"),
    (by_token, FIRST, "OUT Q_DOT"),
    (by_token, SECOND, "STORE"),
    (in_chunks, BOTH, "STATE_DECAY STATE_UPDATE CUMGATE DECAY_EXPONENT GATE_EXP KK_DOT KK INVERSE_DOT INVERSE"),
    (in_chunks, BOTH, "BETA_V BETA_K"),
    (in_chunks, BOTH, "U_DOT U_CHUNK W_DOT W SOLVE_DOT H_SNAPSHOT WH_DOT V_TAIL KV_DOT"),
    (in_chunks, FIRST, "OUT V_NEW QH_DOT QK_DOT QK PV_DOT"),
    (in_chunks, SECOND, "STORE"),
    (folded, BOTH, "CUMGATE DECAY_EXPONENT GATE_EXP KK_DOT KK INVERSE_DOT H_SNAPSHOT STATE_DECAY"),
    (folded, BOTH, "OPERAND_K INVERSE_OPERAND KH_DOT KH FRESH FRESH_H_DOT"),
    (folded, BOTH, "FOLDED_TAIL FOLDED_W_DOT HANDED_W"),
    (folded, FIRST, "OUT QK_DOT QK QH_DOT QH FOLDED_X FOLDED_B_DOT HANDED_B FRESH_O_DOT"),
    (folded, SECOND, "STORE"),
    (joined, BOTH, "JOIN_DOT KH_DOT KH FRESH FRESH_H_DOT H_SNAPSHOT STATE_DECAY HANDED_W"),
    (joined, FIRST, "OUT QK_DOT QK QH_DOT QH FOLDED_X FOLDED_B_DOT HANDED_B FRESH_O_DOT"),
    (joined, SECOND, "STORE"),
    (gated_norm, (True,), "NORM_SUM NORM_SCALE NORM_VALUE NORM_GATE NORM_OUT"),
]
SINGLE = [
    pytest.param(stage, moved, Site[name], id=f"{stage.__name__}-{name}")
    for stage, moved, names in LIVE
    for name in names.split()
]


def test_every_site_is_listed():
    """A new site comes with what it moves."""
    assert {name for _, _, names in LIVE for name in names.split()} == set(Site.__members__)


def only(site: Site, u: float, eta: float = 0.0) -> np.ndarray:
    sites = quiet_sites()
    sites[site] = u, eta
    return sites


@pytest.mark.parametrize(("stage", "moved", "site"), SINGLE)
@pytest.mark.parametrize(("u", "eta"), [(1e-4, 0.0), (0.0, 1e-4)])
def test_a_site_alone_moves_its_outputs_and_no_others(stage, moved, site, u, eta):
    """Run 0 stays clean; u and eta are both live."""
    if eta and site in (Site.DECAY_EXPONENT,):
        u = 1e-4
    for clean, noisy, moves in zip(stage(quiet_sites()), stage(only(site, u, eta)), moved, strict=True):
        assert np.array_equal(clean[0], noisy[0])
        assert np.array_equal(clean[1], noisy[1]) != moves


@pytest.mark.parametrize(("stage", "moved", "site"), SINGLE)
def test_the_noise_is_proportional_to_u(stage, moved, site):
    """Ten times the roundoff moves the outputs ten times as far, over many runs (a moved value draws anew)."""
    small, large = (
        np.sqrt(np.mean([np.square(x[1:] - x[:1]).sum() for x in stage(only(site, u), runs=513)])) for u in (1e-7, 1e-6)
    )
    assert large > 0.0
    assert 8.0 < large / small < 12.5


@pytest.mark.parametrize("stage", STAGES)
class TestRuns:
    """What a run's bits may depend on: the seed and its own number."""

    def test_without_sites_every_run_is_the_clean_one(self, stage):
        """u = eta = 0 is exact, bit for bit, not merely small."""
        for x in stage(quiet_sites(), runs=3):
            assert x[1].tobytes() == x[2].tobytes() == x[0].tobytes()

    def test_a_run_does_not_depend_on_how_many_there_are(self, stage):
        """Three runs are the first three of five, and one run is the clean one."""
        noise = quiet_sites() + 1e-6
        for one, three, five in zip(stage(noise, runs=1), stage(noise, runs=3), stage(noise, runs=5), strict=True):
            assert np.array_equal(one, three[:1])
            assert np.array_equal(three, five[:3])

    def test_runs_may_begin_anywhere(self, stage):
        """The third and fourth of five are what they are by themselves; so is the clean one."""
        noise = quiet_sites() + 1e-6
        for five, two, one in zip(
            stage(noise, runs=5), stage(noise, runs=2, first=2), stage(noise, runs=1), strict=True
        ):
            assert np.array_equal(two, five[2:4])
            assert np.array_equal(one, five[:1])

    def test_the_seed_decides(self, stage):
        """The same seed repeats every bit; another moves every perturbed run."""
        noise = quiet_sites() + 1e-6
        for first, again, other in zip(stage(noise, 1, 3), stage(noise, 1, 3), stage(noise, 2, 3), strict=True):
            assert np.array_equal(first, again)
            assert np.array_equal(first[0], other[0])
            assert not np.array_equal(first[1], other[1])
            assert not np.array_equal(first[1], first[2])

    def test_any_integer_is_a_seed(self, stage):
        """Negative and 64-bit seeds work, and compile nothing new."""
        noise = quiet_sites() + 1e-6
        outputs = [stage(noise, seed)[0][1].tobytes() for seed in (-1, 0, 2**63 - 2, 2**64 + 5)]
        assert len(set(outputs)) == 4

    @pytest.mark.parametrize("threads", [2, 5])
    def test_threads_do_not_change_a_bit(self, stage, threads, monkeypatch):
        """The same compiled code runs the same tasks, in whatever order."""
        noise = quiet_sites() + 1e-6
        serial = stage(noise, runs=4)
        monkeypatch.setattr(_compiled, "PARALLEL_WORK", 0)
        monkeypatch.setattr(_compiled.numba.config, "NUMBA_NUM_THREADS", threads)
        assert all(np.array_equal(x, y) for x, y in zip(serial, stage(noise, runs=4), strict=True))


def test_inputs_may_differ_per_run():
    """A stage fed with the perturbed runs of the one before treats each as if it came alone."""
    *tensors, starts = delta_inputs()
    rng = np.random.default_rng(6)
    stacked = [np.concatenate([x, x * (1 + 1e-3 * rng.random(x.shape))]) for x in tensors]
    for algorithm in (delta_rule, delta_rule_chunked, partial(delta_rule_chunked, folded=True)):
        together = algorithm(*stacked, starts, runs=2)
        for run in range(2):
            alone = algorithm(*(x[run : run + 1] for x in stacked), starts)
            assert all(np.array_equal(x[run], y[0]) for x, y in zip(together, alone, strict=True))


def test_a_states_last_token_is_the_final_state():
    """With noise too: the stored rounding belongs to the token, not to how states were asked for."""
    noise = quiet_sites() + 1e-3
    inputs = delta_inputs()
    _, states = delta_rule(*inputs, noise, 1, 3, every_token=True)
    o, final = delta_rule(*inputs, noise, 1, 3)
    assert np.array_equal(states[:, inputs[-1][1:] - 1], final)
    assert o.shape == (3, 20, 2, 4)


def test_the_random_numbers_are_uniform_and_independent():
    """Relative errors of one site: mean 0, spread u / √3, inside [-u, u], uncorrelated between runs and elements."""
    x = 1.0 + np.random.default_rng(9).random((1, 200, 1, 50))
    q, k = stages.qk_norm(x, x, 2.0, normalise=False, sites=only(Site.QK_NORM, 0.5), runs=3)
    eps = (q[1:].reshape(2, -1) / (2.0 * x.reshape(1, -1)) - 1.0) / 0.5
    assert np.array_equal(k, np.repeat(x, 3, axis=0))
    assert np.abs(eps).max() <= 1.0
    assert np.abs(eps).max() > 0.99
    assert np.abs(eps.mean(axis=1)).max() < 0.03
    np.testing.assert_allclose(eps.std(axis=1), 3**-0.5, rtol=0.02)
    neighbours = np.stack([eps[0, :-1], eps[0, 1:], eps[1, :-1]])
    assert np.abs(np.corrcoef(neighbours) - np.eye(3)).max() < 0.05


def test_equal_values_round_alike():
    """Rounding is a function: a value that comes back, negated or doubled too, has the same relative error."""
    x = np.random.default_rng(7).standard_normal((1, 1, 1, 5))
    rows = np.concatenate([x, x, -x, 4.0 * x], axis=1)
    y, _ = stages.qk_norm(rows, rows, 0.5, normalise=False, sites=only(Site.QK_NORM, 1e-3), runs=2)
    error = y[1] / y[0]
    assert np.array_equal(error, np.broadcast_to(error[:1], error.shape))
    assert len(np.unique(error)) == 5


def test_a_row_of_equal_tokens_gathers_its_errors():
    """With g = 0 and orthogonal writes, T equal values v err T times as far, not √T times."""
    T = K = 16
    k, v = np.eye(T)[None, :, None, :], np.full((1, T, 1, 1), 1.2345)
    zero, state = np.zeros((1, T, 1)), np.zeros((1, 1, 1, 1, K))
    _, h = delta_rule(k, k, v, zero, zero + 1.0, state, np.array([0, T]), only(Site.U, 1e-3), 1, 513)
    total = (h[1:] - h[:1]).sum(axis=-1)
    assert total.std() == pytest.approx(T * 1.2345 * 1e-3 / 3**0.5, rel=0.1)


def test_halves_of_denormals_tie_one_way():
    """silu(x) = x/2 + x²/4 of odd multiples of float16's spacing: each rounds up by half a spacing, and so all do."""
    x = 2.0**-24 * np.arange(1, 1025, 2)
    sites = quiet_sites()
    sites[Site.CONV_OUT] = 2.0**-11, 2.0**-25
    weight, nothing = np.ones((512, 1)), np.zeros((1, 512, 0))
    clean, *noisy = stages.causal_conv(x[None, None], weight, None, nothing, np.array([0, 1]), True, sites, 1, 33)
    errors = np.float16(clean).astype(float) - clean
    assert errors.sum() > 500 * 2.0**-25
    spread = np.sqrt(np.mean([np.square((run - clean).sum()) for run in noisy]))
    assert 0.5 < errors.sum() / spread < 2


@pytest.mark.parametrize("V", [3, 70])
def test_an_accumulation_is_a_random_walk(V):
    """With β = 0 and g = 0, o = S₀ q̂ has the amplitude u √(Σ product² + Σ partial sum²), on either tile."""
    rng, K, runs, u = np.random.default_rng(8), 6, 2000, 1e-3
    q, state, zero = rng.standard_normal((1, 1, 1, K)), rng.standard_normal((1, 1, 1, V, K)), np.zeros((1, 1, 1))
    o, _ = delta_rule(q, q, np.zeros((1, 1, 1, V)), zero, zero, state, np.array([0, 1]), only(Site.Q_DOT, u), 1, runs)
    products = state[0, 0, 0] * q[0, 0, 0]
    amplitude = u * np.sqrt((products**2).sum(-1) + (products.cumsum(-1) ** 2).sum(-1))
    farthest = np.abs(o - o[:1]).max(axis=0)[0, 0]
    assert (farthest <= amplitude * (1 + 1e-9)).all()
    assert (farthest > 0.98 * amplitude).all()


def test_softplus_errs_by_u_absolute():
    """Its inner sum is near 1 for a negative argument, so the error does not shrink with softplus itself."""
    a = np.linspace(-31.0, -29.0, 500).reshape(1, 500, 1)
    g, _ = stages.gates(a, a, np.zeros(1), np.zeros(1), only(Site.SOFTPLUS, 1e-7), runs=2)
    error = np.abs(g[1] - g[0]).max()
    assert 0.9e-7 < error <= 1.0001e-7
    a[:] = 21.0
    g, _ = stages.gates(a, a, np.zeros(1), np.zeros(1), only(Site.SOFTPLUS, 1e-2), runs=2)
    assert np.array_equal(g[0], g[1])


def folded_with(site: Site, u: float, eta: float = 0.0, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Both rows of `delta_inputs` as one folded chunk each, q multiplied by `scale`."""
    q, *others = delta_inputs()
    sites = only(site, u, eta)
    return delta_rule_chunked(q * scale, *others, 32, sites, 1, 9, folded=True, scale=scale)


def test_unit_keys_round_in_w_alone():
    """A chunk hands them on to the next state; its own outputs are of k as it comes."""
    o, h = folded_with(Site.OPERAND_K, 1e-3)
    assert np.array_equal(o[1:], np.broadcast_to(o[:1], o[1:].shape))
    assert not np.array_equal(h[1], h[0])


@pytest.mark.parametrize("site", [Site.QK, Site.FOLDED_X])
def test_the_scale_of_q_meets_no_operand(site):
    """A scale of 2⁻³⁰ does not sink what rounds in front of it to underflow: the error is 2⁻³⁰ times as large."""
    small, large = (folded_with(site, 0.0, 1e-4, scale)[0] for scale in (2.0**-30, 1.0))
    np.testing.assert_allclose(small * 2.0**30, large, rtol=0, atol=1e-12)
    assert np.abs(large[1:] - large[:1]).max() > 1e-5


def test_decays_from_block_to_block_are_two_factors():
    """Each of which rounds: the errors between two blocks of 16 tokens are those of a row times those of a column."""
    G = -0.1 * np.cumsum(np.random.default_rng(10).random(40))
    runs = (noise_of(run, only(Site.GATE_EXP, 1e-3), 1) for run in (0, 1))
    clean, noisy = (_decays_by_blocks(G, (levels, np.uint64(key))) for levels, key in runs)
    np.testing.assert_allclose(clean, np.tril(np.exp(np.minimum(G[:, None] - G, 0))), rtol=1e-14)
    error = noisy[16:32, :16] / clean[16:32, :16]
    np.testing.assert_allclose(error, error[:, -1:] * error[:1] / error[0, -1], rtol=1e-13)
    assert len(np.unique(error[0])) == 16
    assert np.linalg.matrix_rank(noisy[:16, :16] / np.where(clean, clean, 1)[:16, :16] - 1, tol=1e-9) > 8
    assert np.array_equal(np.diagonal(noisy), np.ones(40))


def test_a_length_errs_for_its_whole_vector():
    """One factor a vector, of up to u: its elements stay in proportion."""
    q, k = np.random.default_rng(3).standard_normal((2, 1, 9, 3, 5))
    for unit in stages.qk_norm(q, k, 0.5, sites=only(Site.LENGTH, 1e-3), runs=3):
        error = unit[1:] / unit[:1] - 1.0
        np.testing.assert_allclose(error, np.broadcast_to(error[..., :1], error.shape), rtol=0, atol=1e-14)
        assert 5e-4 < np.abs(error).max() < 1.002e-3


def test_the_cumulative_gate_errs_by_its_own_size():
    """After a gate of -150, a later e^{G_i-G_j} of order 1 is off by 150 u: what a chunk kernel suffers."""
    *tensors, _ = delta_inputs(20)
    starts, g = np.array([0, 20, 20]), np.full((1, 20, 2), -0.01)
    spread = []
    for first in (-0.01, -150.0):
        g[:, 0] = first
        o, _ = delta_rule_chunked(*tensors[:3], g, *tensors[4:], starts, 64, only(Site.CUMGATE, 1e-9), 1, 32)
        spread.append(np.abs(o[:, 10:] - o[:1, 10:]).max())
    assert spread[1] > 100 * spread[0]


def test_a_kernel_is_recompiled_when_a_helper_changes():
    """The cache stamp of a kernel covers the files of its helpers; numba's own covers one file."""
    cache_file = sequential._scan._cache._cache_file
    assert cache_file._source_stamp[1] == _compiled._shared_stamp()
