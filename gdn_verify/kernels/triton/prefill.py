"""Prefill from packed projections in four launches: `chunked_prefill`, for plain rows of any length."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gdn_verify.kernels.fallback import Layer
from gdn_verify.kernels.rows import Tables
from gdn_verify.kernels.stages import split_qkv
from gdn_verify.kernels.triton.checks import (
    check_checkpoints,
    check_conv_pool,
    check_outputs,
    check_packed,
    check_plain,
    check_pool,
)
from gdn_verify.kernels.triton.chunk import chunk_delta
from gdn_verify.kernels.triton.conv_prefill import check_width, prepare_prefill
from gdn_verify.kernels.triton.gated_norm import gated_norm
from gdn_verify.kernels.triton.shape import Shape


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
    shape: Shape | None = None,
    recurrence: Callable[..., Tensor] | None = None,
) -> Tensor:
    """conv → gates → q/k norm → delta → gated norm over plain rows of any length; pools in place.

    `qkvz` [T, D + HV·V] and `ba` [T, 2·HV], packed as `unpack` tells, any row stride; `conv_pool` [P, D, C], of any
    strides, W ≤ 16: columns beyond W-1 keep their bytes; `pool` [P, HV, V, K] ("VK") or [P, HV, K, V] ("KV"), each
    slot contiguous; pools float32, bfloat16 or float16. `tables` are those of plain rows, `state_indices` [N] of any
    stride; a row is padded if the id of its slot, or of one that it reads, is outside [0, P) or is `pad_slot_id`. No
    row may write a slot that another row reads or writes, which is not checked.

    Returns `output` [T, HV, V] (made where it is None, in qkvz's dtype): the normed output, or o where the layer has
    no norm weight. `z_output` [T, HV, V] receives z of every row's tokens, bit for bit. Outputs of padded rows and
    tokens are zeros, or with `zero_pads=False` keep their bytes.

    Four launches: the conv with gates and z; the two of `chunk_delta`, which tells of `exact`, `shape` and checkpoints;
    the norm, if there is one. The conv's output is rounded to qkvz's dtype, and so is o before a norm, unless `output`
    is float32. `recurrence` stands in for `chunk_delta`. Nothing is read back, so the launches can be captured in a
    graph. Raises ValueError for operands that do not fit, before a pool is touched, and RuntimeError where a gradient
    is asked.
    """
    check_prefill(qkvz, ba, layer, conv_pool, pool, tables, packing, state_order)
    check_checkpoints(checkpoints, checkpoint_every, pool, qkvz.shape[0])
    output = check_outputs(qkvz, layer, output, z_output)
    mixed_qkv, g, beta = prepare_prefill(
        qkvz, ba, layer, conv_pool, tables, packing=packing, pad_slot_id=pad_slot_id, z_output=z_output
    )
    in_place = layer.norm_weight is None or output.dtype in (qkvz.dtype, torch.float32)
    if not in_place and zero_pads:
        output.zero_()
    o = (recurrence or chunk_delta)(
        *split_qkv(mixed_qkv, *layer.geometry), g, beta, pool, tables, scale=layer.scale, eps=layer.qk_norm_eps,
        state_order=state_order, pad_slot_id=pad_slot_id, output=output if in_place else None,
        zero_pads=zero_pads and in_place, exact=exact, checkpoints=checkpoints,
        checkpoint_every=checkpoint_every, shape=shape,
    )  # fmt: skip
    if layer.norm_weight is None:
        return output
    return gated_norm(
        o, qkvz, layer, tables, pool.shape[0], packing=packing, pad_slot_id=pad_slot_id, output=output
    )  # fmt: skip


def check_prefill(
    qkvz: Tensor, ba: Tensor, layer: Layer, conv_pool: Tensor, pool: Tensor, tables: Tables, packing: str,
    state_order: str,
) -> None:  # fmt: skip
    """Raises ValueError for what `chunked_prefill` does not take; reads no device memory."""
    check_packed(qkvz, ba, layer, packing)
    check_width(layer)
    check_pool(layer, pool, state_order)
    check_conv_pool(layer, conv_pool, slots=pool.shape[0])
    check_plain(tables)
