"""What a segment of a row does to any state, before that state is known: launch 2 of four.

A chunk takes the state h [K, V] to (e^(G_C) I - Wᵀ diag(e^G ρ_k) k) h + Wᵀ v, which is affine: so is a segment, to
M h + h_s. The columns of h_s begin at zero, those of M at the identity and with v = 0; all go through the chunks alike,
two products each, and there is no output.
"""

from __future__ import annotations

import triton
import triton.language as tl

from gdn_verify.kernels.triton.chunk_state import multiply_add
from gdn_verify.kernels.triton.varlen import find_block


@triton.jit(do_not_specialize=["num_rows", "segment_tokens"])
def gdn_span_kernel(
    k, v, w, factors, query_start_loc, spans,
    num_rows, segment_tokens, stride_k, stride_v,
    H: tl.constexpr, HV: tl.constexpr, K: tl.constexpr, V: tl.constexpr, C: tl.constexpr, KP: tl.constexpr,
    VX: tl.constexpr, BX: tl.constexpr, NP: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """See the module; `segments.join_segments` gives shapes and meanings. Nobody asks for a row's last segment."""
    TILES: tl.constexpr = (VX + KP) // BX
    pid = tl.program_id(0)
    segment = pid // (TILES * HV)
    head = pid // TILES % HV
    row, first, length, start = find_block(query_start_loc, segment, num_rows, segment_tokens, NP)
    stop = start + segment_tokens
    if stop >= length:
        return
    c = tl.arange(0, C)
    d = tl.arange(0, KP)
    column = pid % TILES * BX + tl.arange(0, BX)
    given = (column < V)[None, :]
    key_column = head // (HV // H) * K + d[None, :]
    block = first // C + row
    h = tl.where(d[:, None] == (column - VX)[None, :], 1.0, 0.0)
    for begin in range(start, stop, C):
        token = (first + begin + c)[:, None]
        keys = tl.load(k + token * stride_k + key_column, mask=(d < K)[None, :], other=0)
        values = tl.load(v + token * stride_v + head * V + column[None, :], mask=given, other=0)
        at = (block + begin // C) * HV + head
        W = tl.load(w + at * (C * KP) + c[:, None] * KP + d[None, :])
        of_keys = tl.load(factors + at * 3 * C + c)
        whole = tl.load(factors + at * 3 * C + 3 * C - 1)
        held = multiply_add(keys, h, tl.zeros([C, BX], tl.float32), EXACT) * of_keys[:, None]
        h = multiply_add(tl.trans(W), values.to(tl.float32) - held, h * whole, EXACT)
    to = (segment.to(tl.int64) * HV + head) * (KP * (VX + KP))
    tl.store(spans + to + d[:, None] * (VX + KP) + column[None, :], h)
