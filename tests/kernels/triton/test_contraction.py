"""Sums over lanes are of rounded products: else racecheck finds lanes of one sum that store different bits."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch

from . import ptx
from .problems import Problem, one_each

pytest.importorskip("triton")
SMALL = Problem(rows=one_each(0, 2), K=16, V=16, slots=4)
SERVED = replace(SMALL, K=128, V=128, state=torch.bfloat16, conv=torch.bfloat16, activations=torch.bfloat16)
CASES = [("decode", "head"), ("decode", "key head, late inputs"), ("decode", "head, 8 splits"), ("decode", "stages")]
CASES += [("spec", "1 split"), ("spec", "4 splits"), ("two-launch", "key head, late inputs")]


TABLES = [SERVED, replace(SERVED, state=torch.float32), replace(SERVED, V=16, state=torch.float32)]
UNALIGNED = [replace(SERVED, shift=1), replace(SERVED, gap=8), replace(SERVED, gap=4, K=64, state=torch.float32)]
LATE = "key head, late inputs"
Compiles = Callable[..., Any]


@pytest.fixture(scope="module")
def compiles() -> Iterator[Compiles]:
    """Call a function of `ptx` in a process that compiles."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=ptx.prepare) as pool:
        yield lambda function, *args: pool.submit(function, *args).result(timeout=300)


@pytest.mark.parametrize(
    "problem",
    [SMALL, pytest.param(replace(SERVED, state_order="KV"), marks=pytest.mark.slow), SERVED],
    ids=["small", "KV", "served"],
)
@pytest.mark.parametrize(("kernel", "family"), CASES)
def test_no_product_is_contracted_with_a_sum_over_lanes(compiles, kernel, family, problem):
    """In any sort of configuration and order of the state."""
    assert compiles(ptx.contracted_sums, kernel, family, problem) == 0


@pytest.mark.parametrize("problem", TABLES, ids=["bfloat16", "float32", "few rows of V"])
@pytest.mark.parametrize("kernel", ["decode", pytest.param("spec", marks=pytest.mark.slow)])
def test_in_no_configuration_that_is_chosen(compiles, kernel, problem):
    """Also where there are fewer rows of V than the configuration was made for: threads then share the pieces of K."""
    found = compiles(ptx.contracted_in_tables, kernel, problem)
    assert found == dict.fromkeys(found, 0)


@pytest.mark.parametrize("problem", UNALIGNED, ids=["addresses", "strides", "strides of 16 bytes"])
@pytest.mark.parametrize(
    ("kernel", "family"), [("decode", LATE), pytest.param("spec", "1 split", marks=pytest.mark.slow)]
)
def test_unaligned_states(compiles, kernel, family, problem):
    """A thread holds single columns of those."""
    assert compiles(ptx.contracted_sums, kernel, family, problem) == 0


@pytest.mark.parametrize(
    ("family", "problem"),
    [("head", SMALL), (LATE, UNALIGNED[1]), (LATE, UNALIGNED[2]), ("chosen", TABLES[2])],
    ids=["small", "strides", "strides of 16 bytes", "few rows of V"],
)
def test_a_contraction_is_seen(family, problem):
    """Where the compiler may do as it likes, it does: so the launch's refusal is what the tests above see."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=ptx.prepare) as pool:
        assert pool.submit(ptx.contracted_sums, "decode", family, problem, True).result(timeout=300) > 0
