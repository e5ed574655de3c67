"""The PyTorch fallback: the core of a Gated DeltaNet layer over a whole launch, on any device.

Decode, prefill, speculative and mixed launches are one thing here: rows that differ in length and in how
they find their state. Correctness comes first. The host reads the tables back (a launch synchronises with
its device and cannot be captured in a graph), and the recurrence is sequential in the tokens of a row.

Conventions, in the words of the contract:

- Padded row: a row without tokens, or one whose slot is a sentinel: any id outside [0, P), and `pad_slot_id`
  where given (`SENTINELS`). A plain row's slots are its own and, if it has an initial state, the one it
  reads; a speculative row's are column a-1 (ssm) and column 0 (conv). Another sentinel column of a
  speculative row drops that state. There are no other illegal ids and there is no scratch slot.
- Outputs of padded rows and of tokens beyond query_start_loc[-1] are zeros (conv, o, out); z is passed
  through for every token (`PAD_POLICY`). g, β, q̂, k̂ of such tokens are functions of what the inputs hold.
- A row without tokens leaves its conv and ssm slot bit-identical, whatever has_initial_state says.
- Rows in any order; int32 and int64 tables; any strides; slots may be read by several rows, and all reads
  precede all writes. An accepted count outside [1, S] raises ValueError, or with validate=False pads the row.
- A speculative row without initial state starts from zeros in both states; its count still picks the column
  that decides whether it is padded.

Rounding (`ROUNDING_SITES`): everything is computed in float32. Values are rounded to nearest even in four
places only: the conv output and o to the dtype of the activations, a state to the pool's dtype where it is
stored (not between the tokens of a row), and the gated norm's result. A conv state is a copy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gdn_verify.kernels.conv import check_conv, convolve
from gdn_verify.kernels.delta import advance, check_delta, check_output, deliver
from gdn_verify.kernels.rows import (
    INDEX_DTYPES,
    POOL_DTYPES,
    Rows,
    Tables,
    expect_dtype,
    expect_shape,
    live_rows,
)
from gdn_verify.kernels.stages import QK_NORM_EPS, gated_norm, gates, qk_norm, split_qkv, unpack

SENTINELS = "outside [0, P), and pad_slot_id where given"
PAD_POLICY = {"conv": "zeros", "o": "zeros", "out": "zeros", "z": "passed through"}
ROUNDING_SITES = {
    "conv": "activation dtype",
    "o": "activation dtype",
    "h": "pool dtype, where stored",
    "out": "activation dtype",
}
"""Which values are rounded, and to what; all others stay float32."""

__all__ = [
    "INDEX_DTYPES",
    "PAD_POLICY",
    "POOL_DTYPES",
    "ROUNDING_SITES",
    "SENTINELS",
    "Layer",
    "gated_delta_net",
    "gated_delta_net_packed",
]


@dataclass(frozen=True)
class Layer:
    """Geometry, parameters and options of one layer; wrong shapes raise ValueError on construction.

    `conv_weight` [D, W] and `conv_bias` [D] over flat q|k|v, D = 2·H·K + HV·V; `A_log`, `dt_bias` [HV];
    `norm_weight` [V], None to leave out the gated norm. `scale` None is K^-½.
    """

    num_k_heads: int
    num_v_heads: int
    head_k_dim: int
    head_v_dim: int
    conv_weight: Tensor
    A_log: Tensor
    dt_bias: Tensor
    conv_bias: Tensor | None = None
    norm_weight: Tensor | None = None
    scale: float | None = None
    conv_activation: str | None = "silu"
    beta_scale: float = 1.0
    softplus_threshold: float = 20.0
    qk_norm_eps: float = QK_NORM_EPS
    norm_eps: float = 1e-6
    norm_activation: str = "silu"

    def __post_init__(self) -> None:
        H, HV = self.num_k_heads, self.num_v_heads
        if H < 1 or HV < 1 or HV % H:
            raise ValueError(f"num_v_heads={HV} is not a positive multiple of num_k_heads={H}")
        expect_shape("conv_weight", self.conv_weight, (self.channels, None))
        expect_shape("A_log", self.A_log, (HV,))
        expect_shape("dt_bias", self.dt_bias, (HV,))
        if self.conv_activation not in ("silu", None):
            raise ValueError(f"conv_activation={self.conv_activation!r} is not one of 'silu', None")
        if self.norm_activation not in ("silu", "sigmoid"):
            raise ValueError(f"norm_activation={self.norm_activation!r} is not one of 'silu', 'sigmoid'")
        if self.norm_weight is not None:
            expect_shape("norm_weight", self.norm_weight, (self.head_v_dim,))

    @property
    def channels(self) -> int:
        """D, the channels of the convolution."""
        return 2 * self.num_k_heads * self.head_k_dim + self.num_v_heads * self.head_v_dim

    @property
    def q_scale(self) -> float:
        """The factor of q̂: `scale`, or K^-½."""
        return self.head_k_dim**-0.5 if self.scale is None else self.scale

    @property
    def geometry(self) -> tuple[int, int, int, int]:
        """(H, HV, K, V)."""
        return self.num_k_heads, self.num_v_heads, self.head_k_dim, self.head_v_dim


def gated_delta_net(
    mixed_qkv: Tensor,
    z: Tensor | None,
    b: Tensor,
    a: Tensor,
    layer: Layer,
    conv_pool: Tensor,
    pool: Tensor,
    tables: Tables,
    *,
    state_order: str = "VK",
    pad_slot_id: int | None = None,
    validate: bool = True,
    output: Tensor | None = None,
    stages: dict[str, Tensor] | None = None,
) -> Tensor:
    """conv → gates → delta → norm over one launch; updates `conv_pool` and `pool` in place.

    `mixed_qkv` [T, D] flat q|k|v, `z` [T, HV, V] (None if the layer has no norm weight), `b`, `a` [T, HV];
    `conv_pool` [P, D, C], `pool` [P, HV, V, K] ("VK") or [P, HV, K, V] ("KV"). Returns the normed output
    [T, HV, V], or o where the layer has no norm weight, in mixed_qkv's dtype, or `output` filled with it
    (rounded once more if its dtype differs). The module's page has the conventions.

    A dict given as `stages` receives the intermediates: "conv" [T, D] and "o" [T, HV, V] in mixed_qkv's
    dtype, "g", "beta" [T, HV], "q_hat", "k_hat" [T, H, K] in float32; each is what the next stage consumed.
    Raises ValueError as the stages do, before a pool is touched, and RuntimeError for an `output` where a
    gradient is asked.
    """
    _check_launch(mixed_qkv, z, b, a, layer, conv_pool, pool, tables, state_order, output)
    rows = live_rows(tables, mixed_qkv.shape[0], pool.shape[0], conv=True, pad_slot_id=pad_slot_id, validate=validate)
    conv = convolve(mixed_qkv, layer.conv_weight, layer.conv_bias, conv_pool, rows, layer.conv_activation)
    q, k, v = split_qkv(conv, *layer.geometry)
    g, beta = gates(a, b, layer.A_log, layer.dt_bias, layer.beta_scale, layer.softplus_threshold)
    q_hat, k_hat = qk_norm(q, k, layer.scale, layer.qk_norm_eps)
    o = advance(q_hat, k_hat, v, g, beta, pool, rows, state_order).to(conv.dtype)
    if stages is not None:
        stages.update(conv=conv, g=g, beta=beta, q_hat=q_hat, k_hat=k_hat, o=o)
    return deliver(o if z is None else _norm(o, z, layer, rows), output, conv.dtype)


def gated_delta_net_packed(
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
    validate: bool = True,
    output: Tensor | None = None,
    z_output: Tensor | None = None,
    stages: dict[str, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """`gated_delta_net` from packed projections, see `unpack` for `qkvz`, `ba` and `packing`.

    Returns (output, z [T, HV, V]); z is a bit-exact pass-through for every token, padded ones included: a
    view of `qkvz` where the packing permits, or `z_output` filled with it.
    """
    mixed_qkv, z, b, a = unpack(qkvz, ba, *layer.geometry, packing)
    if z_output is not None:
        expect_shape("z_output", z_output, tuple(z.shape))
        expect_dtype("z_output", z_output, (z.dtype,))
    options: dict[str, Any] = {"state_order": state_order, "pad_slot_id": pad_slot_id, "validate": validate}
    gate = None if layer.norm_weight is None else z
    result = gated_delta_net(
        mixed_qkv, gate, b, a, layer, conv_pool, pool, tables, **options, output=output, stages=stages
    )
    return result, z if z_output is None else z_output.copy_(z)


def _norm(o: Tensor, z: Tensor, layer: Layer, rows: Rows) -> Tensor:
    """The gated norm of live tokens, zeros elsewhere: a padded token's z may hold NaN."""
    assert layer.norm_weight is not None  # `_check_launch`
    token = rows.tokens[2]
    live = gated_norm(o[token], z[token], layer.norm_weight, layer.norm_eps, layer.norm_activation)
    return torch.zeros_like(o).index_copy(0, token, live)


def _check_launch(
    mixed_qkv: Tensor,
    z: Tensor | None,
    b: Tensor,
    a: Tensor,
    layer: Layer,
    conv_pool: Tensor,
    pool: Tensor,
    tables: Tables,
    state_order: str,
    output: Tensor | None,
) -> None:
    """Raises for all that does not fit, before any pool is written; reads no device memory."""
    weight, bias = layer.conv_weight, layer.conv_bias
    check_conv(mixed_qkv, weight, bias, conv_pool, layer.conv_activation, tables)
    q, k, v = split_qkv(mixed_qkv, *layer.geometry)
    expect_shape("a", a, tuple(v.shape[:2]))
    expect_shape("b", b, tuple(v.shape[:2]))
    check_delta(q, k, v, a, b, pool, state_order)
    if pool.shape[0] != conv_pool.shape[0]:
        raise ValueError(f"pool has {pool.shape[0]} slots and conv_pool {conv_pool.shape[0]}; they share ids")
    if (z is None) != (layer.norm_weight is None):
        raise ValueError("z and the layer's norm_weight belong together; give both or neither")
    if z is not None:
        expect_shape("z", z, tuple(v.shape))
    parameters = (weight, bias, layer.A_log, layer.dt_bias, layer.norm_weight)
    check_output(output, v.shape, mixed_qkv, z, b, a, *parameters)
