"""Decode by the two Triton launches and a gated norm in PyTorch, called as `fused_decode` is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gdn_verify.kernels.fallback import Layer
from gdn_verify.kernels.rows import legal_slots
from gdn_verify.kernels.stages import gated_norm
from gdn_verify.kernels.triton.two_launch import conv_update, delta_update


def two_launch_decode(
    qkvz: Tensor,
    ba: Tensor,
    layer: Layer,
    conv_pool: Tensor,
    pool: Tensor,
    state_indices: Tensor,
    *,
    query_start_loc: Tensor | None = None,
    packing: str = "flat",
    state_order: str = "VK",
    pad_slot_id: int | None = None,
    output: Tensor | None = None,
    z_output: Tensor | None = None,
    zero_pads: bool = True,
) -> Tensor:
    """Operands, results and errors of `fused_decode`; the conv's output and o are rounded to qkvz's dtype between.

    With `zero_pads` the output of everything but live rows is zeros. The device is not synchronised.
    """
    tokens, HV, V = qkvz.shape[0], layer.num_v_heads, layer.head_v_dim
    mixed_qkv = qkvz.new_empty(tokens, layer.channels)
    z = qkvz.new_empty(tokens, HV, V) if z_output is None else z_output
    rows: dict[str, Any] = {"query_start_loc": query_start_loc, "packing": packing, "pad_slot_id": pad_slot_id}
    conv_update(qkvz, layer, conv_pool, state_indices, mixed_qkv, z, **rows)
    o = torch.empty_like(z)
    delta_update(mixed_qkv, ba, layer, pool, state_indices, o, state_order=state_order, zero_pads=False, **rows)
    if layer.norm_weight is not None:
        o = gated_norm(o, z, layer.norm_weight, layer.norm_eps, layer.norm_activation)
    if output is None:
        output = torch.zeros_like(o)
    elif zero_pads:
        output.zero_()
    live = live_tokens(legal_slots(state_indices, pool.shape[0], pad_slot_id) >= 0, query_start_loc, tokens)
    return output.copy_(torch.where(live[:, None, None], o.to(output.dtype), output))


def live_tokens(named: Tensor, query_start_loc: Tensor | None, tokens: int) -> Tensor:
    """bool [T]: tokens of the rows of one token that have a slot (`named` [N]); row n is token n without offsets."""
    start = torch.arange(len(named), device=named.device)
    if query_start_loc is not None:
        start = query_start_loc[:-1].long()
        named = named & (query_start_loc.diff() == 1)
    live = torch.zeros(tokens + 1, dtype=torch.bool, device=named.device)
    return live.index_fill(0, torch.where(named & (start < tokens), start, tokens), True)[:tokens]
