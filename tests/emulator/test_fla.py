"""Contract: fla-core's Gated DeltaNet kernels run in the interpreter and agree with transformers."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

RunsThere = Callable[..., Any]

LENGTHS = [[1], [3], [70], [1, 3, 66]]
# bfloat16: the unit roundoff 2^-8; a chunk kernel rounds its intermediates to it as well.
BOUNDS = {torch.float32: 1e-5, torch.bfloat16: 8e-3}


@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("kernel", ["recurrent", "chunk"])
def test_kernels_agree_with_transformers(
    interpreted: RunsThere, kernel: str, lengths: list[int], size: int, dtype: torch.dtype
) -> None:
    """Output and final state, packed sequences included; and a kernel did run."""
    output, state, ran = interpreted("emulated_fla:relative_errors", kernel, lengths, size, dtype)
    assert output < BOUNDS[dtype]
    assert state < BOUNDS[dtype]
    assert any("fused_recurrent" in name if kernel == "recurrent" else "chunk" in name for name in ran)
