"""Sums over lanes are of rounded products: else racecheck finds lanes of one sum that store different bits."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import pytest
import torch

from . import ptx
from .problems import Problem, one_each

pytest.importorskip("triton")
SMALL = Problem(rows=one_each(0, 2), K=16, V=16, slots=4)
SERVED = replace(SMALL, K=128, V=128, state=torch.bfloat16, conv=torch.bfloat16, activations=torch.bfloat16)
CASES = [("decode", "head"), ("decode", "key head, late inputs"), ("decode", "head, 8 splits"), ("decode", "stages")]
CASES += [("spec", "1 split"), ("spec", "4 splits"), ("two-launch", "key head, late inputs")]


@pytest.fixture(scope="module")
def contracted_sums() -> Iterator[Callable[..., int]]:
    """`ptx.contracted_sums`, in a process that compiles."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=ptx.prepare) as pool:
        yield lambda *args: pool.submit(ptx.contracted_sums, *args).result(timeout=300)


@pytest.mark.parametrize("problem", [SMALL, replace(SERVED, state_order="KV"), SERVED], ids=["small", "KV", "served"])
@pytest.mark.parametrize(("kernel", "family"), CASES)
def test_no_product_is_contracted_with_a_sum_over_lanes(contracted_sums, kernel, family, problem):
    """In any configuration and order of the state."""
    assert contracted_sums(kernel, family, problem) == 0


def test_unaligned_states(contracted_sums):
    """A thread holds single columns of those."""
    assert contracted_sums("decode", "head", replace(SERVED, shift=1)) == 0


def test_a_contraction_is_seen():
    """Where the compiler may do as it likes, it does."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=ptx.prepare) as pool:
        assert pool.submit(ptx.contracted_sums, "decode", "head", SMALL, True).result(timeout=300) > 0
