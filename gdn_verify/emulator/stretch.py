"""Tensors whose slots seem to lie far apart.

A pool of a real engine has more than 2³¹ elements between its first and its last slot; offsets that a kernel computes
in 32 bits are wrong there and nowhere else. A stretched tensor answers `stride()` with such distances, over memory that
holds its few slots side by side. What torch computes with it is right; a Triton kernel sees the distances, and only the
memory checker's windows lead its addresses back to memory. Never launch one without the checker.
"""

from __future__ import annotations

import torch

FAR = 2**31 - 2**20
"""Elements from slot to slot: one slot's distance is an int32, two slots' is not."""


class Stretched(torch.Tensor):
    """A tensor with apparent strides; every torch function takes it for the plain tensor that it is."""

    apparent: tuple[int, ...]
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    def stride(self, dim: int | None = None) -> tuple[int, ...] | int:  # type: ignore[override]
        """The apparent strides, or that of one axis."""
        return self.apparent if dim is None else self.apparent[dim]

    def is_contiguous(self, memory_format: torch.memory_format = torch.contiguous_format) -> bool:
        """It is not: there is nothing between its slots."""
        return False


def stretch(tensor: torch.Tensor, slot_stride: int = FAR) -> torch.Tensor:
    """The same memory with `slot_stride` elements between indices of axis 0, as it seems."""
    if tensor.dim() == 0 or slot_stride < tensor.stride(0):
        raise ValueError(f"shape {tuple(tensor.shape)}, strides {tensor.stride()}: cannot stretch to {slot_stride}")
    found = tensor.as_subclass(Stretched)
    found.apparent = (slot_stride, *tensor.stride()[1:])
    return found


def apparent_strides(tensor: torch.Tensor) -> tuple[int, ...]:
    """The strides that a kernel is told."""
    return getattr(tensor, "apparent", None) or tuple(tensor.stride())
