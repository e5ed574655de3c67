"""Rows of any length as operators; see the package."""

from __future__ import annotations

import torch
from torch import Tensor

from gdn_verify.kernels.fallback import Layer
from gdn_verify.kernels.ops.registration import flattened, operator
from gdn_verify.kernels.rows import Tables
from gdn_verify.kernels.stages import QK_NORM_EPS
from gdn_verify.kernels.triton.checks import check_no_gradient, refuse_gradients  # imports no Triton


def chunked_prefill(
    qkvz: Tensor,
    ba: Tensor,
    layer: Layer,
    conv_pool: Tensor,
    pool: Tensor,
    tables: Tables,
    *,
    packing: str = "flat",
    state_order: str = "VK",
    pad_slot_id: int | None = None,
    output: Tensor | None = None,
    z_output: Tensor | None = None,
    zero_pads: bool = True,
    exact: bool = False,
    checkpoints: Tensor | None = None,
    checkpoint_every: int = 0,
) -> Tensor:
    """`triton.prefill.chunked_prefill` through its operator: the same operands, result and errors."""
    check_no_gradient(layer, qkvz, ba)
    if output is None:
        output = qkvz.new_empty(qkvz.shape[0], layer.num_v_heads, layer.head_v_dim)
    torch.ops.gdn_verify.chunked_prefill(
        qkvz, ba, conv_pool, pool, output, z_output, packing, state_order, pad_slot_id, zero_pads, exact,
        checkpoints, checkpoint_every, *flattened(tables), *flattened(layer),
    )  # fmt: skip
    return output


def conv_prefill(
    x: Tensor,
    layer: Layer,
    conv_pool: Tensor,
    tables: Tables,
    *,
    packing: str | None = "flat",
    pad_slot_id: int | None = None,
    output: Tensor | None = None,
) -> Tensor:
    """`triton.conv_prefill.conv_prefill` through its operator: the same operands, result and errors."""
    check_no_gradient(layer, x)
    output = x.new_empty(x.shape[0], layer.channels) if output is None else output
    torch.ops.gdn_verify.conv_prefill(
        x, conv_pool, output, packing, pad_slot_id, *flattened(tables), *flattened(layer)
    )  # fmt: skip
    return output


def chunk_delta(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    pool: Tensor,
    tables: Tables,
    *,
    scale: float | None = None,
    qk_norm: bool = True,
    eps: float = QK_NORM_EPS,
    state_order: str = "VK",
    pad_slot_id: int | None = None,
    output: Tensor | None = None,
    zero_pads: bool = True,
    exact: bool = False,
    checkpoints: Tensor | None = None,
    checkpoint_every: int = 0,
    kernels: str = "fused",
) -> Tensor:
    """`triton.chunk.chunk_delta` through its operator: the same operands, result and errors.

    With `kernels="cuda"` that of CUDA C++, which is neither `exact` nor has checkpoints: ValueError.
    """
    refuse_gradients(q, k, v, g, beta)
    output = v.new_empty(v.shape) if output is None else output
    if kernels == "cuda":
        if exact or checkpoints is not None or checkpoint_every:
            raise ValueError("exact and checkpoints are not had with kernels='cuda'; use kernels='fused'")
        torch.ops.gdn_verify.cuda_chunk_delta(
            q, k, v, g, beta, pool, output, scale, qk_norm, eps, state_order, pad_slot_id, zero_pads,
            *flattened(tables),
        )  # fmt: skip
        return output
    torch.ops.gdn_verify.chunk_delta(
        q, k, v, g, beta, pool, output, scale, qk_norm, eps, state_order, pad_slot_id, zero_pads, exact,
        checkpoints, checkpoint_every, *flattened(tables),
    )  # fmt: skip
    return output


@operator(
    "chunked_prefill",
    "Tensor qkvz, Tensor ba, Tensor(a!) conv_pool, Tensor(b!) pool, Tensor(c!) output, Tensor(d!)? z_output, "
    "str packing, str state_order, int? pad_slot_id, bool zero_pads, bool exact, Tensor(e!)? checkpoints, "
    "int checkpoint_every",
    Tables,
    Layer,
)
def _chunked_prefill(
    qkvz: Tensor, ba: Tensor, conv_pool: Tensor, pool: Tensor, output: Tensor, z_output: Tensor | None, packing: str,
    state_order: str, pad_slot_id: int | None, zero_pads: bool, exact: bool, checkpoints: Tensor | None,
    checkpoint_every: int, tables: Tables, layer: Layer,
) -> None:  # fmt: skip
    from gdn_verify.kernels.triton import prefill

    prefill.chunked_prefill(
        qkvz, ba, layer, conv_pool, pool, tables, packing=packing, state_order=state_order, pad_slot_id=pad_slot_id,
        output=output, z_output=z_output, zero_pads=zero_pads, exact=exact, checkpoints=checkpoints,
        checkpoint_every=checkpoint_every,
    )  # fmt: skip


@operator(
    "conv_prefill",
    "Tensor x, Tensor(a!) conv_pool, Tensor(b!) output, str? packing, int? pad_slot_id",
    Tables,
    Layer,
)
def _conv_prefill(
    x: Tensor, conv_pool: Tensor, output: Tensor, packing: str | None, pad_slot_id: int | None, tables: Tables,
    layer: Layer,
) -> None:  # fmt: skip
    from gdn_verify.kernels.triton import conv_prefill as kernel

    kernel.conv_prefill(x, layer, conv_pool, tables, packing=packing, pad_slot_id=pad_slot_id, output=output)


@operator(
    "chunk_delta",
    "Tensor q, Tensor k, Tensor v, Tensor g, Tensor beta, Tensor(a!) pool, Tensor(b!) output, float? scale, "
    "bool qk_norm, float eps, str state_order, int? pad_slot_id, bool zero_pads, bool exact, "
    "Tensor(c!)? checkpoints, int checkpoint_every",
    Tables,
)
def _chunk_delta(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, pool: Tensor, output: Tensor, scale: float | None,
    qk_norm: bool, eps: float, state_order: str, pad_slot_id: int | None, zero_pads: bool, exact: bool,
    checkpoints: Tensor | None, checkpoint_every: int, tables: Tables,
) -> None:  # fmt: skip
    from gdn_verify.kernels.triton import chunk

    chunk.chunk_delta(
        q, k, v, g, beta, pool, tables, scale=scale, qk_norm=qk_norm, eps=eps, state_order=state_order,
        pad_slot_id=pad_slot_id, output=output, zero_pads=zero_pads, exact=exact,
        checkpoints=checkpoints, checkpoint_every=checkpoint_every,
    )  # fmt: skip


@operator(
    "cuda_chunk_delta",
    "Tensor q, Tensor k, Tensor v, Tensor g, Tensor beta, Tensor(a!) pool, Tensor(b!) output, float? scale, "
    "bool qk_norm, float eps, str state_order, int? pad_slot_id, bool zero_pads",
    Tables,
    kernels="cuda",
)
def _cuda_chunk_delta(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, pool: Tensor, output: Tensor, scale: float | None,
    qk_norm: bool, eps: float, state_order: str, pad_slot_id: int | None, zero_pads: bool, tables: Tables,
) -> None:  # fmt: skip
    from gdn_verify.kernels.cuda import prefill

    prefill.chunk_delta(
        q, k, v, g, beta, pool, tables, scale=scale, qk_norm=qk_norm, eps=eps, state_order=state_order,
        pad_slot_id=pad_slot_id, output=output, zero_pads=zero_pads,
    )  # fmt: skip
