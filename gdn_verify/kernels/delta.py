"""Stage *delta*: the gated delta rule over a launch, with its state pool.

The rows of a launch advance together, one position a step: rows are sorted by length, so the rows that still
have a token at position t are the first ones, and finished rows drop off the end.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gdn_verify.kernels.rows import DROPPED, POOL_DTYPES, Rows, Tables, expect_dtype, expect_shape, live_rows


def delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    pool: Tensor,
    state_indices: Tensor,
    query_start_loc: Tensor,
    has_initial_state: Tensor | None = None,
    num_accepted_tokens: Tensor | None = None,
    *,
    spec_rows: Tensor | None = None,
    read_indices: Tensor | None = None,
    output: Tensor | None = None,
    state_order: str = "VK",
    pad_slot_id: int | None = None,
    validate: bool = True,
) -> Tensor:
    """h ← e^g h; u = β (v - h k); h ← h + u kᵀ; o = h q, per value head and token; updates `pool` in place.

    `q`, `k` [T, H, K] already normalised and scaled, `v` [T, HV, V], `g` (log decay) and `beta` [T, HV];
    `pool` [P, HV, V, K] ("VK") or [P, HV, K, V] ("KV") of any strides, float32, bfloat16 or float16; the
    index tensors are those of `Tables`. Value head j reads key head j // (HV/H). Returns o [T, HV, V] in v's
    dtype, or `output` (any strides and float dtype), filled; zeros for padded rows and tokens beyond the
    last row.

    Float32 throughout, also between the tokens of a row; a state is rounded once, to nearest even, where it
    is stored. Plain rows store the final state; a speculative row reads slot state_indices[n, a-1] and
    stores the state after token t in state_indices[n, t], unless that is a sentinel. All states are read
    before any is written. Gradients reach the inputs, not the pool. Source: the contract's equation 4.
    Raises ValueError for shapes, dtypes and tables that do not fit (see `live_rows` for `validate`), and
    RuntimeError for an `output` where a gradient is asked.
    """
    tables = Tables(query_start_loc, state_indices, has_initial_state, num_accepted_tokens, spec_rows, read_indices)
    check_delta(q, k, v, g, beta, pool, state_order)
    check_output(output, v.shape, q, k, v, g, beta)
    rows = live_rows(tables, v.shape[0], pool.shape[0], conv=False, pad_slot_id=pad_slot_id, validate=validate)
    return deliver(advance(q, k, v, g, beta, pool, rows, state_order), output, v.dtype)


def check_delta(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, pool: Tensor, state_order: str) -> None:
    """Raises ValueError unless the operands of the recurrence fit each other; reads no device memory."""
    expect_shape("q", q, (None, None, None))
    T, H, K = q.shape
    expect_shape("k", k, (T, H, K))
    expect_shape("v", v, (T, None, None))
    HV, V = v.shape[1:]
    if H == 0 or HV % H:
        raise ValueError(f"v has HV={HV} heads, which is not a multiple of the H={H} heads of q and k")
    expect_shape("g", g, (T, HV))
    expect_shape("beta", beta, (T, HV))
    if state_order not in ("VK", "KV"):
        raise ValueError(f"state_order={state_order!r} is not one of 'VK', 'KV'")
    expect_shape("pool", pool, (None, HV, V, K) if state_order == "VK" else (None, HV, K, V))
    expect_dtype("pool", pool, POOL_DTYPES)


def check_output(output: Tensor | None, shape: torch.Size, *inputs: Tensor | None) -> None:
    """Raises unless `output` is None, or of this shape (ValueError) and no gradient is asked (RuntimeError)."""
    if output is None:
        return
    expect_shape("output", output, tuple(shape))
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs):
        raise RuntimeError(
            "output: a caller's buffer cannot carry a gradient, and an input requires one; "
            "pass output=None or call under torch.no_grad()"
        )


def deliver(result: Tensor, output: Tensor | None, dtype: torch.dtype) -> Tensor:
    """`result` rounded to `dtype`, or `output` filled with it, rounded to output's own dtype."""
    return result.to(dtype) if output is None else output.copy_(result)


def advance(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, pool: Tensor, rows: Rows, state_order: str
) -> Tensor:
    """`delta_rule` over rows already selected; returns o in float32."""
    state = pool if state_order == "VK" else pool.transpose(-1, -2)
    step, _, token = rows.tokens
    operands = _operands(*(x[token].float() for x in (q, k, v, g, beta)))
    sizes = step.bincount().tolist()
    spec_slots = torch.where(rows.spec[:, None], rows.slots, DROPPED) if rows.spec.any() else rows.slots[:, :0]
    h = by_key_head(_initial(state, rows), q.shape[1])
    outputs, finished = [operands[2][:0]], []
    for t, inputs in enumerate(zip(*(x.split(sizes) for x in operands), strict=True)):
        h, done = h.split([sizes[t], len(h) - sizes[t]])
        finished.append(done)
        h, o = _step(h, *inputs)
        outputs.append(o)
        if t < spec_slots.shape[1]:
            _store(state, spec_slots[: len(h), t], h)
    final = torch.cat([h, *reversed(finished)])
    _store(state, torch.where(rows.spec, DROPPED, rows.slots[:, 0]), final)
    zeros = torch.zeros(v.shape, dtype=torch.float32, device=v.device)
    return zeros.index_copy(0, token, torch.cat(outputs).flatten(1, 2))


def by_key_head(x: Tensor, heads: int) -> Tensor:
    """Views [·, HV, …] as [·, H, HV/H, …]: value head j belongs to key head j // (HV/H)."""
    return x.unflatten(1, (heads, x.shape[1] // heads))


def _operands(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor) -> tuple[Tensor, ...]:
    """q, k, v, e^g and β, shaped to broadcast over a state [·, H, HV/H, V, K] or its rows [·, H, HV/H, V]."""
    decay, beta, v = (by_key_head(x, q.shape[1]) for x in (g.exp(), beta, v))
    return q[:, :, None, None], k[:, :, None, None], v, decay[..., None, None], beta[..., None]


def _step(h: Tensor, q: Tensor, k: Tensor, v: Tensor, decay: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """One token of every row: the next state and its output.

    Products and sums, not matmul: the user's TF32 switches must not reach a float32 reference.
    """
    h = h * decay
    u = beta * (v - (h * k).sum(-1))
    h = torch.addcmul(h, u[..., None], k)
    return h, (h * q).sum(-1)


def _initial(state: Tensor, rows: Rows) -> Tensor:
    """The states the rows start from, float32 [R, HV, V, K]; zeros for rows without one."""
    h = state[rows.read.clamp_min(0)].masked_fill(rows.fresh[:, None, None, None], 0)
    return h.float().contiguous()  # one layout, hence one summation order, whatever the pool's strides


def _store(state: Tensor, slots: Tensor, h: Tensor) -> None:
    """Writes the states whose slot is not `DROPPED`, rounded to the pool's dtype."""
    kept = (slots >= 0).nonzero()[:, 0]
    state[slots[kept]] = h.detach()[kept].flatten(1, 2).to(state.dtype)
