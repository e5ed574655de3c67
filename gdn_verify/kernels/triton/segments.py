"""Long rows cut into segments that are scanned side by side, where rows and heads alone leave a chip idle.

What a segment does to a state is affine and does not depend on it. `gdn_span_kernel` finds it for all segments at
once, `gdn_join_kernel` walks over the segments of a row to the state at which each starts, and `gdn_scan_kernel` begins
there. Rows are cut from their own first token on, into segments of so many tokens, and their segments are counted as
`varlen.find_block` counts blocks: nothing is read back to cut them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from gdn_verify.kernels.rows import Tables
from gdn_verify.kernels.triton.join_kernel import gdn_join_kernel
from gdn_verify.kernels.triton.span_kernel import gdn_span_kernel
from gdn_verify.kernels.triton.strides import stride_of
from gdn_verify.kernels.triton.target import Target, current_target

SPAN_COLUMNS = 64
"""Of the V + K columns of a segment's map in a program of the span kernel."""


@dataclass(frozen=True)
class Cut:
    """The segments of a launch: `tokens` of each but a row's last, and how many of them any rows of T tokens have."""

    tokens: int
    count: int

    @classmethod
    def of(cls, N: int, T: int, chunk: int, segments: int) -> Cut:
        """A row of all T tokens would have at most so many segments, each of whole chunks."""
        tokens = triton.cdiv(triton.cdiv(T, chunk), segments) * chunk
        return cls(tokens, T // tokens + N)


def join_segments(
    k: Tensor, v: Tensor, w: Tensor, factors: Tensor, pool: Tensor, tables: Tables, cut: Cut, *,
    block_v: int, pad_slot_id: int | None, state_kv: bool, exact: bool, warps: int, ahead: int,
) -> Tensor:  # fmt: skip
    """The state at which each segment starts: float32 [segments, HV, KP, VP], padded as w and as tiles of `block_v`.

    Of `chunk_delta`'s operands and of what launch 1 hands on. Segments of padded rows, and those that no row has, are
    left as they are found: NaN for all one knows.
    """
    (_, H, K), (HV, V), (C, KP), N = k.shape, v.shape[1:], w.shape[2:], tables.rows
    BX = min(16 if exact else SPAN_COLUMNS, KP)
    VX, VP = triton.cdiv(V, BX) * BX, triton.cdiv(V, block_v) * block_v
    reads = tables.read_indices
    # [segment, head, row of the state, column]: h_s in the first V columns, M from column VX on.
    spans = k.new_empty(cut.count, HV, KP, VX + KP, dtype=torch.float32)
    starts = k.new_empty(cut.count, HV, KP, VP, dtype=torch.float32)
    gdn_span_kernel[(cut.count * HV * ((VX + KP) // BX),)](
        k, v, w, factors, tables.query_start_loc, spans,
        N, cut.tokens, k.stride(0), v.stride(0),
        H=H, HV=HV, K=K, V=V, C=C, KP=KP, VX=VX, BX=BX, NP=triton.next_power_of_2(N), EXACT=exact,
        num_warps=warps, num_stages=ahead,
    )  # fmt: skip
    # Unrolled, M of the next segment is loaded ahead; where products of float32 are sums of threads, it would spill.
    target, KB = current_target(), min(32, KP)
    unroll = 1 if target.amd and target.wavefront == 32 else KP // KB
    gdn_join_kernel[(N * HV * (VP // 16),)](
        spans, pool, tables.state_indices, reads, tables.query_start_loc, tables.has_initial_state, starts,
        pool.shape[0], cut.tokens,
        pool.stride(0), tables.state_indices.stride(0), stride_of(reads),
        HV=HV, K=K, V=V, KP=KP, VX=VX, VP=VP, BV=16, KB=KB, STATE_KV=state_kv, PAD=pad_slot_id,
        PRECISION=_precision(target, exact), UNROLL=unroll, num_warps=warps, num_stages=min(ahead, 2),
    )  # fmt: skip
    return starts


def _precision(target: Target, exact: bool) -> str:
    """How the join multiplies: three products of tf32 are float32 but for two bits; AMD's chips have no such thing."""
    return "tf32x3" if target.vendor == "cuda" and not exact else "ieee"
