"""The judge of a prefill: whoever is right agrees on rows of any length, and every way of being wrong is seen."""

from __future__ import annotations

import prefilled
import pytest
import torch

from gdn_verify.bench.contender import Contender, PrefillInputs, Results, Setting
from gdn_verify.bench.prefill import judge as judging
from gdn_verify.bench.prefill import reference
from gdn_verify.bench.prefill.inputs import draw
from gdn_verify.bench.prefill.judge import Judge
from gdn_verify.bench.prefill.reference import heads
from gdn_verify.bench.task import prefill_task
from gdn_verify.cases.contract import ConvLayout, DType, Geometry, StateOrder


def wrong(contender: Contender, setting: Setting | None = None, judge: Judge | None = None) -> str:
    """What the judge says against it."""
    found = (judge or Judge())(contender, setting or prefilled.setting(), "cpu")
    assert not found.agrees
    return found.words


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("state", list(DType))
def test_the_fallback_agrees(state: DType, fresh: bool) -> None:
    """Honest rounding stays within two budgets of a limit near seven, with states and without, in either order."""
    for order in StateOrder:
        setting = prefilled.setting(state=state, fresh=fresh)
        found = Judge()(prefilled.fallback(state_order=order), setting, "cpu")
        assert found.agrees, found
        assert 0.0 < found.ratio < 2.0
        assert 6.0 < found.limit < 8.0
        assert found.heads == 0


def test_new_states_are_judged_like_a_pool() -> None:
    """A contender that returns its states agrees, and must return them."""
    assert Judge()(prefilled.dense(), prefilled.setting(), "cpu").agrees
    lost = prefilled.spoiled(lambda inputs, results: Results(results.out), prefilled.dense())
    assert "Results.states" in wrong(lost)


MISFED = {
    "decay dropped": {"g": lambda i: torch.zeros_like(i.g)},
    "decay of another head": {"g": lambda i: i.g.roll(1, 1)},
    "gate of another token": {"beta": lambda i: i.beta.roll(1, 0)},
    "q and k exchanged": {"q": lambda i: i.k, "k": lambda i: i.q},
    "state of another row": {"state_indices": lambda i: i.state_indices.roll(1, 0)},
    "no state read": {"has_initial_state": lambda i: torch.zeros(i.setting.rows, dtype=torch.bool)},
    "rows taken for one": {"query_start_loc": lambda i: torch.tensor([0, 0, 0, i.setting.tokens], dtype=torch.int32)},
}


@pytest.mark.parametrize("what", MISFED)
def test_wrong_mathematics_is_seen(what: str) -> None:
    """With either dtype of the state."""
    for state in (DType.F32, DType.BF16):
        assert wrong(prefilled.misfed(**MISFED[what]), prefilled.setting(state=state))


def test_a_state_read_by_a_fresh_row_is_seen() -> None:
    """The slots hold numbers that such a row must not meet."""
    believing = prefilled.misfed(has_initial_state=lambda i: torch.ones(i.setting.rows, dtype=torch.bool))
    assert wrong(believing, prefilled.setting(fresh=True))


def _zero_row(inputs: PrefillInputs, results: Results) -> None:
    results.out[7, 2] = 0


def _last_head(inputs: PrefillInputs, results: Results) -> None:
    results.out[14, 7] = 0


def _unwritten(inputs: PrefillInputs, results: Results) -> None:
    results.out[7, 2, 3] = torch.nan


def _one_state_element(inputs: PrefillInputs, results: Results) -> None:
    inputs.pool[inputs.state_indices[2].long(), 1, 2, 3] += 0.5


def _free_slot(inputs: PrefillInputs, results: Results) -> None:
    inputs.pool[0, 0, 0, 0] = 0


def _input(inputs: PrefillInputs, results: Results) -> None:
    inputs.k[0, 0] += 1


def _shape(inputs: PrefillInputs, results: Results) -> Results:
    return Results(results.out[:1])


SPOILED = {
    _zero_row: "out[7, 2]",
    _unwritten: "out[7, 2]",
    _one_state_element: "state[2, 1, 2]",
    _free_slot: "slots that no row names",
    _input: "k was written to",
    _shape: "out has shape (1, 4, 16), expected (15, 4, 16)",
}


@pytest.mark.parametrize("spoil", SPOILED, ids=lambda spoil: spoil.__name__.strip("_"))
def test_damage_is_seen_and_named(spoil: prefilled.Spoil) -> None:
    """A row of zeros, an unwritten element, one element of one state, bytes that were nobody's to write."""
    assert SPOILED[spoil] in wrong(prefilled.spoiled(spoil))


def test_long_rows_are_judged_on_heads_from_first_to_last() -> None:
    """Evenly, and at least on two; a wrong one among them keeps its own number."""
    setting, most = prefilled.setting(Geometry(4, 8, 8, 16)), 3 * 15
    assert heads(setting, most) == [0, 4, 7]
    found = Judge(most)(prefilled.fallback(), setting, "cpu")
    assert found.agrees
    assert found.heads == 3
    assert "out[14, 7]" in wrong(prefilled.spoiled(_last_head), setting, Judge(most))
    assert heads(setting, most=1) == [0, 7]
    assert heads(prefilled.setting(Geometry(1, 1, 8, 16)), most=1) == [0]


def test_a_reference_is_computed_once_for_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """For all contenders in a row; it takes the longest of all."""
    asked: list[Setting] = []

    def expect(inputs: PrefillInputs, order: StateOrder, most: int) -> reference.Expected:
        asked.append(inputs.setting)
        return reference.expect(inputs, order, most=most)

    monkeypatch.setattr(judging, "expect", expect)
    judge, settings = Judge(), [prefilled.setting(), prefilled.setting(lengths=(4,))]
    for setting in settings:
        assert judge(prefilled.fallback(), setting, "cpu").agrees
        assert judge(prefilled.fallback(state_order=StateOrder.KV), setting, "cpu").agrees
    assert asked == settings


def test_inputs_are_the_same_in_either_order_and_starts_are_shared() -> None:
    """A seed is one problem; slot 0 is nobody's; a stack's layers differ in numbers and not in their rows."""
    one, other = (draw(prefilled.setting(), "cpu", 5, order) for order in StateOrder)
    assert torch.equal(one.pool, other.pool.transpose(2, 3))
    assert torch.equal(one.q, other.q)
    assert 0 not in one.state_indices
    assert one.query_start_loc.tolist() == [0, 5, 6, 15]
    first, second = prefill_task().stack(prefilled.setting(), "cpu", 2, (StateOrder.VK, ConvLayout.D_CONTIGUOUS))
    assert first.query_start_loc is second.query_start_loc
    assert not torch.equal(first.q, second.q)
