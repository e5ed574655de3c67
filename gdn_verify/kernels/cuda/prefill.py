"""The recurrence over rows of any length in one launch, in CUDA C++: `chunk_delta`."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from gdn_verify.kernels.cuda.arguments import Arguments
from gdn_verify.kernels.cuda.chunks import ChunkConfig, Operation, choose_chunks, fitting_plan, refused
from gdn_verify.kernels.cuda.launch import capability, launch
from gdn_verify.kernels.cuda.plans import Source
from gdn_verify.kernels.delta import check_delta
from gdn_verify.kernels.rows import Tables
from gdn_verify.kernels.stages import QK_NORM_EPS
from gdn_verify.kernels.triton.checks import check_chunked, check_plain, refuse_gradients  # imports no Triton
from gdn_verify.kernels.triton.strides import stride_of

ARGUMENTS = Arguments(
    pointer=(
        "q", "k", "v", "g", "beta", "pool", "state_indices", "read_indices", "query_start_loc", "has_initial_state",
        "out",
    ),
    int64=(
        "stride_q", "stride_k", "stride_v", "stride_g", "stride_beta", "stride_pool", "stride_index", "stride_read",
        "stride_out", "num_rows", "num_tokens", "num_slots", "pad",
    ),
    int32=("qk_norm", "zero_pads", "wide_indices", "wide_reads", "wide_starts"),
    float32=("scale", "eps"),
)  # fmt: skip
SOURCE = Source("chunk_delta.cu", "gdn_cuda_chunk_delta", ARGUMENTS)
NOBODY = -1
"""An id that is padding anyway."""
PROCESSORS = 132
"""Multiprocessors of an H100 and an H200: what stands for them where there is no card."""


def chunk_delta(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, pool: Tensor, tables: Tables, *,
    scale: float | None = None, qk_norm: bool = True, eps: float = QK_NORM_EPS, state_order: str = "VK",
    pad_slot_id: int | None = None, output: Tensor | None = None, zero_pads: bool = True,
    config: ChunkConfig | None = None,
) -> Tensor:  # fmt: skip
    """`triton.chunk.chunk_delta`, with the same operands, results, conventions and errors, by one kernel in CUDA C++.

    Of those it takes what `refused` does not name: bfloat16 and float16, K and V of certain sizes, tokens at multiples
    of 16 bytes. There are no checkpoints, and no segments. It runs where `cuda.decode.fused_decode` does, on cards with
    enough shared memory. Raises ValueError for operands that it does not take, RuntimeError where it cannot run or a
    gradient is asked.
    """
    check_delta(q, k, v, g, beta, pool, state_order)
    check_plain(tables)
    output = torch.empty_like(v, memory_format=torch.contiguous_format) if output is None else output
    check_chunked(q, k, v, g, beta, output, pool)
    refuse_gradients(q, k, v, g, beta)
    if (reason := refused(q, k, v)) is not None:
        raise ValueError(f"{reason}; triton.chunk.chunk_delta takes it")
    (T, _, K), (HV, V), rows = q.shape, v.shape[1:], tables.rows
    if T == 0 or rows == 0:
        return output.zero_() if zero_pads else output
    chip = capability(q.device)
    operation = Operation.of(q, v, g, beta, pool, output, state_order)
    config = config or choose_chunks(rows * HV, V, _processors(q.device))
    plan = fitting_plan(SOURCE, config, operation, chip)
    known, reads = tables.has_initial_state, tables.read_indices
    launch(
        q.device, plan.kernel, plan.grid(rows, HV),
        q, k, v, g, beta, pool, tables.state_indices, reads, tables.query_start_loc,
        None if known is None else known.bool(), output,
        q.stride(0), k.stride(0), v.stride(0), g.stride(0), beta.stride(0), pool.stride(0),
        tables.state_indices.stride(0), stride_of(reads), output.stride(0), rows, T, pool.shape[0],
        NOBODY if pad_slot_id is None else pad_slot_id, qk_norm, zero_pads,
        tables.state_indices.dtype == torch.int64, reads is not None and reads.dtype == torch.int64,
        tables.query_start_loc.dtype == torch.int64, K**-0.5 if scale is None else scale, eps,
    )  # fmt: skip
    return output


@cache
def _processors(device: torch.device) -> int:
    if device.type != "cuda":
        return PROCESSORS
    return torch.cuda.get_device_properties(device).multi_processor_count
