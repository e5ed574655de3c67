"""Where the compiler may round a product and a sum once instead of twice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

WORD = 16
"""Bytes that a thread loads at once, where addresses allow it."""


def may_contract(pool: Tensor, state_order: str, constants: Mapping[str, Any], threads: int) -> bool:
    """Whether the sums over K in a launch of these tile constants are safe from what `equations.product` tells of.

    They are where each thread holds a whole word of adjacent columns: it adds those up, and rounds, before its number
    meets another lane's. Elsewhere a thread may hold a single product of each sum, and products are rounded alone.
    """
    K, size = pool.shape[-1], pool.element_size()
    words = state_order == "VK" and K * size % WORD == 0 and constants["KS"] * constants["KK"] == K
    aligned = pool.data_ptr() % WORD == 0 and pool.stride(0) * size % WORD == 0
    return words and aligned and constants["BV"] * K * size >= threads * WORD
