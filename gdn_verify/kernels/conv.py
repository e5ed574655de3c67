"""Stage *conv*: the causal convolution over a launch, with its state pool.

Each live row is a stream of raw inputs, its W-1 columns of history followed by its tokens, oldest first. The
outputs and the new state are both windows of that stream, so short rows, where history and new tokens mix,
need no case of their own.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (its customary name)

from gdn_verify.kernels.rows import POOL_DTYPES, Rows, Tables, expect_dtype, expect_shape, live_rows


def causal_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    conv_pool: Tensor,
    state_indices: Tensor,
    query_start_loc: Tensor,
    has_initial_state: Tensor | None = None,
    num_accepted_tokens: Tensor | None = None,
    *,
    spec_rows: Tensor | None = None,
    read_indices: Tensor | None = None,
    activation: str | None = "silu",
    pad_slot_id: int | None = None,
    validate: bool = True,
) -> Tensor:
    """y_t[d] = act(bias[d] + Σ_w weight[d, w] · x_{t-W+1+w}[d]); updates `conv_pool` in place.

    `x` [T, D] packed tokens, `weight` [D, W] with W ≥ 2, `bias` [D], `conv_pool` [P, D, C] of any strides,
    C ≥ W-1 (W-2+S with speculative rows); the index tensors are those of `Tables`. Returns [T, D] in x's
    dtype, zeros for padded rows and for tokens beyond the last row.

    Plain rows use columns [0, W-1) only. A speculative row's history is columns [a-1, a+W-2) of slot
    state_indices[n, 0]; history[1:] followed by its tokens is stored from column 0. Other columns keep their
    bytes. Accumulates in float32, taps oldest first; stored inputs are exact copies (converted to the pool's
    dtype where that differs). A row is padded as `live_rows` tells. Source: the contract's equation 1.
    Raises ValueError for shapes, dtypes and tables that do not fit (see `live_rows` for `validate`).
    """
    tables = Tables(query_start_loc, state_indices, has_initial_state, num_accepted_tokens, spec_rows, read_indices)
    check_conv(x, weight, bias, conv_pool, activation, tables)
    rows = live_rows(tables, x.shape[0], conv_pool.shape[0], conv=True, pad_slot_id=pad_slot_id, validate=validate)
    return convolve(x, weight, bias, conv_pool, rows, activation)


def check_conv(
    x: Tensor, weight: Tensor, bias: Tensor | None, conv_pool: Tensor, activation: str | None, tables: Tables
) -> None:
    """Raises ValueError unless the operands of the convolution fit each other; reads no device memory."""
    expect_shape("weight", weight, (None, None))
    D, W = weight.shape
    expect_shape("x", x, (None, D))
    expect_shape("conv_pool", conv_pool, (None, D, None))
    expect_dtype("conv_pool", conv_pool, POOL_DTYPES)
    if bias is not None:
        expect_shape("bias", bias, (D,))
    if W < 2:
        raise ValueError(f"weight has width W={W}; a convolution without history (W < 2) is not supported")
    needed = W - 1 if tables.num_accepted_tokens is None else W - 2 + tables.width
    if conv_pool.shape[2] < needed:
        raise ValueError(f"conv_pool has {conv_pool.shape[2]} columns; this launch needs at least {needed}")
    if activation not in ("silu", None):
        raise ValueError(f"activation={activation!r} is not one of 'silu', None")


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, conv_pool: Tensor, rows: Rows, activation: str | None
) -> Tensor:
    """`causal_conv` over rows already selected."""
    history = _history(conv_pool, rows, weight.shape[1])
    step, row, token = rows.tokens
    stream = _stream(history, x, torch.float32)
    y = torch.zeros((), device=x.device) if bias is None else bias.float()
    taps = torch.arange(weight.shape[1], device=x.device)
    inputs = _locate(rows, history, row[:, None], step[:, None] + taps)
    for source, column in zip(inputs.unbind(1), weight.float().unbind(1), strict=True):
        y = y + stream[source] * column
    if activation == "silu":
        y = F.silu(y)
    _store_window(conv_pool, rows, history, _stream(history, x, conv_pool.dtype).detach())
    return x.new_zeros(x.shape).index_copy(0, token, y.to(x.dtype))


def _history(conv_pool: Tensor, rows: Rows, width: int) -> Tensor:
    """The W-1 inputs before each row's first token, oldest first: [R, W-1, D]."""
    slot = torch.where(rows.spec, rows.slots[:, 0], rows.read).clamp_min(0)
    column = rows.back[:, None] + torch.arange(width - 1, device=slot.device)
    return conv_pool[slot[:, None], :, column].masked_fill(rows.fresh[:, None, None], 0)


def _stream(history: Tensor, x: Tensor, dtype: torch.dtype) -> Tensor:
    """All rows' histories, then all tokens: [R·(W-1) + T, D]; `_locate` finds a row's inputs in it."""
    return torch.cat([history.flatten(0, 1).to(dtype), x.to(dtype)])


def _locate(rows: Rows, history: Tensor, row: Tensor, position: Tensor) -> Tensor:
    """Where `position` of a row's stream, counted from its oldest history, is in the result of `_stream`."""
    count, past = history.shape[:2]
    token = count * past + rows.start[row] + position - past
    return torch.where(position < past, row * past + position, token)


def _store_window(conv_pool: Tensor, rows: Rows, history: Tensor, stream: Tensor) -> None:
    """Stores the end of each row's stream: all but its oldest input for speculative rows, else W-1 inputs."""
    first = torch.where(rows.spec, 1, rows.length)
    column = torch.arange(conv_pool.shape[2], device=first.device)
    row, column = (column < (history.shape[1] + rows.length - first)[:, None]).nonzero(as_tuple=True)
    conv_pool[rows.slots[row, 0], :, column] = stream[_locate(rows, history, row, first[row] + column)]
