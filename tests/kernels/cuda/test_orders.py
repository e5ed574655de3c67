"""Blocks and warps may run in any order: the bits are the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gdn_verify.kernels.cuda.emulate import scheduled

from ..triton.accounts import assert_same
from ..triton.problems import Problem
from ..triton.situations import DRAFTS
from .launching import DECODE, SPEC, launch

PROBLEMS = [(Problem(K=40, V=24), family) for family in DECODE]
PROBLEMS += [(replace(DRAFTS, K=12, V=10), family) for family in SPEC]


@pytest.mark.parametrize(("problem", "family"), PROBLEMS)
def test_every_order_gives_the_same_bits(problem, family):
    """Twenty of them, in every configuration."""
    on = problem.buffers()
    before = on.copy()
    launch(problem, on, family)
    first = on.copy()
    for seed in range(1, 21):
        on.restore(before)
        with scheduled(seed):
            launch(problem, on, family)
        assert_same(on, first, f"order {seed}")
