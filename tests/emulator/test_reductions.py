"""Contract: reductions and scans of the interpreter round as compiled ones do, for any combine function."""

import itertools
from collections.abc import Callable
from typing import Any

import emulated
import pytest
import reductions
import torch

BF16 = torch.bfloat16
RunsThere = Callable[..., Any]


def rounded_tree_sum(x: torch.Tensor) -> torch.Tensor:
    while x.numel() > 1:
        x = x[: x.numel() // 2] + x[x.numel() // 2 :]
    return x


def rounded_product(x: torch.Tensor) -> torch.Tensor:
    """The product by a tree of neighbours, rounded at every node."""
    while x.numel() > 1:
        x = x[0::2] * x[1::2]
    return x


def rounded_scan(x: torch.Tensor, combine: Callable[..., torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(itertools.accumulate(x, combine)))


def test_sum_rounds_every_step(interpreted: RunsThere) -> None:
    """Triton keeps a bfloat16 sum in bfloat16; the order is a balanced tree."""
    x = torch.randn(64, generator=torch.Generator().manual_seed(1)).to(BF16)
    actual = interpreted(emulated.expression, "sum", x, x, x, BF16)
    assert torch.equal(actual, rounded_tree_sum(x).expand(64))


def test_max_is_by_value(interpreted: RunsThere) -> None:
    """Negative numbers have the larger bit patterns."""
    x = torch.tensor([-3, -1, 2, -7]).to(BF16)
    assert interpreted(emulated.expression, "max", x, x, x, torch.float32).tolist() == [2] * 4


@pytest.mark.parametrize("which", ["cumsum", "reverse_cumsum"])
def test_cumsum_runs_in_float32(interpreted: RunsThere, which: str) -> None:
    """Triton widens a bfloat16 cumsum; the prefix sums of small integers are exact."""
    x = torch.arange(-8, 8).to(BF16)
    expected = x.float().flip(0).cumsum(0).flip(0) if which.startswith("reverse") else x.float().cumsum(0)
    assert torch.equal(interpreted(emulated.expression, which, x, x, x, torch.float32), expected)


def shuffled_prefix_sums(x: torch.Tensor) -> list[float]:
    """Lane by lane: what stands 1, 2, 4, 8 and 16 lanes before is added, within 32 lanes; then all warps before."""

    def within(lane: int, reach: int) -> torch.Tensor:
        if reach == 1:
            return x[lane]
        half = reach // 2
        return within(lane, half) if lane % 32 < half else within(lane - half, half) + within(lane, half)

    sums, before = [], torch.tensor(0.0)
    for lane in range(len(x)):
        sums.append(within(lane, 32) + before if lane >= 32 else within(lane, 32))
        before = sums[-1] if lane % 32 == 31 else before
    return [float(value) for value in sums]


def test_prefix_sums_are_a_warps(interpreted: RunsThere) -> None:
    """In order, terms of 0 leave the sum as it is. Here, as on a card, it moves, up and down."""
    random = torch.Generator().manual_seed(6)
    x = -torch.randn(128, generator=random).abs() * (torch.rand(128, generator=random) < 0.5)
    actual = interpreted(emulated.expression, "cumsum", x, x, x, torch.float32)
    assert actual.tolist() == shuffled_prefix_sums(x)
    assert (actual.diff() > 0).any()


@pytest.mark.parametrize("which", ["scan", "reduce"])
def test_custom_combinations_round_every_step(interpreted: RunsThere, which: str) -> None:
    """A user's combine function works on bfloat16 values."""
    x = (1 + torch.rand(16, generator=torch.Generator().manual_seed(2)) / 4).to(BF16)
    expected = rounded_scan(x, torch.mul) if which == "scan" else rounded_product(x).expand(16)
    assert torch.equal(interpreted(emulated.expression, which, x, x, x, BF16), expected)


@pytest.mark.parametrize("which", ["all", "rows"])
def test_several_tensors_reduced_at_once(interpreted: RunsThere, which: str) -> None:
    """Along an axis, and along all; stock Triton flattens only the first of them."""
    x, y = torch.arange(1.0, 9.0), torch.tensor([1.0, 2, 1, 3, 1, 1, 5, 1])
    rows = x.view(-1, 2).sum(1), y.view(-1, 2).prod(1)
    expected = torch.stack(rows, 1).flatten() if which == "rows" else torch.tensor([36.0, 30.0] * 4)
    assert torch.equal(interpreted(reductions.reduced, which, x, y), expected)


def test_a_combine_function_that_branches(interpreted: RunsThere) -> None:
    """Each half takes its own branches; the axis counts from the end."""
    x = torch.tensor([1.0, 7, 3, 2, -5, -1, -9, -2])
    result = interpreted(reductions.reduced, "branch", x, x)
    assert result.tolist() == [7] * 4 + [-1] * 4


def test_scan_of_sums_rounds_every_step(interpreted: RunsThere) -> None:
    """Triton's own combine function has a short cut in the interpreter; it must not add bit patterns."""
    x = torch.randn(16, generator=torch.Generator().manual_seed(5)).to(BF16)
    assert torch.equal(interpreted(emulated.expression, "sum_scan", x, x, x, BF16), rounded_scan(x, torch.add))
