"""What the kernels that carry a state over chunks share: products with it, and where its tiles lie in a pool."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def multiply_add(a, b, c, EXACT: tl.constexpr):
    """a · b + c in float32, of operands in a's dtype; with EXACT of float32 ones that are not cut to tf32."""
    if EXACT:
        return tl.dot(a.to(tl.float32), b.to(tl.float32), c, input_precision="ieee")
    else:
        return tl.dot(a, b.to(a.dtype), c)


@triton.jit
def in_slot(head, d, column, K: tl.constexpr, V: tl.constexpr, STATE_KV: tl.constexpr):
    """(offsets in a slot, mask) of the elements [d, column] of a value head's state."""
    v_step: tl.constexpr = 1 if STATE_KV else K
    k_step: tl.constexpr = V if STATE_KV else 1
    at = head.to(tl.int64) * (V * K) + d[:, None] * k_step + column[None, :] * v_step
    return at, (d < K)[:, None] & (column < V)[None, :]
