"""Decode and drafts as operators; see the package."""

from __future__ import annotations

from importlib import import_module

import torch
from torch import Tensor

from gdn_verify.kernels.fallback import Layer
from gdn_verify.kernels.ops.registration import flattened, operator
from gdn_verify.kernels.triton.checks import check_no_gradient  # imports no Triton

_PREFIXES = {"fused": "", "cuda": "cuda_"}
"""What operators' names begin with, by the kernels that they call."""
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
    kernels: str = "fused",
) -> Tensor:
    """`triton.decode.fused_decode` through its operator: the same operands, result and errors.

    With `kernels="cuda"` that of CUDA C++.
    """
    check_no_gradient(layer, qkvz, ba)
    output = _output(qkvz, layer) if output is None else output
    getattr(torch.ops.gdn_verify, f"{_PREFIXES[kernels]}fused_decode")(
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
    kernels: str = "fused",
) -> Tensor:
    """`triton.spec.fused_spec_decode` through its operator: the same operands, result and errors.

    With `kernels="cuda"` that of CUDA C++.
    """
    check_no_gradient(layer, qkvz, ba)
    output = _output(qkvz, layer) if output is None else output
    getattr(torch.ops.gdn_verify, f"{_PREFIXES[kernels]}fused_spec_decode")(
        qkvz, ba, conv_pool, pool, state_indices, query_start_loc, num_accepted_tokens, spec_rows, output, z_output,
        packing, state_order, pad_slot_id, zero_pads, *flattened(layer),
    )  # fmt: skip
    return output


def conv_update(
    qkvz: Tensor,
    layer: Layer,
    conv_pool: Tensor,
    state_indices: Tensor,
    mixed_qkv: Tensor,
    z_output: Tensor,
    *,
    query_start_loc: Tensor | None = None,
    packing: str = "flat",
    pad_slot_id: int | None = None,
) -> None:
    """`triton.two_launch.conv_update` through its operator: the same operands and errors."""
    check_no_gradient(layer, qkvz)
    torch.ops.gdn_verify.conv_update(
        qkvz, conv_pool, state_indices, query_start_loc, mixed_qkv, z_output, packing, pad_slot_id, *flattened(layer)
    )


def delta_update(
    mixed_qkv: Tensor,
    ba: Tensor,
    layer: Layer,
    pool: Tensor,
    state_indices: Tensor,
    output: Tensor,
    *,
    query_start_loc: Tensor | None = None,
    packing: str = "flat",
    state_order: str = "VK",
    pad_slot_id: int | None = None,
    zero_pads: bool = True,
) -> Tensor:
    """`triton.two_launch.delta_update` through its operator: the same operands, result and errors."""
    check_no_gradient(layer, mixed_qkv, ba)
    torch.ops.gdn_verify.delta_update(
        mixed_qkv, ba, pool, state_indices, query_start_loc, output,
        packing, state_order, pad_slot_id, zero_pads, *flattened(layer),
    )  # fmt: skip
    return output


def _output(qkvz: Tensor, layer: Layer) -> Tensor:
    return qkvz.new_empty(qkvz.shape[0], layer.num_v_heads, layer.head_v_dim)


def _register(kernels: str, package: str) -> None:
    """The operators of both for these kernels, by the name in `fast`, whose modules are in `package`."""

    @operator(
        f"{_PREFIXES[kernels]}fused_decode",
        "Tensor qkvz, Tensor ba, Tensor(a!) conv_pool, Tensor(b!) pool, Tensor state_indices, Tensor? query_start_loc, "
        f"Tensor(c!) output, Tensor(d!)? z_output, {_ROW_OPTIONS}",
        Layer,
        kernels=kernels,
    )
    def decode(
        qkvz: Tensor, ba: Tensor, conv_pool: Tensor, pool: Tensor, state_indices: Tensor,
        query_start_loc: Tensor | None, output: Tensor, z_output: Tensor | None, packing: str, state_order: str,
        pad_slot_id: int | None, zero_pads: bool, layer: Layer,
    ) -> None:  # fmt: skip
        import_module(f"{package}.decode").fused_decode(
            qkvz, ba, layer, conv_pool, pool, state_indices, query_start_loc=query_start_loc, output=output,
            z_output=z_output, packing=packing, state_order=state_order, pad_slot_id=pad_slot_id, zero_pads=zero_pads,
        )  # fmt: skip

    @operator(
        f"{_PREFIXES[kernels]}fused_spec_decode",
        "Tensor qkvz, Tensor ba, Tensor(a!) conv_pool, Tensor(b!) pool, Tensor state_indices, Tensor query_start_loc, "
        f"Tensor num_accepted_tokens, Tensor? spec_rows, Tensor(c!) output, Tensor(d!)? z_output, {_ROW_OPTIONS}",
        Layer,
        kernels=kernels,
    )
    def drafts(
        qkvz: Tensor, ba: Tensor, conv_pool: Tensor, pool: Tensor, state_indices: Tensor, query_start_loc: Tensor,
        num_accepted_tokens: Tensor, spec_rows: Tensor | None, output: Tensor, z_output: Tensor | None,
        packing: str, state_order: str, pad_slot_id: int | None, zero_pads: bool, layer: Layer,
    ) -> None:  # fmt: skip
        import_module(f"{package}.spec").fused_spec_decode(
            qkvz, ba, layer, conv_pool, pool, state_indices, query_start_loc, num_accepted_tokens,
            spec_rows=spec_rows, output=output, z_output=z_output, packing=packing, state_order=state_order,
            pad_slot_id=pad_slot_id, zero_pads=zero_pads,
        )  # fmt: skip


_register("fused", "gdn_verify.kernels.triton")
_register("cuda", "gdn_verify.kernels.cuda")


@operator(
    "conv_update",
    "Tensor qkvz, Tensor(a!) conv_pool, Tensor state_indices, Tensor? query_start_loc, Tensor(b!) mixed_qkv, "
    "Tensor(c!) z_output, str packing, int? pad_slot_id",
    Layer,
)
def _conv_update(
    qkvz: Tensor, conv_pool: Tensor, state_indices: Tensor, query_start_loc: Tensor | None, mixed_qkv: Tensor,
    z_output: Tensor, packing: str, pad_slot_id: int | None, layer: Layer,
) -> None:  # fmt: skip
    from gdn_verify.kernels.triton import two_launch

    two_launch.conv_update(
        qkvz, layer, conv_pool, state_indices, mixed_qkv, z_output, query_start_loc=query_start_loc,
        packing=packing, pad_slot_id=pad_slot_id,
    )  # fmt: skip


@operator(
    "delta_update",
    "Tensor mixed_qkv, Tensor ba, Tensor(a!) pool, Tensor state_indices, Tensor? query_start_loc, Tensor(b!) output, "
    f"{_ROW_OPTIONS}",
    Layer,
)
def _delta_update(
    mixed_qkv: Tensor, ba: Tensor, pool: Tensor, state_indices: Tensor, query_start_loc: Tensor | None,
    output: Tensor, packing: str, state_order: str, pad_slot_id: int | None, zero_pads: bool, layer: Layer,
) -> None:  # fmt: skip
    from gdn_verify.kernels.triton import two_launch

    two_launch.delta_update(
        mixed_qkv, ba, layer, pool, state_indices, output, query_start_loc=query_start_loc, packing=packing,
        state_order=state_order, pad_slot_id=pad_slot_id, zero_pads=zero_pads,
    )  # fmt: skip
