"""Where the compiler may round a product and a sum once instead of twice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

WORD = 16
"""Bytes that a thread loads at once, where addresses allow it."""
KNOWN = 16
"""Triton knows a stride to be a multiple of this many elements, or of none."""


def may_contract(pool: Tensor, state_order: str, constants: Mapping[str, Any], threads: int) -> bool:
    """Whether the sums over K in a launch of these tile constants are safe from what `equations.product` tells of.

    A sum over K runs over its pieces first and then over a piece's columns. It is safe where each thread holds all
    pieces, and of each a whole word of columns: it adds up several products, and rounds, before its number meets
    another lane's. So words must be what is loaded, and one piece of all rows must have one for each of the threads;
    else Triton deals the pieces out too, or single columns, and a thread may hold a single product of a sum.
    """
    K, size = pool.shape[-1], pool.element_size()
    words = state_order == "VK" and K * size % WORD == 0 and constants["KS"] * constants["KK"] == K
    aligned = pool.data_ptr() % WORD == 0 and pool.stride(0) % KNOWN == 0
    return words and aligned and constants["BV"] * (constants["KK"] * size // WORD) >= threads
