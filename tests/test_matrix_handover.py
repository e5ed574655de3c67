"""Hand-overs: a state goes from any prefill to any step that shares its layout; who is wrong is named."""

from __future__ import annotations

from dataclasses import replace

import fake_paths
import pytest
from matrix_toys import Forgetful, TwoOrders

from gdn_verify.cases.contract import Capabilities, DType, Group, StateOrder
from gdn_verify.hosts import HOSTS
from gdn_verify.matrix.cells import State
from gdn_verify.matrix.handover import beside, handed, questions
from gdn_verify.paths import Path, find

CPU = HOSTS["cpu"]
FALLBACK = find("fallback")


def taking(path: Path, **fields: object) -> Path:
    changed: Capabilities = replace(path.capabilities, **fields)  # type: ignore[arg-type]
    path.capabilities = changed
    return path


def test_a_pool_is_handed_to_the_path_that_filled_it() -> None:
    """Prefill and decode of one implementation, conv state and all."""
    cell = handed(FALLBACK, FALLBACK, CPU, 2)
    assert (cell.state, cell.cases) == (State.AGREES, 4)  # two of each state order
    assert 0 < cell.ratio < 7


@pytest.mark.parametrize("order", StateOrder)
def test_a_dense_path_takes_up_what_lies_in_a_pool(order: StateOrder) -> None:
    """Of either order of axes, and of another span."""
    cell = handed(FALLBACK, taking(TwoOrders("orders"), state_orders=frozenset({order})), CPU, 2)
    assert cell.state is State.AGREES


def test_a_consumer_that_reads_nothing_is_wrong() -> None:
    """The state matters to the step: nothing would be proved else."""
    cell = handed(FALLBACK, Forgetful("forgetful"), CPU, 1)
    assert cell.state is State.DISAGREES
    assert cell.why.startswith("forgetful, the consumer: values/")


def test_a_consumer_of_axes_exchanged_is_wrong() -> None:
    """It scales where states are [K, V], and both orders are handed over."""
    wrong = TwoOrders("wrong", factor=2.0)
    assert handed(FALLBACK, wrong, CPU, 1).why.startswith("wrong, the consumer: values/o")


def test_paths_without_a_layout_in_common_are_not_compared() -> None:
    """And the reason says what they do not share."""
    kv = taking(TwoOrders("kv"), state_orders=frozenset({StateOrder.KV}))
    vk = taking(TwoOrders("vk"), state_orders=frozenset({StateOrder.VK}))
    assert handed(kv, vk, CPU, 1).why == "no state order that both take"
    half = taking(TwoOrders("half"), states=frozenset({DType.F16}))
    cell = handed(half, vk, CPU, 1)
    assert (cell.state, cell.why) == (State.REFUSED, "no type of state that both take")


def test_who_asks_whom() -> None:
    """A decode alone produces nothing; torch code goes beside the interpreter, kernels not beside the processor."""
    placed = [(FALLBACK, "cpu"), (fake_paths.fake("fake-healthy"), "cpu"), (find("fused-decode"), "interpreter")]
    found = {each.path: each.producers for each in questions(placed, 1)}
    assert found == {"fallback": ("fallback",), "fake-healthy": ("fallback",), "fused-decode": ("fallback",)}
    assert not beside(find("chunk-delta"), "interpreter", "cpu")
    assert not beside(find("dispatch"), "cpu", "interpreter")


def test_a_type_that_only_the_producer_meets_is_one_that_it_takes() -> None:
    """The consumer's case says nothing of a conv state: that is no reason to refuse the pair."""
    half = taking(type("Half", (type(FALLBACK),), {})(), conv_states=frozenset({DType.BF16}))
    assert handed(half, TwoOrders("orders"), CPU, 1).state is State.AGREES


def test_a_draft_goes_on_from_the_state_of_a_dense_path() -> None:
    """An engine scatters such states into its pool."""
    drafts = taking(type("Drafts", (type(FALLBACK),), {})(), groups=frozenset({Group.SPEC}), mixes=False)
    dense = taking(TwoOrders("dense"), groups=frozenset({Group.DECODE, Group.PREFILL}))
    cell = handed(dense, drafts, CPU, 1)
    assert (cell.state, "dense, the producer" in cell.why) == (State.DISAGREES, True)  # it knows one token a row
