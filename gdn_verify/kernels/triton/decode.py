"""Decode in one launch: `fused_decode`, for rows of one resumed token each."""

from __future__ import annotations

import torch
from torch import Tensor

from gdn_verify.kernels.fallback import Layer
from gdn_verify.kernels.rows import INDEX_DTYPES, POOL_DTYPES, expect_dtype, expect_shape
from gdn_verify.kernels.triton.config import Config, Sizes, choose
from gdn_verify.kernels.triton.decode_kernel import gdn_decode_kernel
from gdn_verify.kernels.triton.target import current_target
from gdn_verify.kernels.triton.tickets import tickets_of

PACKINGS = ("flat", "interleaved")
STATE_ORDERS = ("VK", "KV")


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
    config: Config | None = None,
    tickets: Tensor | None = None,
) -> Tensor:
    """conv → gates → q/k norm → delta → gated norm for rows of one token each, in one launch; pools in place.

    `qkvz` [T, D + HV·V] and `ba` [T, 2·HV], packed as `unpack` tells, any row stride; `conv_pool` [P, D, C], of any
    strides, C ≥ W-1: columns beyond W-1 keep their bytes; `pool` [P, HV, V, K] ("VK") or [P, HV, K, V] ("KV"), each
    slot contiguous; pools float32, bfloat16 or float16. `state_indices` [N], int32 or int64, any stride: a row is
    padded if its id is outside [0, P) or is `pad_slot_id`. Row n is token n, or, where rows may be empty, those of
    `query_start_loc` [N+1]; a row of other than one token is passed over.

    Returns `output` [T, HV, V] (made where it is None, in qkvz's dtype): the normed output, or o where the layer has
    no norm weight. `z_output` [T, HV, V] receives z of every token, bit for bit. Outputs of padded rows and tokens
    are zeros, or with `zero_pads=False` keep their bytes.

    Everything is float32 between loads and stores. The device is not synchronised and nothing is read back, so the
    launch can be captured in a graph (once it has run on this `conv_pool`, or with `tickets` from `make_tickets`).
    Raises ValueError for operands that do not fit; slots of live rows must be distinct, which is not checked.
    """
    sizes = Sizes(*layer.geometry, pool.element_size())
    rows, tokens = state_indices.shape[0], qkvz.shape[0]
    check_packed(qkvz, ba, layer, packing)
    check_pools(layer, conv_pool, pool, state_order)
    check_rows(state_indices, query_start_loc)
    output = check_outputs(qkvz, layer, output, z_output)
    units = max(rows, tokens)
    if tokens == 0:
        return output
    target = current_target()
    config = config or choose(target, units, sizes)
    constants = config.constants(sizes)
    shared = constants["SPLITS"] * sizes.ratio // constants["HEADS"] > 1
    joins = constants["SPLITS"] > 1 and layer.norm_weight is not None
    weight = layer.conv_weight
    gdn_decode_kernel[(units * sizes.HV // constants["HEADS"] * constants["SPLITS"],)](
        qkvz, ba, weight, layer.conv_bias, conv_pool, layer.A_log, layer.dt_bias, pool, state_indices,
        query_start_loc, layer.norm_weight, output, z_output,
        qkvz.new_empty(units * sizes.HV * sizes.V, dtype=torch.float32) if joins else None,
        (tickets_of(conv_pool, sizes.H) if tickets is None else tickets) if shared else None,
        rows, tokens, pool.shape[0], layer.q_scale, layer.qk_norm_eps, layer.norm_eps,
        layer.softplus_threshold, layer.beta_scale,
        qkvz.stride(0), ba.stride(0), conv_pool.stride(0), pool.stride(0), state_indices.stride(0),
        output.stride(0), 0 if z_output is None else z_output.stride(0),
        H=sizes.H, HV=sizes.HV, K=sizes.K, V=sizes.V, W=weight.shape[1],
        CONV=True, X_INTERLEAVED=packing == "interleaved", BA_INTERLEAVED=packing == "interleaved",
        CONV_SILU=layer.conv_activation == "silu", NORM_SILU=layer.norm_activation == "silu",
        STATE_KV=state_order == "KV", STRIDE_D=conv_pool.stride(1), STRIDE_C=conv_pool.stride(2),
        TAPS_IN_WORD=taps_in_word(weight), PAD=pad_slot_id, ZERO_PADS=zero_pads, EARLY=not target.amd,
        **constants, **config.options(target),
    )  # fmt: skip
    return output


def taps_in_word(weight: Tensor) -> bool:
    """Whether the taps of a channel are four 16-bit numbers at an 8-byte address."""
    return weight.shape[1] == 4 and weight.element_size() == 2 and weight.data_ptr() % 8 == 0


def check_packed(qkvz: Tensor, ba: Tensor, layer: Layer, packing: str) -> None:
    """Raises ValueError unless the projections fit the layer."""
    _, HV, _, V = layer.geometry
    for name in ("conv_weight", "conv_bias", "A_log", "dt_bias", "norm_weight"):
        parameter = getattr(layer, name)
        if parameter is not None and not parameter.is_contiguous():
            raise ValueError(f"{name} has strides {parameter.stride()}; it must be contiguous: call .contiguous()")
    expect_shape("qkvz", qkvz, (None, layer.channels + HV * V))
    expect_shape("ba", ba, (qkvz.shape[0], 2 * HV))
    for name, tensor in (("qkvz", qkvz), ("ba", ba)):
        expect_dtype(name, tensor, POOL_DTYPES)
        if tensor.stride(1) != 1:
            raise ValueError(f"{name} has stride {tensor.stride(1)} between columns; it must be 1: call .contiguous()")
    if packing not in PACKINGS:
        raise ValueError(f"packing={packing!r} is not one of 'flat', 'interleaved'")


def check_pools(layer: Layer, conv_pool: Tensor, pool: Tensor, state_order: str, columns: int = 0) -> None:
    """Raises ValueError unless the pools fit the layer, and each other; a conv slot has at least `columns` columns."""
    _, HV, K, V = layer.geometry
    if state_order not in STATE_ORDERS:
        raise ValueError(f"state_order={state_order!r} is not one of 'VK', 'KV'")
    inner = (HV, V, K) if state_order == "VK" else (HV, K, V)
    expect_shape("pool", pool, (None, *inner))
    expect_dtype("pool", pool, POOL_DTYPES)
    if pool.stride()[1:] != (V * K, inner[2], 1):
        raise ValueError(f"pool has strides {pool.stride()}; each slot must be contiguous, whatever the slot's stride")
    expect_shape("conv_pool", conv_pool, (pool.shape[0], layer.channels, None))
    expect_dtype("conv_pool", conv_pool, POOL_DTYPES)
    needed = max(columns, layer.conv_weight.shape[1] - 1)
    if conv_pool.shape[2] < needed:
        raise ValueError(f"conv_pool has {conv_pool.shape[2]} columns; this launch needs at least {needed}")


def check_rows(state_indices: Tensor, query_start_loc: Tensor | None) -> None:
    """Raises ValueError unless the index tensors fit each other."""
    expect_shape("state_indices", state_indices, (None,))
    expect_dtype("state_indices", state_indices, INDEX_DTYPES)
    if query_start_loc is not None:
        expect_shape("query_start_loc", query_start_loc, (state_indices.shape[0] + 1,))
        expect_dtype("query_start_loc", query_start_loc, INDEX_DTYPES)
        if query_start_loc.stride(0) != 1:
            raise ValueError("query_start_loc must be contiguous: call .contiguous()")


def check_outputs(qkvz: Tensor, layer: Layer, output: Tensor | None, z_output: Tensor | None) -> Tensor:
    """`output`, or a new one; raises ValueError unless each output is [T, HV, V], a token contiguous."""
    shape = (qkvz.shape[0], layer.num_v_heads, layer.head_v_dim)
    output = qkvz.new_empty(shape) if output is None else output
    for name, tensor in (("output", output), ("z_output", z_output)):
        if tensor is None:
            continue
        expect_shape(name, tensor, shape)
        expect_dtype(name, tensor, POOL_DTYPES)
        if tensor.stride()[1:] != (shape[2], 1):
            raise ValueError(f"{name} has strides {tensor.stride()}; the heads of a token must be contiguous")
    return output
