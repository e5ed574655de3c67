"""Strides of operands that a launch may do without."""

from __future__ import annotations

from torch import Tensor


def stride_of(tensor: Tensor | None, axis: int = 0) -> int:
    """In elements; 0 for a tensor that is not there, of which a kernel reads nothing."""
    return 0 if tensor is None else tensor.stride(axis)
