"""What AITER's kernels get wrong of inputs that its paths refuse, each in a process of its own: is it right by now?

python aiter_defects.py rows_of_no_tokens     # prints "right" or "wrong"
"""

from __future__ import annotations

import os

import torch
from upstream import main, same

os.environ["AITER_TRITON_ONLY"] = "1"
K = 16


def _tokens(count: int, dtype: torch.dtype) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """q, k, v, g and β of one head, dense, and q, k and v as they lie in one tensor."""
    packed = torch.randn(1, count, 3 * K, dtype=dtype)
    q, k, v = (part[:, :, None].contiguous() for part in packed.split(K, dim=-1))
    return {"q": q, "k": k, "v": v, "g": -torch.rand(1, count, 1), "beta": torch.rand(1, count, 1)}, packed


def rows_of_no_tokens() -> bool:
    """A chunked prefill whose first row has no tokens is that of the other row."""
    from aiter.ops.triton.gated_delta_net import chunk_gated_delta_rule

    given, _ = _tokens(3, torch.bfloat16)
    alone, _ = chunk_gated_delta_rule(**given, cu_seqlens=torch.tensor([0, 3]))
    after, _ = chunk_gated_delta_rule(**given, cu_seqlens=torch.tensor([0, 0, 3]))
    return same(after, alone)


def views_of_one_tensor() -> bool:
    """q, k and v as views of the conv's output are what their copies are."""
    from aiter.ops.triton.gated_delta_net import fused_recurrent_gated_delta_rule

    given, packed = _tokens(3, torch.float32)
    views = dict(zip("qkv", (part[:, :, None] for part in packed.split(K, dim=-1)), strict=True))
    wanted, _ = fused_recurrent_gated_delta_rule(**given)
    return same(fused_recurrent_gated_delta_rule(**{**given, **views})[0], wanted)


def _updated(pool: torch.Tensor, slot: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """A slot after one token of `fused_sigmoid_gating_delta_rule_update`, and what a pool of it alone becomes."""
    from aiter.ops.triton._triton_kernels.gated_delta_rule.decode.fused_sigmoid_gating_recurrent import (
        fused_sigmoid_gating_delta_rule_update as update,
    )

    width = pool.shape[-1]
    q, k, v = (torch.randn(1, 1, 1, width) for _ in "qkv")
    gates, starts, single = torch.randn(4, 1, 1), torch.tensor([0, 1]), pool[slot][None].clone()
    for of, index in ((single, torch.tensor([0])), (pool, torch.tensor([slot], dtype=dtype))):
        update(gates[0, 0], gates[1], gates[2, 0], 1.0, 20.0, q, k, v, gates[3], of, index, cu_seqlens=starts)
    return pool[slot], single[0]


def pools_with_holes() -> bool:
    """A pool whose slots have something between them is updated."""
    pool = torch.randn(2, K * K + 8)[:, : K * K].unflatten(1, (1, K, K))
    return same(*_updated(pool, 1, torch.int32))


def slots_behind_two_to_the_31() -> bool:
    """A slot that begins 2³¹ elements into its pool is found by an id of 32 bits; few of the pages are ever touched."""
    width, slot = 256, 2**31 // 256**2
    memory = torch.empty(2 * 2**31 + width**2, dtype=torch.bfloat16)
    pool = memory[2**31 :][: (slot + 1) * width**2].view(slot + 1, 1, width, width)
    pool[slot] = torch.randn(1, width, width)
    return same(*_updated(pool, slot, torch.int32))


def convs_of_width_five() -> bool:
    """A conv of five taps sums five."""
    from aiter.ops.triton.conv.causal_conv1d import causal_conv1d_update

    x, weight, pool = torch.randn(1, K), torch.randn(K, 5), torch.randn(2, K, 4)
    wanted = (torch.cat([pool[1], x.T], dim=1) * weight).sum(1)
    made = causal_conv1d_update(x, pool, weight, conv_state_indices=torch.tensor([1], dtype=torch.int32))
    return same(made[0], wanted)


if __name__ == "__main__":
    main(globals())
