"""Conv, gates, q/k norm, gated norm and the whole layer against fifty digits; softplus at its extremes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from gdn_verify.oracles import exact, stages
from gdn_verify.oracles.sequential import delta_rule

EXTREMES = [-1e5, -745.2, -709.8, -100.0, -20.0, -1.0, -1e-9, 0.0, 1e-300, 3.0, 19.999, 20.0, 20.001, 88.8, 710.0, 1e5]


def close(got: np.ndarray, digits: list, rtol: float = 1e-14, atol: float = 1e-300) -> None:
    """`got` equals exact numbers up to float64 rounding; 1e-300 forgives underflow only."""
    want = np.array([[float(x) for x in np.ravel(np.array(digits, dtype=object))]])
    np.testing.assert_allclose(np.ravel(got), want[0], rtol=rtol, atol=atol)


def test_gates_at_the_extremes():
    """g and β keep their relative accuracy from exp's underflow to the far side of the threshold."""
    a = np.array(EXTREMES)[None, :, None]
    g, beta = stages.gates(a, a, np.array([0.3]), np.array([0.0]))
    want_g, want_beta = exact.gates(a[0].tolist(), a[0].tolist(), [0.3], [0.0])
    close(g, want_g)
    close(beta, want_beta)


def test_gates_broadcast_their_parameters_over_heads():
    """A_log and dt_bias belong to a head; β may carry a factor; the threshold is the caller's."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 1, 5, 3)) * 4
    A_log, dt_bias = rng.standard_normal((2, 3))
    g, beta = stages.gates(a, b, A_log, dt_bias, beta_scale=2.0)
    want_g, want_beta = exact.gates(a[0].tolist(), b[0].tolist(), A_log.tolist(), dt_bias.tolist(), 2.0)
    close(g, want_g)
    close(beta, want_beta)


def test_the_softplus_threshold_is_where_it_is_said_to_be():
    """20 itself is below it; above, softplus is the identity, bit for bit."""
    x = np.array([[[20.0], [np.nextafter(20.0, 21.0)], [30.0]]])
    g, _ = stages.gates(x, x, np.zeros(1), np.zeros(1))
    assert -g[0, 0, 0] == float(exact.softplus(20.0)) > 20.0
    assert np.array_equal(-g[0, 1:], x[0, 1:])
    g, _ = stages.gates(x, x, np.zeros(1), np.zeros(1), softplus_threshold=np.inf)
    assert (-g >= x).all()


@pytest.mark.parametrize("size", [1e-30, 1e-4, 1.0, 1e18])
def test_qk_norm_matches_exact_arithmetic(size):
    """Far below, around and far above the eps of its square root."""
    q, k = np.random.default_rng(1).standard_normal((2, 1, 3, 2, 5)) * size
    got = stages.qk_norm(q, k, 5**-0.5)
    for mine, x, scale in zip(got, (q, k), (5**-0.5, 1.0), strict=True):
        close(mine, [exact.unit(vector, scale) for vector in x.reshape(-1, 5).tolist()])


def test_without_a_norm_only_q_is_scaled():
    """Vectors that arrive normalised are not touched again."""
    q, k = np.random.default_rng(2).standard_normal((2, 1, 3, 2, 5))
    q_hat, k_hat = stages.qk_norm(q, k, 0.25, normalise=False)
    assert np.array_equal(q_hat, q * 0.25)
    assert np.array_equal(k_hat, k)


@pytest.mark.parametrize("act", ["silu", "sigmoid"])
def test_gated_norm_matches_exact_arithmetic(act):
    """Weight over the value dimension, gate from extremes to extremes, an all-zero head included."""
    rng = np.random.default_rng(3)
    o, weight = rng.standard_normal((1, 4, 1, 4)) * [[[[1.0]], [[1e-8]], [[1e9]], [[0.0]]]], rng.standard_normal(4)
    z = np.array(EXTREMES).reshape(1, 4, 1, 4)
    got = stages.gated_norm(o, z, weight, 1e-6, act)
    want = [exact.gated_norm(*heads, weight.tolist(), 1e-6, act) for heads in zip(o[0, :, 0], z[0, :, 0], strict=True)]
    close(got, want)


@pytest.mark.parametrize("act", [True, False])
@pytest.mark.parametrize("W", [1, 2, 4])
def test_conv_matches_exact_arithmetic_per_row(W, act):
    """Ragged rows read their own history and never a neighbour's tokens; the newest tap is the last."""
    rng = np.random.default_rng(W)
    D, starts = 3, np.array([0, 1, 1, 6])
    x, weight, bias = rng.standard_normal((1, 6, D)), rng.standard_normal((D, W)), rng.standard_normal(D)
    history = rng.standard_normal((3, D, W - 1))
    y = stages.causal_conv(x, weight, bias, history, starts, act)
    for row, (start, end) in enumerate(pairwise(starts)):
        part = x[0, start:end].tolist()
        want = exact.causal_conv(part, weight.tolist(), bias.tolist(), history[row].tolist(), act)
        close(y[0, start:end], want, rtol=1e-13, atol=1e-15)


def test_conv_without_bias_and_beyond_the_rows():
    """No bias is a bias of zero; tokens beyond the rows give zeros."""
    rng = np.random.default_rng(9)
    x, weight, history = rng.standard_normal((1, 5, 2)), rng.standard_normal((2, 4)), np.zeros((1, 2, 3))
    y = stages.causal_conv(x, weight, None, history, np.array([0, 3]), True)
    assert np.array_equal(y, stages.causal_conv(x, weight, np.zeros(2), history, np.array([0, 3]), True))
    assert not y[0, 3:].any()


def test_the_composed_layer_matches_exact_arithmetic():
    """conv, gates, norms and the recurrence, one after the other, on four tokens."""
    rng = np.random.default_rng(4)
    H, HV, K, V, W, T = 1, 2, 3, 2, 4, 4
    D, starts = 2 * H * K + HV * V, np.array([0, T])
    x, a, b = rng.standard_normal((1, T, D)), *rng.standard_normal((2, 1, T, HV))
    z, state = rng.standard_normal((1, T, HV, V)), rng.standard_normal((1, 1, HV, V, K))
    weight, bias, history = rng.standard_normal((D, W)), rng.standard_normal(D), rng.standard_normal((1, D, W - 1))
    A_log, dt_bias, gamma = rng.standard_normal(HV), rng.standard_normal(HV), rng.standard_normal(V)

    y = stages.causal_conv(x, weight, bias, history, starts, True)
    q, k, v = np.split(y, [H * K, 2 * H * K], axis=-1)
    q_hat, k_hat = stages.qk_norm(q.reshape(1, T, H, K), k.reshape(1, T, H, K), K**-0.5)
    g, beta = stages.gates(a, b, A_log, dt_bias)
    o, h = delta_rule(q_hat, k_hat, v.reshape(1, T, HV, V), g, beta, state, starts)
    out = stages.gated_norm(o, z, gamma, 1e-5, "silu")

    inputs = (array[0].tolist() for array in (x, z, b, a))
    conv = (weight.tolist(), bias.tolist(), history[0].tolist())
    gate, norm = (A_log.tolist(), dt_bias.tolist()), (gamma.tolist(), 1e-5, "silu")
    want_out, want_h = exact.layer(*inputs, conv, gate, norm, state[0, 0].tolist(), H)
    close(out, want_out, rtol=1e-12, atol=1e-14)
    close(h, want_h, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: stages.gates(x, x[:, 1:], x[0, 0], x[0, 0]), r"b has shape \(1, 2, 4\), expected \(1 or 1"),
        (lambda x: stages.gates(x, x, x[0, 0, 1:], x[0, 0]), r"A_log has shape \(3,\), expected \(4\)"),
        (lambda x: stages.gates(x, x, x[0, 0], x[0, 0], runs=0), "runs is 0"),
        (lambda x: stages.gates(x, x, x[0, 0], x[0, 0], sites=x[0]), "sites has shape"),
        (lambda x: stages.gates(x.astype(int), x, x[0, 0], x[0, 0]), "a has dtype int64"),
        (lambda x: stages.qk_norm(x[..., None], x[..., None, None], 1.0), "k has shape"),
        (lambda x: stages.gated_norm(x[..., None], x[..., None], np.ones(1), 1e-6, "tanh"), "act is 'tanh'"),
        (lambda x: stages.causal_conv(x, np.ones((5, 2)), None, x, np.array([0]), True), "x has shape"),
        (
            lambda x: stages.causal_conv(x, np.ones((4, 2)), None, np.zeros((1, 4, 2)), np.array([0, 3]), True),
            r"history has shape \(1, 4, 2\), expected \(1, 4, 1\)",
        ),
    ],
)
def test_a_wrong_argument_is_named(call, message):
    """ValueError with the argument, its shape and what was expected."""
    with pytest.raises(ValueError, match=message):
        call(np.zeros((1, 3, 4)))
