"""The stages without state: *unpack*, *gates* (with the q/k norm) and *norm*. Token by token; no tables."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (its customary name)

from gdn_verify.kernels.rows import expect_shape

QK_NORM_EPS = 1e-6


def unpack(
    qkvz: Tensor,
    ba: Tensor,
    num_k_heads: int,
    num_v_heads: int,
    head_k_dim: int,
    head_v_dim: int,
    packing: str = "flat",
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Splits packed projections into (mixed_qkv [T, D], z [T, HV, V], b [T, HV], a [T, HV]), bit for bit.

    `qkvz` [T, D + HV·V] and `ba` [T, 2·HV], any float dtype and row stride. "flat" is [q | k | v | z] and
    [b | a] over all heads (Qwen3.5); "interleaved" (Qwen3-Next) is [q(K) | k(K) | v(r·V) | z(r·V)] and
    [b(r) | a(r)] per key head, r = HV/H. mixed_qkv is flat q|k|v over all heads in either case, D = 2·H·K +
    HV·V. The results are views of the inputs where the packing permits. Raises ValueError for other shapes
    or packings.
    """
    H, HV, K, V = num_k_heads, num_v_heads, head_k_dim, head_v_dim
    if H < 1 or HV % H:
        raise ValueError(f"num_v_heads={HV} is not a multiple of num_k_heads={H}")
    T = qkvz.shape[0]
    expect_shape("qkvz", qkvz, (T, 2 * H * K + 2 * HV * V))
    expect_shape("ba", ba, (T, 2 * HV))
    if packing == "flat":
        mixed_qkv, z = qkvz.split([2 * H * K + HV * V, HV * V], dim=1)
        b, a = ba.split(HV, dim=1)
        return mixed_qkv, z.unflatten(1, (HV, V)), b, a
    if packing != "interleaved":
        raise ValueError(f"packing={packing!r} is not one of 'flat', 'interleaved'")
    r = HV // H
    q, k, v, z = qkvz.unflatten(1, (H, 2 * K + 2 * r * V)).split([K, K, r * V, r * V], dim=2)
    b, a = ba.unflatten(1, (H, 2 * r)).split(r, dim=2)
    return torch.cat([x.flatten(1) for x in (q, k, v)], 1), z.reshape(T, HV, V), b.flatten(1), a.flatten(1)


def split_qkv(
    mixed_qkv: Tensor, num_k_heads: int, num_v_heads: int, head_k_dim: int, head_v_dim: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Views of [T, D] as q, k [T, H, K] and v [T, HV, V]."""
    keys, values = num_k_heads * head_k_dim, num_v_heads * head_v_dim
    q, k, v = mixed_qkv.split([keys, keys, values], dim=1)
    by_head = (num_k_heads, head_k_dim)
    return q.unflatten(1, by_head), k.unflatten(1, by_head), v.unflatten(1, (num_v_heads, head_v_dim))


def gates(
    a: Tensor,
    b: Tensor,
    A_log: Tensor,
    dt_bias: Tensor,
    beta_scale: float = 1.0,
    threshold: float = 20.0,
) -> tuple[Tensor, Tensor]:
    """g = -exp(A_log) · softplus(a + dt_bias), the *log* decay, and β = beta_scale · sigmoid(b).

    `a`, `b` [T, HV], `A_log`, `dt_bias` [HV], any float dtype; returns float32 [T, HV] twice, computed in
    float32. softplus(x) is x above `threshold`. Source: the contract's equation 2.
    """
    expect_shape("b", b, tuple(a.shape))
    expect_shape("A_log", A_log, (a.shape[1],))
    expect_shape("dt_bias", dt_bias, (a.shape[1],))
    g = -A_log.float().exp() * F.softplus(a.float() + dt_bias.float(), threshold=threshold)
    return g, beta_scale * b.float().sigmoid()


def qk_norm(q: Tensor, k: Tensor, scale: float | None = None, eps: float = QK_NORM_EPS) -> tuple[Tensor, Tensor]:
    """q / sqrt(Σq² + eps) · scale and k / sqrt(Σk² + eps), over the last dimension.

    `q`, `k` [T, H, K]; returns float32, computed in float32. `scale` is K^-½ where it is None and is used as
    given otherwise, zero included. Source: the contract's equation 3.
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return _unit(q, eps) * scale, _unit(k, eps)


def _unit(x: Tensor, eps: float) -> Tensor:
    x = x.float()
    return x / (x.square().sum(-1, keepdim=True) + eps).sqrt()


def gated_norm(o: Tensor, z: Tensor, weight: Tensor, eps: float = 1e-6, activation: str = "silu") -> Tensor:
    """out = o · rsqrt(mean(o²) + eps) · weight · act(z), the mean over V, act SiLU or sigmoid.

    `o`, `z` [T, HV, V], `weight` [V], shared by the heads; computed in float32, returned in o's dtype.
    Source: the contract's equation 5. Raises ValueError for other shapes or activations.
    """
    expect_shape("z", z, tuple(o.shape))
    expect_shape("weight", weight, (o.shape[-1],))
    if activation not in ("silu", "sigmoid"):
        raise ValueError(f"activation={activation!r} is not one of 'silu', 'sigmoid'")
    gate = F.silu(z.float()) if activation == "silu" else z.float().sigmoid()
    wide = o.float()
    normed = wide * (wide.square().mean(-1, keepdim=True) + eps).rsqrt()
    return (normed * weight.float() * gate).to(o.dtype)
