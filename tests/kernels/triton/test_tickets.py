"""The tickets: whole again after every launch, whatever ran, so that no launch needs to know the one before it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gdn_verify.kernels.triton.tickets import make_tickets, tickets_of

from .accounts import assert_left
from .families import DECODE, SPEC, families, launch
from .problems import Problem, one_each
from .situations import DRAFTS

pytest.importorskip("triton")
DECODED = Problem(ratio=3, V=12)
DRAFTED = replace(DRAFTS, ratio=3, V=12)


def quantum() -> int:
    """What a row adds to the ticket of each of its key heads."""
    from gdn_verify.kernels.triton.decode_kernel import QUANTUM

    return QUANTUM.value


def shared(problem: Problem, family: str) -> bool:
    """Whether more than one program reads a key head's conv state."""
    from gdn_verify.kernels.triton.config import Config, Sizes, SpecConfig

    sizes = Sizes(problem.H, problem.HV, problem.K, problem.V, 4)
    chosen = families(problem)[family]
    if problem.width is not None:
        return SpecConfig(**chosen).constants(sizes)["SPLITS"] * problem.ratio > 1
    constants = Config(**chosen).constants(sizes)
    return constants["SPLITS"] * problem.ratio > constants["HEADS"]


def launched(problem: Problem, family: str, tickets: Tensor) -> None:
    """One legal launch, accounted for, and the tickets it took: exactly a quantum for each live row's key heads."""
    left = problem.buffers()
    before, taken = left.copy(), tickets.clone()
    launch(problem, left, family, tickets)
    assert_left(problem, before, left)
    if shared(problem, family):
        taken[[row.conv_write for row in problem.live]] += quantum()
    assert torch.equal(tickets, taken), f"{family}: {tickets.tolist()}, not {taken.tolist()}"


def check_turns() -> None:
    """In the interpreter's process: every configuration of both kernels, one after another, with one set of tickets."""
    tickets = make_tickets(DECODED.slots, DECODED.H, "cpu")
    named = [(DECODED, name) for name in DECODE if name != "chosen"]
    named += [(DRAFTED, name) for name in SPEC if name != "chosen"]
    for seed, (problem, family) in enumerate(named[::2] + named[1::2]):
        launched(replace(problem, seed=seed), family, tickets)
    assert tickets.any()


def test_configurations_take_turns(interpreted):
    """Whatever number of programs shares a row, the row adds up to the same."""
    interpreted(check_turns)


def check_twice() -> None:
    """In the interpreter's process: launches that name slots twice, then legal ones on the same tickets."""
    tickets = make_tickets(DECODED.slots, DECODED.H, "cpu")
    wrong = replace(DECODED, rows=one_each(3, 3, 1, 3, 1))
    for family in ("head, 4 splits", "key head, 2 splits", "stages"):
        launch(wrong, wrong.buffers(), family, tickets)
        assert (tickets % quantum() == 0).all(), tickets.tolist()
        launched(DECODED, family, tickets)
        launched(DRAFTED, "4 splits", tickets)


def test_a_slot_named_twice_harms_no_later_launch(interpreted):
    """Such a launch is illegal and its results are anybody's guess; the tickets come out whole."""
    interpreted(check_twice)


def test_a_pools_tickets_are_made_once():
    """They are found again by the pool and their number, and never let go: a captured graph may count on them."""
    pool = torch.zeros(4, 8, 3)
    tickets = tickets_of(pool, 2)
    assert (tickets.shape, tickets.dtype, int(tickets.abs().sum())) == ((4, 2), torch.int64, 0)
    assert tickets_of(pool, 2) is tickets
    assert tickets_of(pool, 16).shape == (4, 16)
    assert tickets_of(pool[:2], 2).shape == (2, 2)
    assert tickets_of(pool, 2) is tickets
    assert tickets_of(torch.zeros(4, 8, 3), 2) is not tickets


@pytest.mark.parametrize("ratio", [1, 2, 3, 4, 6, 8])
def test_the_quantum_is_shared_out_evenly(interpreted, ratio):
    """By every number of programs that there can be for this ratio, or rows would not add up."""
    assert all(interpreted(quantum) % (ratio * splits) == 0 for splits in (1, 2, 4, 8))
