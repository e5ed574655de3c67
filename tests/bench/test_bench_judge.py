"""The judge of the bench: whoever is right agrees in every layout, and every way of being wrong is seen."""

from __future__ import annotations

import benched
import pytest
import torch

from gdn_verify.bench.contender import Contender, Inputs, Results
from gdn_verify.bench.judge import judge
from gdn_verify.cases.contract import DType, Geometry, StateOrder


def wrong(contender: Contender, geometry: Geometry = benched.TINY, state: DType = DType.F32) -> str:
    """What the judge says against it."""
    found = judge(contender, benched.setting(geometry, state=state), "cpu")
    assert not found.agrees
    return found.words


@pytest.mark.parametrize("state", list(DType))
@pytest.mark.parametrize("geometry", [benched.TINY, benched.DRAFTS, Geometry(1, 3, 12, 5)], ids=str)
def test_the_fallback_agrees(geometry: Geometry, state: DType) -> None:
    """Honest rounding stays within two budgets of a limit near seven, for every layout and dtype of the state."""
    for order, layout in benched.CORNERS:
        for span in (benched.WHOLE, benched.UN_NORMED):
            contender = benched.fallback(span, state_order=order, conv_layout=layout)
            found = judge(contender, benched.setting(geometry, state=state), "cpu")
            assert found.agrees, found
            assert 0.0 < found.ratio < 2.0
            assert 6.0 < found.limit < 8.0


def test_new_states_are_judged_like_a_pool() -> None:
    """A contender that returns its states agrees, and its pool must keep its bytes."""
    dense = benched.exact(benched.RECURRENCE, in_place=False)
    assert judge(dense, benched.setting(), "cpu").agrees
    assert wrong(benched.spoiled(_whole_pool, dense)) == "pool was written to"
    lost = benched.spoiled(lambda inputs, results: Results(results.out), dense)
    assert "Results.states" in wrong(lost)


MISFED = {
    "decay dropped": {"A_log": lambda i: i.A_log - 100},
    "dt_bias dropped": {"dt_bias": lambda i: torch.zeros_like(i.dt_bias)},
    "gates exchanged": {"ba": lambda i: i.ba.roll(i.geometry.HV, 1)},
    "heads of the gates turned": {"ba": lambda i: i.ba.roll(1, 1)},
    "z of another token": {"qkvz": lambda i: torch.cat([i.mixed_qkv, i.z.flatten(1).roll(1, 0)], 1)},
    "q and k exchanged": {"conv_weight": lambda i: i.conv_weight.roll(i.geometry.H * i.geometry.K, 0)},
    "norm weight dropped": {"norm_weight": lambda i: torch.ones_like(i.norm_weight)},
    "state of another row": {"state_indices": lambda i: i.state_indices.roll(1, 0)},
}


@pytest.mark.parametrize("what", MISFED)
def test_wrong_mathematics_is_seen(what: str) -> None:
    """With either dtype of the state, and where drafts are verified."""
    for geometry in (benched.TINY, benched.DRAFTS):
        for state in (DType.F32, DType.BF16):
            assert wrong(benched.misfed(**MISFED[what]), geometry, state)


def _zero_row(inputs: Inputs, results: Results) -> None:
    results.out[1, 2] = 0


def _unwritten(inputs: Inputs, results: Results) -> None:
    results.out[1, 2, 3] = torch.nan


def _one_state_element(inputs: Inputs, results: Results) -> None:
    inputs.pool[inputs.state_indices.flatten()[0].long(), 1, 2, 3] += 0.1


def _free_slot(inputs: Inputs, results: Results) -> None:
    inputs.pool[0, 0, 0, 0] = 0


def _whole_pool(inputs: Inputs, results: Results) -> None:
    inputs.pool.mul_(2)


def _conv_state(inputs: Inputs, results: Results) -> None:
    inputs.conv_pool[inputs.state_indices.flatten()[0].long(), 0, 0] += 1


def _input(inputs: Inputs, results: Results) -> None:
    inputs.ba[0, 0] += 1


def _shape(inputs: Inputs, results: Results) -> Results:
    return Results(results.out[:1])


def _zeros(inputs: Inputs, results: Results) -> Results:
    return Results(torch.zeros_like(results.out))


SPOILED = {
    _zero_row: "out[1, 0, 2]",
    _unwritten: "out[1, 0, 2]",
    _one_state_element: "state[0, 0, 1, 2]",
    _free_slot: "slots that no row names",
    _conv_state: "conv_pool differs",
    _input: "ba was written to",
    _shape: "out has shape (1, 4, 16), expected (3, 4, 16)",
    _zeros: "out[",
}


@pytest.mark.parametrize("spoil", SPOILED, ids=lambda spoil: spoil.__name__.strip("_"))
def test_damage_is_seen_and_named(spoil: benched.Spoil) -> None:
    """A row of zeros, an unwritten element, one element of one state, bytes that were nobody's to write."""
    assert SPOILED[spoil] in wrong(benched.spoiled(spoil))


def test_a_recurrence_is_judged_on_what_the_conv_left() -> None:
    """It is fed conv_out, must leave the conv pool alone, and may ask for the other order of the state."""
    contender = benched.exact(benched.RECURRENCE, state_order=StateOrder.KV)
    assert judge(contender, benched.setting(), "cpu").agrees
    assert "conv_pool" in wrong(benched.spoiled(_conv_state, contender))


def test_the_ratio_grows_with_the_error() -> None:
    """Outputs a tenth too small are beyond the limit; a thousandth is lost in bfloat16, and no proof of anything."""
    small = {share: benched.spoiled(lambda i, r, share=share: Results(r.out * share)) for share in (0.999, 0.9)}
    found = {share: judge(contender, benched.setting(), "cpu") for share, contender in small.items()}
    assert found[0.999].agrees
    assert not found[0.9].agrees
    assert found[0.9].ratio > found[0.9].limit > found[0.999].ratio
