"""What the kernels ask of their operands, told before a launch and without reading the device."""

from __future__ import annotations

import torch
from torch import Tensor

from gdn_verify.kernels.fallback import Layer
from gdn_verify.kernels.rows import INDEX_DTYPES, POOL_DTYPES, Tables, expect_dtype, expect_shape

PACKINGS = ("flat", "interleaved")
STATE_ORDERS = ("VK", "KV")
CHECKPOINT_STEP = 64
"""A multiple of every chunk's length: states are known where chunks end, and nowhere else."""
MAX_WIDTH = 8
"""The longest draft, with the token before it, that kernels are unrolled for."""
MOST_STRIDE = 2**31 // 64 - 1
"""Elements from token to token of a prefill or of drafts: within a chunk, or a draft, 32 bits count them."""


def check_packed(qkvz: Tensor | None, ba: Tensor | None, layer: Layer, packing: str) -> None:
    """Raises ValueError unless the projections given fit the layer, and its parameters are contiguous and whole."""
    H, HV, K, V = layer.geometry
    if 24 % (HV // H):
        raise ValueError(f"num_v_heads={HV} is {HV // H} times num_k_heads={H}; taken are the divisors of 24")
    if max(K, V) > 256:
        raise ValueError(f"head_k_dim={K}, head_v_dim={V}: at most 256 are taken")
    if (W := layer.conv_weight.shape[1]) < 2:
        raise ValueError(f"conv_weight has width W={W}; a convolution without history (W < 2) is not supported")
    if layer.conv_bias is not None:
        expect_shape("conv_bias", layer.conv_bias, (layer.channels,))
    for name in ("conv_weight", "conv_bias", "A_log", "dt_bias", "norm_weight"):
        parameter = getattr(layer, name)
        if parameter is not None and not parameter.is_contiguous():
            raise ValueError(f"{name} has strides {parameter.stride()}; it must be contiguous: call .contiguous()")
    if qkvz is not None and ba is not None and qkvz.shape[0] != ba.shape[0]:
        raise ValueError(f"ba has {ba.shape[0]} tokens and qkvz {qkvz.shape[0]}; they must be the same tokens")
    for name, tensor, width in (("qkvz", qkvz, layer.channels + HV * V), ("ba", ba, 2 * HV)):
        if tensor is None:
            continue
        expect_shape(name, tensor, (None, width))
        expect_dtype(name, tensor, POOL_DTYPES)
        if tensor.stride(1) != 1:
            raise ValueError(f"{name} has stride {tensor.stride(1)} between columns; it must be 1: call .contiguous()")
    check_no_gradient(layer, qkvz, ba)
    if packing not in PACKINGS:
        raise ValueError(f"packing={packing!r} is not one of 'flat', 'interleaved'")


def check_tokens(**tensors: Tensor) -> None:
    """Raises ValueError for tokens so far apart that 32 bits do not count the elements between those of a row."""
    for name, tensor in tensors.items():
        if tensor.stride(0) > MOST_STRIDE:
            raise ValueError(f"{name} has token stride {tensor.stride(0)}; at most {MOST_STRIDE} elements are taken")


def check_no_gradient(layer: Layer, *inputs: Tensor | None) -> None:
    """Raises RuntimeError where a gradient is asked of an input or a parameter: a kernel would drop it in silence."""
    refuse_gradients(*inputs, layer.conv_weight, layer.conv_bias, layer.A_log, layer.dt_bias, layer.norm_weight)


def refuse_gradients(*tensors: Tensor | None) -> None:
    """Raises RuntimeError where a gradient is asked of one of them."""
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors):
        raise RuntimeError(
            "an input or a parameter of the layer requires a gradient, which the kernels do not have; "
            "call under torch.no_grad(), or use gdn_verify.kernels.fallback"
        )


def is_laid_out(tensor: Tensor, strides: tuple[int, ...]) -> bool:
    """Whether the last dimensions have these strides; the stride of a dimension of size 1 means nothing."""
    inner = tensor.dim() - len(strides)
    actual = zip(tensor.shape[inner:], tensor.stride()[inner:], strides, strict=True)
    return all(size == 1 or stride == wanted for size, stride, wanted in actual)


def check_pool(layer: Layer, pool: Tensor, state_order: str) -> None:
    """Raises ValueError unless the state pool fits the layer, each slot contiguous."""
    _, HV, K, V = layer.geometry
    if state_order not in STATE_ORDERS:
        raise ValueError(f"state_order={state_order!r} is not one of 'VK', 'KV'")
    inner = (V, K) if state_order == "VK" else (K, V)
    expect_shape("pool", pool, (None, HV, *inner))
    expect_dtype("pool", pool, POOL_DTYPES)
    if not is_laid_out(pool, (V * K, inner[1], 1)):
        raise ValueError(f"pool has strides {pool.stride()}; each slot must be contiguous, whatever the slot's stride")


def check_chunked(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, output: Tensor, pool: Tensor) -> None:
    """Raises ValueError for sizes, dtypes and strides that no recurrence in chunks takes."""
    K, V = q.shape[2], v.shape[2]
    if max(K, V) > 256:
        raise ValueError(f"q has K={K}, v has V={V}: at most 256 are taken")
    expect_shape("output", output, tuple(v.shape))
    expect_dtype("output", output, POOL_DTYPES)
    check_tokens(q=q, k=k, v=v, g=g, beta=beta, output=output)
    for name, tensor, width in (("q", q, K), ("k", k, K), ("v", v, V), ("output", output, V)):
        if name != "output":
            expect_dtype(name, tensor, (q.dtype,))
        if not is_laid_out(tensor, (width, 1)):
            raise ValueError(f"{name} has strides {tensor.stride()}; the heads of a token must be contiguous")
    for name, tensor in (("g", g), ("beta", beta)):
        if not is_laid_out(tensor, (1,)):
            raise ValueError(f"{name} has strides {tensor.stride()}; the heads of a token must be contiguous")
    inner = pool.shape[3]
    if not is_laid_out(pool, (K * V, inner, 1)):
        raise ValueError(f"pool has strides {pool.stride()}; each slot must be contiguous, whatever the slot's stride")


def check_checkpoints(checkpoints: Tensor | None, every: int, pool: Tensor, tokens: int) -> None:
    """Raises ValueError unless both are there and hold the states of a launch over so many tokens, or neither is."""
    if checkpoints is None:
        if every != 0:
            raise ValueError(f"checkpoint_every={every} is given without checkpoints; give both or neither")
        return
    if every <= 0 or every % CHECKPOINT_STEP:
        raise ValueError(
            f"checkpoint_every={every} must be a positive multiple of {CHECKPOINT_STEP}; "
            f"round it up to {max(1, -(-every // CHECKPOINT_STEP)) * CHECKPOINT_STEP}"
        )
    expect_shape("checkpoints", checkpoints, (None, *pool.shape[1:]))
    expect_dtype("checkpoints", checkpoints, POOL_DTYPES)
    if checkpoints.shape[0] < tokens // every:
        raise ValueError(
            f"checkpoints has {checkpoints.shape[0]} entries; {tokens} tokens with checkpoint_every={every} need "
            f"{tokens // every}"
        )
    if not is_laid_out(checkpoints, (pool.shape[2] * pool.shape[3], pool.shape[3], 1)):
        raise ValueError(
            f"checkpoints has strides {checkpoints.stride()}; each entry must be contiguous, whatever its stride"
        )


def check_conv_pool(layer: Layer, conv_pool: Tensor, slots: int | None = None, columns: int = 0) -> None:
    """Raises ValueError unless the conv pool fits the layer, has `slots` slots and at least `columns` columns.

    And for slots of more than 2³¹ elements, holes included: kernels count in 32 bits from a slot's first.
    """
    expect_shape("conv_pool", conv_pool, (slots, layer.channels, None))
    expect_dtype("conv_pool", conv_pool, POOL_DTYPES)
    needed = max(columns, layer.conv_weight.shape[1] - 1)
    if conv_pool.shape[2] < needed:
        raise ValueError(f"conv_pool has {conv_pool.shape[2]} columns; this launch needs at least {needed}")
    _, channels, held = conv_pool.shape
    if (channels - 1) * conv_pool.stride(1) + (held - 1) * conv_pool.stride(2) >= 2**31:
        raise ValueError(f"conv_pool has strides {conv_pool.stride()}; its slots must span less than 2³¹ elements")


def check_rows(state_indices: Tensor, query_start_loc: Tensor | None) -> None:
    """Raises ValueError unless the index tensors fit each other."""
    expect_shape("state_indices", state_indices, (None,))
    expect_dtype("state_indices", state_indices, INDEX_DTYPES)
    if query_start_loc is not None:
        expect_shape("query_start_loc", query_start_loc, (state_indices.shape[0] + 1,))
        expect_dtype("query_start_loc", query_start_loc, INDEX_DTYPES)
        if not query_start_loc.is_contiguous():
            raise ValueError("query_start_loc must be contiguous: call .contiguous()")


def check_drafts(
    state_indices: Tensor, query_start_loc: Tensor, num_accepted_tokens: Tensor, spec_rows: Tensor | None
) -> None:
    """Raises ValueError unless the tables are of drafts of up to `MAX_WIDTH` tokens, and fit each other."""
    expect_shape("state_indices", state_indices, (None, None))
    rows, width = state_indices.shape
    if width > MAX_WIDTH:
        raise ValueError(f"state_indices has {width} columns; at most {MAX_WIDTH} tokens a row are taken")
    expect_dtype("state_indices", state_indices, INDEX_DTYPES)
    if width < 1:
        raise ValueError("state_indices has no columns; a row needs at least one slot")
    expect_shape("query_start_loc", query_start_loc, (rows + 1,))
    expect_shape("num_accepted_tokens", num_accepted_tokens, (rows,))
    for name, indices in (("query_start_loc", query_start_loc), ("num_accepted_tokens", num_accepted_tokens)):
        expect_dtype(name, indices, INDEX_DTYPES)
        if not indices.is_contiguous():
            raise ValueError(f"{name} must be contiguous: call .contiguous()")
    if spec_rows is not None:
        expect_shape("spec_rows", spec_rows, (rows,))
        expect_dtype("spec_rows", spec_rows, (torch.bool,))
        if not spec_rows.is_contiguous():
            raise ValueError("spec_rows must be contiguous: call .contiguous()")


def check_plain(tables: Tables) -> None:
    """Raises ValueError unless the tables are of plain rows, and can be read without strides but the indices'."""
    if tables.num_accepted_tokens is not None:
        raise ValueError("num_accepted_tokens is given; speculative rows go to fused_spec_decode")
    expect_shape("state_indices", tables.state_indices, (None,))
    if not tables.query_start_loc.is_contiguous():
        raise ValueError("query_start_loc must be contiguous: call .contiguous()")
    if tables.has_initial_state is not None:
        expect_dtype("has_initial_state", tables.has_initial_state, (torch.bool,))
        if not tables.has_initial_state.is_contiguous():
            raise ValueError("has_initial_state must be contiguous: call .contiguous()")


def check_tickets(tickets: Tensor | None, slots: int, num_k_heads: int) -> None:
    """Raises ValueError unless `tickets` are None or what `make_tickets` makes for a pool of so many slots."""
    if tickets is None:
        return
    expect_shape("tickets", tickets, (slots, num_k_heads))
    expect_dtype("tickets", tickets, (torch.int64,))
    if not tickets.is_contiguous():
        raise ValueError(f"tickets has strides {tickets.stride()}; it must be contiguous: use make_tickets()")


def check_outputs(qkvz: Tensor, layer: Layer, output: Tensor | None, z_output: Tensor | None) -> Tensor:
    """`output`, or a new one; raises ValueError unless each output is [T, HV, V], a token contiguous."""
    shape = (qkvz.shape[0], layer.num_v_heads, layer.head_v_dim)
    output = qkvz.new_empty(shape) if output is None else output
    for name, tensor in (("output", output), ("z_output", z_output)):
        if tensor is None:
            continue
        expect_shape(name, tensor, shape)
        expect_dtype(name, tensor, POOL_DTYPES if name == "output" else (qkvz.dtype,))
        if not is_laid_out(tensor, (shape[2], 1)):
            raise ValueError(f"{name} has strides {tensor.stride()}; the heads of a token must be contiguous")
    return output
