"""Decode and drafts in CUDA C++ as operators; see the package."""

from __future__ import annotations

import torch
from torch import Tensor

from gdn_verify.kernels.fallback import Layer
from gdn_verify.kernels.ops.registration import flattened, operator
from gdn_verify.kernels.triton.checks import check_no_gradient  # imports no Triton

_ROW_OPTIONS = "str packing, str state_order, int? pad_slot_id, bool zero_pads"


def fused_decode(
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
    """`cuda.decode.fused_decode` through its operator: the same operands, result and errors."""
    check_no_gradient(layer, qkvz, ba)
    output = _output(qkvz, layer) if output is None else output
    torch.ops.gdn_verify.cuda_fused_decode(
        qkvz, ba, conv_pool, pool, state_indices, query_start_loc, output, z_output,
        packing, state_order, pad_slot_id, zero_pads, *flattened(layer),
    )  # fmt: skip
    return output


def fused_spec_decode(
    qkvz: Tensor,
    ba: Tensor,
    layer: Layer,
    conv_pool: Tensor,
    pool: Tensor,
    state_indices: Tensor,
    query_start_loc: Tensor,
    num_accepted_tokens: Tensor,
    *,
    spec_rows: Tensor | None = None,
    packing: str = "flat",
    state_order: str = "VK",
    pad_slot_id: int | None = None,
    output: Tensor | None = None,
    z_output: Tensor | None = None,
    zero_pads: bool = True,
) -> Tensor:
    """`cuda.spec.fused_spec_decode` through its operator: the same operands, result and errors."""
    check_no_gradient(layer, qkvz, ba)
    output = _output(qkvz, layer) if output is None else output
    torch.ops.gdn_verify.cuda_fused_spec_decode(
        qkvz, ba, conv_pool, pool, state_indices, query_start_loc, num_accepted_tokens, spec_rows, output, z_output,
        packing, state_order, pad_slot_id, zero_pads, *flattened(layer),
    )  # fmt: skip
    return output


def _output(qkvz: Tensor, layer: Layer) -> Tensor:
    return qkvz.new_empty(qkvz.shape[0], layer.num_v_heads, layer.head_v_dim)


@operator(
    "cuda_fused_decode",
    "Tensor qkvz, Tensor ba, Tensor(a!) conv_pool, Tensor(b!) pool, Tensor state_indices, Tensor? query_start_loc, "
    f"Tensor(c!) output, Tensor(d!)? z_output, {_ROW_OPTIONS}",
    Layer,
    kernels="cuda",
)
def _fused_decode(
    qkvz: Tensor, ba: Tensor, conv_pool: Tensor, pool: Tensor, state_indices: Tensor, query_start_loc: Tensor | None,
    output: Tensor, z_output: Tensor | None, packing: str, state_order: str, pad_slot_id: int | None, zero_pads: bool,
    layer: Layer,
) -> None:  # fmt: skip
    from gdn_verify.kernels.cuda import decode

    decode.fused_decode(
        qkvz, ba, layer, conv_pool, pool, state_indices, query_start_loc=query_start_loc, output=output,
        z_output=z_output, packing=packing, state_order=state_order, pad_slot_id=pad_slot_id, zero_pads=zero_pads,
    )  # fmt: skip


@operator(
    "cuda_fused_spec_decode",
    "Tensor qkvz, Tensor ba, Tensor(a!) conv_pool, Tensor(b!) pool, Tensor state_indices, Tensor query_start_loc, "
    f"Tensor num_accepted_tokens, Tensor? spec_rows, Tensor(c!) output, Tensor(d!)? z_output, {_ROW_OPTIONS}",
    Layer,
    kernels="cuda",
)
def _fused_spec_decode(
    qkvz: Tensor, ba: Tensor, conv_pool: Tensor, pool: Tensor, state_indices: Tensor, query_start_loc: Tensor,
    num_accepted_tokens: Tensor, spec_rows: Tensor | None, output: Tensor, z_output: Tensor | None,
    packing: str, state_order: str, pad_slot_id: int | None, zero_pads: bool, layer: Layer,
) -> None:  # fmt: skip
    from gdn_verify.kernels.cuda import spec

    spec.fused_spec_decode(
        qkvz, ba, layer, conv_pool, pool, state_indices, query_start_loc, num_accepted_tokens,
        spec_rows=spec_rows, output=output, z_output=z_output, packing=packing, state_order=state_order,
        pad_slot_id=pad_slot_id, zero_pads=zero_pads,
    )  # fmt: skip
