"""Recipes give the same bits everywhere, inside the contract's domain; tensors have their stated shapes."""

import hashlib
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from gdn_verify.cases import problem, values
from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.contract import DType, DTypes, Geometry, Options, Span, Stage
from gdn_verify.cases.presentation import Presentation
from gdn_verify.cases.values import Betas, Fill, Gates, States, Taps, Values, Vectors

SHAPE = (5, 3, 16)
SPIKE = values.spikes(7, (2, 0, 3), 3)


def digest(array: values.Array) -> str:
    return hashlib.sha256(np.ascontiguousarray(array, dtype="<f8").tobytes()).hexdigest()[:16]


GOLDEN = {
    "fill zeros": "155e437b946ac82a",
    "fill ones": "3f12853df4f558ba",
    "fill one-hot": "bf9c13474ea154fa",
    "fill small integers": "8c71e06f40f75ce8",
    "fill normal": "b0ad821044a0b1c6",
    "vectors ones": "3f12853df4f558ba",
    "vectors one-hot": "bf9c13474ea154fa",
    "vectors small integers": "8c71e06f40f75ce8",
    "vectors normal": "b0ad821044a0b1c6",
    "vectors correlated": "6b14e1ed17541ecc",
    "vectors tiny norm": "45d2889cc85d09c1",
    "vectors huge norm": "9545d32d7f50be97",
    "states zeros": "a8eac8b0d3b1fde3",
    "states one-hot": "26faa71353941b03",
    "states small integers": "b6bde72c12fe30aa",
    "states normal": "4ab972498767c028",
    "states large": "bed42772ed1b9d5d",
    "states asymmetric": "f9e28e56fd9085a5",
    "g zero": "d165a2ff7ce641bf",
    "g halving": "8af83e0ddf0823d5",
    "g weak": "42af7209e71eaf9e",
    "g normal": "4aaa56d113935b5e",
    "g sparse": "582d1b42acb21fbd",
    "g strong": "aeb99e36b3f79af3",
    "g single spike": "d77ca546e6b3ff3f",
    "g softplus saturated low": "ee19131e3effd031",
    "g softplus saturated high": "70b95138d113207b",
    "a zero": "9de414bc9f33f71a",
    "a halving": "6edd9f6f9cc92cde",
    "a weak": "8fbf74aac4d4bf1c",
    "a normal": "1dd4f31c0d23c9ce",
    "a sparse": "57bfbabc305e5e52",
    "a strong": "266c38e4d50b5230",
    "a single spike": "ce7050ef8f42c95f",
    "a softplus saturated low": "02d1c60ed020f603",
    "a softplus saturated high": "a026a0a1572f38ca",
    "beta half": "738b6b87314b6ade",
    "beta normal": "6fbdb8901d5f7ef6",
    "beta near 0": "0e2b7a365a5a1666",
    "beta near 1": "16778d7f6886a1ec",
    "b half": "6edd9f6f9cc92cde",
    "b normal": "bfe7b7cce71d15f5",
    "b near 0": "cc97d29f13b7273a",
    "b near 1": "614c3c6d1ec24157",
    "taps identity": "cd7f698af0acd0c2",
    "taps mean": "30219dfc407a1379",
    "taps normal": "dbd8303dc9492064",
    "unit": "f1d481eee07fd03a",
    "spikes": "0387fa3ca9bfd8f9",
}


def made() -> dict[str, values.Array]:
    """One small tensor of every recipe."""
    out = {f"fill {r}": values.fill(r, 7, "x", SHAPE) for r in Fill}
    out |= {f"vectors {r}": values.vectors(r, 7, "x", SHAPE) for r in Vectors}
    out |= {f"states {r}": values.states(r, 7, "x", (2, *SHAPE)) for r in States}
    out |= {f"g {r}": values.log_decay(r, 7, "x", SPIKE) for r in Gates}
    out |= {f"a {r}": values.raw_gate(r, 7, "x", SPIKE) for r in Gates}
    out |= {f"beta {r}": values.beta(r, 7, "x", SPIKE.shape) for r in Betas}
    out |= {f"b {r}": values.raw_beta(r, 7, "x", SPIKE.shape) for r in Betas}
    out |= {f"taps {r}": values.taps(r, 7, "x", (6, 4)) for r in Taps}
    return out | {"unit": values.unit(values.normal(7, "x", SHAPE)), "spikes": SPIKE}


def test_bits_are_the_same_everywhere() -> None:
    """The hash of each recipe's bits is pinned: stored cases mean what they meant, on every machine."""
    assert {name: digest(array) for name, array in made().items()} == GOLDEN


def test_an_element_depends_on_its_own_index_alone() -> None:
    """More rows or heads only append; name and seed tell tensors apart."""
    assert np.array_equal(values.normal(1, "x", (9, 4))[:5], values.normal(1, "x", (5, 4)))
    assert not np.array_equal(values.normal(1, "x", (5, 4)), values.normal(2, "x", (5, 4)))
    assert not np.array_equal(values.normal(1, "x", (5, 4)), values.normal(1, "y", (5, 4)))


def test_numbers_are_distributed_as_said() -> None:
    """Uniform on [0, 1), normal with mean 0 and variance 1 within ±3.47, integers -3…3."""
    u, n, i = (f(3, "x", (200_000,)) for f in (values.uniform, values.normal, values.integers))
    assert 0 <= u.min() < 1e-4 < 1 - 1e-4 < u.max() < 1
    assert abs(u.mean() - 0.5) < 0.003
    assert abs(n.mean()) < 0.01
    assert abs(n.var() - 1) < 0.02
    assert abs(n).max() < 3.47
    assert set(i) == set(range(-3, 4))


@pytest.mark.parametrize("recipe", Gates)
def test_gates_stay_legal(recipe: Gates) -> None:
    """-200 ≤ g ≤ 0, both given and computed from a, A_log and dt_bias; zero is exactly zero where promised."""
    spike = values.spikes(3, (64, 1, 300), 8)
    g = values.log_decay(recipe, 3, "g", spike)
    a = values.raw_gate(recipe, 3, "a", spike)
    low, high = values.A_LOG[recipe]
    assert -200 <= g.min() <= g.max() <= 0
    worst = -np.exp(high) * np.logaddexp(0, a.max() + 0.25)
    assert worst >= -200
    assert low <= high
    if recipe in (Gates.ZERO, Gates.SPARSE):
        assert (g == 0).any()


def test_a_halving_gate_keeps_one_half() -> None:
    """Given, and computed: softplus(0) is log 2, and a bias would hide what happens at 0."""
    assert (np.exp(values.log_decay(Gates.HALVING, 3, "g", SPIKE)) == 0.5).all()
    assert not values.raw_gate(Gates.HALVING, 3, "a", SPIKE).any()
    assert not values.gate_bias(Gates.HALVING, 3, "dt_bias", (8,)).any()


@pytest.mark.parametrize("recipe", Betas)
def test_beta_stays_within_0_and_1(recipe: Betas) -> None:
    """β itself; b is finite."""
    given = values.beta(recipe, 3, "beta", (200, 4))
    assert 0 <= given.min() <= given.max() <= 1
    assert np.isfinite(values.raw_beta(recipe, 3, "b", (200, 4))).all()


def test_a_spike_marks_one_token_of_each_row_and_head() -> None:
    """Empty rows have none."""
    marks = values.spikes(5, (4, 0, 1, 9), 6)
    assert [part.sum(axis=0).tolist() for part in np.split(marks, [4, 5])] == [[1.0] * 6] * 3


def test_vectors_are_what_their_names_say() -> None:
    """Tiny ones lie near the norm's eps, huge ones fit float16, correlated ones share a direction."""
    tiny, huge, like = (
        values.vectors(r, 3, "k", (50, 2, 64)) for r in (Vectors.TINY, Vectors.HUGE, Vectors.CORRELATED)
    )
    assert 0.3e-6 < (tiny**2).sum(-1).mean() < 3e-6
    assert 1e4 < abs(huge).max() < DType.F16.largest
    assert (huge**2).sum(-1).max() < 1e38
    directions = values.unit(like)
    assert np.einsum("thk,hk->th", directions, directions[0]).min() > 0.95


def delta(case: Case) -> float:
    """The largest |o| and |h| of a case's one row at the delta edge, token by token."""
    span = Span(Stage.DELTA, Stage.DELTA)
    x, h = problem.activations(case, 0, span), problem.pools(case, span)["ssm"][0]
    q, k = values.unit(x["q"]) * case.options.q_scale(case.geometry), values.unit(x["k"])
    largest = 0.0
    for t in range(len(q)):
        h = h * np.exp(x["g"][t])[:, None, None]
        u = x["beta"][t][:, None] * (x["v"][t] - h @ k[t, 0])
        h = h + u[:, :, None] * k[t, 0]
        largest = max(largest, abs(h).max(), abs(h @ q[t, 0]).max())
    return largest


@pytest.mark.parametrize("state", [States.LARGE, States.ASYMMETRIC])
def test_outputs_and_states_stay_far_from_float16s_limit(state: States) -> None:
    """Below 10⁴ for every recipe of k and β, β up to 2, a scale of 2 and the largest geometry."""
    g = Geometry(1, 1, 256, 256)
    for k, beta in product(Vectors, (Betas.NEAR_ONE, Betas.NORMAL)):
        recipe = Values(1, Vectors.NORMAL, k, Fill.NORMAL, Gates.ZERO, beta, state)
        case = Case(g, DTypes(), 1, (Batch((Row(40, (0,)),)),), recipe, Options(scale=2.0, beta_scale=2.0))
        assert delta(case) < 1e4


def test_float16_holds_every_conv_output_that_is_generated() -> None:
    """Huge inputs under the taps that stay allowed, at the widest conv drawn and with a bias."""
    for taps in (Taps.IDENTITY, Taps.MEAN):
        bound = abs(values.taps(taps, 3, "w", (100, 5))).sum(axis=1).max() * 3.47 * 2**12 + 0.35
        assert bound < DType.F16.largest


CASE = Case(
    Geometry(2, 6, 8, 12, num_spec=1),
    DTypes(),
    5,
    (Batch((Row(3, (4,)), Row(0, (1,)), Row(1, (None,))), pad_tokens=2),),
    Values(seed=3, q=Vectors.NORMAL, k=Vectors.NORMAL, v=Fill.NORMAL, state=States.NORMAL, conv=Taps.NORMAL),
    Options(conv_bias=True),
)
T, D = 6, 2 * 2 * 8 + 6 * 12
SHAPES = {
    "x": (T, D),
    "q": (T, 2, 8),
    "k": (T, 2, 8),
    "v": (T, 6, 12),
    "z": (T, 6, 12),
    "o": (T, 6, 12),
    **dict.fromkeys("ab", (T, 6)),
    **dict.fromkeys(("g", "beta"), (T, 6)),
    "conv_weight": (D, 4),
    "conv_bias": (D,),
    "A_log": (6,),
    "dt_bias": (6,),
    "norm_weight": (12,),
    "ssm": (5, 6, 12, 8),
    "conv": (5, D, 4),
}


@pytest.mark.parametrize(
    ("first", "names"), [("unpack", "xbaz"), ("conv", "xbaz"), ("gates", "qkvbaz"), ("delta", ""), ("norm", "oz")]
)
def test_tensors_at_an_edge_have_their_shapes(first: str, names: str) -> None:
    """Padding tokens included; every stage of the span has its weights and pools."""
    span = Span(Stage(first), Stage.NORM)
    inputs = problem.activations(CASE, 0, span)
    assert set(inputs) == (set(names) or {"q", "k", "v", "g", "beta", "z"})
    for name, array in {**inputs, **problem.parameters(CASE, span), **problem.pools(CASE, span)}.items():
        assert array.shape == SHAPES[name]
        assert array.dtype == np.float64
        assert np.isfinite(array).all()


def test_normalised_keys_are_unit_vectors() -> None:
    """Only at an edge that says so."""
    plain, unit = (
        problem.activations(CASE, 0, Span(Stage.DELTA, Stage.DELTA, normal))["k"] for normal in (False, True)
    )
    assert np.allclose((unit**2).sum(-1), 1, atol=1e-5)
    assert not np.allclose((plain**2).sum(-1), 1, atol=1e-1)


def test_paths_of_different_spans_share_their_inputs() -> None:
    """z, a and b are the same numbers wherever a path comes in."""
    layer, late = (problem.activations(CASE, 0, Span(first, Stage.NORM)) for first in (Stage.UNPACK, Stage.GATES))
    for name in "abz":
        assert np.array_equal(layer[name], late[name])
    assert np.array_equal(np.concatenate([late[n].reshape(T, -1) for n in "qkv"], axis=1), layer["x"])


def test_beta_scale_is_part_of_beta_at_the_delta_edge() -> None:
    """Where b comes in instead, the path applies it."""
    doubled = replace(CASE, options=Options(beta_scale=2.0))
    span = Span(Stage.DELTA, Stage.DELTA)
    one, two = (problem.activations(case, 0, span)["beta"] for case in (CASE, doubled))
    assert np.array_equal(2 * one, two)


def test_a_presentation_names_slots_in_the_pool() -> None:
    """None is the sentinel; a reserved slot 0 moves the others up."""
    fed = Presentation(sentinel=0, first_slot=1)
    assert [fed.physical(slot) for slot in (None, 0, 4)] == [0, 1, 5]
