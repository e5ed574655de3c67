"""Launches of `hopper_scan_kernel`: which operands it takes, and the descriptors for the copy engine."""

from __future__ import annotations

import torch
import triton
from torch import Tensor
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from gdn_verify.kernels.rows import Tables
from gdn_verify.kernels.triton.hopper_scan_kernel import ROWS, gdn_hopper_scan_kernel
from gdn_verify.kernels.triton.strides import stride_of

CHUNK = 64
"""Tokens of a chunk: a warpgroup's tile of the state is as high."""
GLUON = {torch.float16: gl.float16, torch.bfloat16: gl.bfloat16, torch.float32: gl.float32}


def takes(q: Tensor, k: Tensor, v: Tensor, blocks: int) -> bool:
    """Whether the kernel has these sizes and dtypes, the copy engine these strides, and 32 bits hold every place."""
    HV, V, K = v.shape[1], v.shape[2], q.shape[2]
    sizes = K in (64, 128) and V % ROWS.value == 0 and q.dtype in (torch.float16, torch.bfloat16)
    return sizes and all(_is_copied(x) for x in (q, k, v)) and blocks * HV * 3 * CHUNK < 2**31


def _is_copied(x: Tensor) -> bool:
    """Whether the copy engine takes [T, heads, D]: tokens at multiples of 16 bytes, one behind the other."""
    apart = x.shape[0] == 1 or x.stride(0) >= x.shape[1] * x.shape[2]
    return apart and x.data_ptr() % 16 == 0 and x.stride(0) * x.itemsize % 16 == 0


def hopper_scan(
    q: Tensor, k: Tensor, v: Tensor, folded: tuple[Tensor, Tensor, Tensor], pool: Tensor, tables: Tables,
    output: Tensor, starts: Tensor | None, checkpoints: Tensor | None, *, programs: int, segment_tokens: int,
    checkpoint_every: int, groups: int, stages: int, state_kv: bool, pad_slot_id: int | None, zero_pads: bool,
) -> None:  # fmt: skip
    """What `gdn_scan_kernel` does, of the same operands; `programs` rows or segments, `stages` chunks in flight."""
    (T, H, K), (HV, V), N, reads = q.shape, v.shape[1:], tables.rows, tables.read_indices
    w, b, factors = folded
    gdn_hopper_scan_kernel[(programs * HV * (V // (ROWS.value * groups)),)](
        _tokens(q, K), _tokens(k, K), _tokens(v, ROWS.value), _rows(w), _rows(b), _numbers(factors, 4 * CHUNK),
        pool, tables.state_indices, reads, tables.query_start_loc, tables.has_initial_state, output, starts,
        pool if checkpoints is None else checkpoints,
        N, T, pool.shape[0], segment_tokens,
        pool.stride(0), tables.state_indices.stride(0), stride_of(reads), output.stride(0), stride_of(checkpoints),
        H=H, HV=HV, K=K, V=V, C=CHUNK, GROUPS=groups, STAGES=stages, STATE_KV=state_kv, PAD=pad_slot_id,
        ZERO_PADS=zero_pads, EVERY=checkpoint_every, NP=1 if starts is None else triton.next_power_of_2(N),
        num_warps=4, launch_pdl=True,
    )  # fmt: skip


def _tokens(x: Tensor, columns: int) -> TensorDescriptor:
    """Of [T, heads, D] with contiguous heads: tiles of a chunk's tokens and `columns` of all heads' columns."""
    return _tiles(x, [x.shape[0], x.shape[1] * x.shape[2]], x.stride(0), columns)


def _rows(x: Tensor) -> TensorDescriptor:
    """Of a contiguous [blocks, heads, C, D]: tiles of C rows."""
    columns = x.shape[3]
    return _tiles(x, [x.numel() // columns, columns], columns, columns)


def _tiles(x: Tensor, shape: list[int], stride: int, columns: int) -> TensorDescriptor:
    tile = [CHUNK, columns]
    layout = gl.NVMMASharedLayout.get_default_for(tile, GLUON[x.dtype])
    return TensorDescriptor(x, shape, [stride, 1], tile, layout)


def _numbers(x: Tensor, count: int) -> TensorDescriptor:
    """Of a contiguous float32 tensor: so many numbers in a row."""
    return TensorDescriptor(x, [x.numel()], [1], [count], gl.NVMMASharedLayout(0, 32, 1))
