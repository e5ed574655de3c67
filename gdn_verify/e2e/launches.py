"""The launch that a layer's call is, whatever the platform: views of the engine's pools, tables from its metadata."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gdn_verify.cases.case import Batch
from gdn_verify.cases.contract import ConvLayout, DType, DTypes, Geometry, Options, StateOrder
from gdn_verify.cases.presentation import Presentation
from gdn_verify.e2e.handed import rows_of, tables_of
from gdn_verify.paths.base import Launch

if TYPE_CHECKING:
    from torch import Tensor

KV = Presentation(state_order=StateOrder.KV, conv_layout=ConvLayout.D_CONTIGUOUS)
"""On a CPU: ssm [P, HV, K, V], conv [P, C, D]; slot 0 is the null block, and no row's."""
VK = Presentation(state_order=StateOrder.VK, conv_layout=ConvLayout.D_CONTIGUOUS)
"""On a GPU: ssm [P, HV, V, K]."""


@dataclass(frozen=True)
class Memory:
    """A layer's own: `conv_pool` [P, D, C] and `ssm_pool` as `shown` says, and the conv's `weight` [D, W]."""

    conv_pool: Tensor
    ssm_pool: Tensor
    weight: Tensor
    shown: Presentation


def launch_of(layer: Any, made: Any, memory: Memory, x: Tensor, b: Tensor, a: Tensor, out: Tensor) -> Launch:
    """The launch of `layer` on x [T, D], b, a [T, HV], filling out [T, HV, V]; `made` is vLLM's metadata."""
    H, HV = layer.num_k_heads // layer.tp_size, layer.num_v_heads // layer.tp_size
    width = memory.weight.shape[1]
    spec = memory.conv_pool.shape[2] - (width - 1)
    geometry = Geometry(H, HV, layer.head_k_dim, layer.head_v_dim, width, spec)
    rows = rows_of(made, geometry.S)
    tokens = sum(row.tokens for row in rows)
    tensors = {
        "mixed_qkv": x[:tokens], "b": b[:tokens], "a": a[:tokens], "out": out[:tokens],
        "conv_weight": memory.weight, "A_log": layer.A_log.float(), "dt_bias": layer.dt_bias.float(),
        "conv_pool": memory.conv_pool, "ssm_pool": memory.ssm_pool,
    }  # fmt: skip
    tensors |= {name: table.to(x.device) for name, table in tables_of(rows, geometry.S).items()}
    if layer.conv1d.bias is not None:
        tensors["conv_bias"] = layer.conv1d.bias
    dtypes = DTypes(
        _dtype(x), _dtype(memory.ssm_pool), _dtype(memory.conv_pool), weights=_dtype(memory.weight)
    )  # fmt: skip
    options = Options(conv_bias=layer.conv1d.bias is not None)
    return Launch(geometry, dtypes, options, Batch(rows), memory.shown, tensors)


def _dtype(tensor: Tensor) -> DType:
    return DType(str(tensor.dtype).removeprefix("torch."))
