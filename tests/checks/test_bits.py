"""Bits of a tensor are a view of it."""

from __future__ import annotations

import pytest
import torch

from gdn_verify.checks.bits import bits


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int32, torch.bool])
def test_what_is_written_to_the_bits_is_written_to_a_tensor_with_gaps(dtype: torch.dtype) -> None:
    """A replay is fed so: a copy would leave the captured launch with the inputs that it was captured with."""
    tensor = torch.zeros(3, 8, dtype=dtype)[:, 1:5]
    bits(tensor).copy_(bits(torch.ones(3, 4, dtype=dtype)))
    assert bool((tensor == 1).all())
