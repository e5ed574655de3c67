"""The counters by which programs of one row agree who is last; see `decode_kernel` for why they belong to slots."""

from __future__ import annotations

import torch
from torch import Tensor

_counters: dict[tuple[torch.device, int, int], Tensor] = {}
"""By device, address and number; none is ever let go, since a captured graph may count on it."""


def make_tickets(num_slots: int, num_k_heads: int, device: torch.device | str) -> Tensor:
    """Counters for one pool: int64 [num_slots, num_k_heads], zero. Keep them as long as the pool."""
    return torch.zeros(num_slots, num_k_heads, dtype=torch.int64, device=device)


def tickets_of(conv_pool: Tensor, num_k_heads: int) -> Tensor:
    """The counters that this process keeps for `conv_pool`, made at its first launch: P · H · 8 bytes a pool.

    They are found by the pool's address. A counter is a multiple of the kernel's quantum whenever no launch is under
    way, so those of a pool that was freed serve the next one at its address. Made within a graph capture, they are
    the graph's own, and their zeroing is a second node of it: launch once before you capture.
    """
    key = (conv_pool.device, conv_pool.data_ptr(), conv_pool.shape[0] * num_k_heads)
    found = _counters.get(key)
    if found is not None:
        return found
    made = make_tickets(conv_pool.shape[0], num_k_heads, conv_pool.device)
    if not conv_pool.is_cuda:
        _counters[key] = made
    elif not torch.cuda.is_current_stream_capturing():
        torch.cuda.current_stream().synchronize()  # the next launch may come from another stream
        _counters[key] = made
    return made
