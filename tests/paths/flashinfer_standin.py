"""FlashInfer's functions by their documented contract, computed by this project's fallback on the processor.

What the documentation asks of an argument is asserted; what it leaves undefined is poisoned. So an adapter that maps an
argument wrongly is seen without a card.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (its customary name)

from gdn_verify.kernels.delta import delta_rule
from gdn_verify.kernels.stages import gates, qk_norm

HEAD = 128
INDICES = (torch.int32, torch.int64)


def floored(*args: Any, g: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    """No decay is less than 1e-10."""
    return chunk_gated_delta_rule(*args, g=g.clamp(min=1e-10), **options)


def unset(*args: Any, scale: float | None, **options: Any) -> tuple[Tensor, Tensor]:
    """A scale of 0 counts as none given."""
    return chunk_gated_delta_rule(*args, scale=scale or None, **options)


def idle(*args: Any, cu_seqlens: Tensor, output_state: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    """The new state of an empty row is not written."""
    before, empty = output_state.clone(), cu_seqlens.diff() == 0
    out, after = chunk_gated_delta_rule(*args, cu_seqlens=cu_seqlens, output_state=output_state, **options)
    after[empty] = before[empty]
    return out, after


def masked(a: Tensor, b: Tensor, A_log: Tensor, dt_bias: Tensor) -> tuple[Tensor, Tensor]:
    """Gates whose softplus chooses its branch by a product with 0 or 1."""
    x = a.float() + dt_bias
    linear = (x > 20.0).float()
    return -A_log.exp() * (linear * x + (1.0 - linear) * (1.0 + x.exp()).log()), b.float().sigmoid()


def install(monkeypatch: pytest.MonkeyPatch, **others: Any) -> None:
    """Put the stand-ins where the adapters look the functions up; `others` takes the place of one by name."""
    functions = {
        "flashinfer.gdn_decode": (
            gated_delta_rule_decode_pretranspose,
            gated_delta_rule_decode,
            gated_delta_rule_mtp,
        ),
        "flashinfer.gdn_prefill": (chunk_gated_delta_rule,),
        "flashinfer.gdn_kernels.experimental.gdn_fused_decode": (gdn_fused_decode_step,),
    }
    for name, members in functions.items():
        module = ModuleType(name)
        for member in members:
            setattr(module, member.__name__, others.get(member.__name__, member))
        monkeypatch.setitem(sys.modules, name, module)


def gated_delta_rule_decode_pretranspose(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    state: Tensor | None,
    A_log: Tensor,
    a: Tensor,
    dt_bias: Tensor,
    b: Tensor,
    *,
    scale: float | None,
    output: Tensor,
    use_qk_l2norm: bool,
    backend: str,
    initial_state: Tensor | None = None,
    initial_state_indices: Tensor | None = None,
    output_state_indices: Tensor | None = None,
    intermediate_states_buffer: Tensor | None = None,
    disable_state_update: bool = False,
) -> tuple[Tensor, Tensor]:
    """V-major; float32 pads by skipping a row, bfloat16 by slot 0."""
    assert backend == "flashinfer"
    assert (state is None) == (initial_state is not None)
    operands = _checked(q, k, v, a, b, A_log, dt_bias, output, scale, use_qk_l2norm)
    pool = initial_state if initial_state is not None else state
    assert pool is not None
    rows, tokens = q.shape[:2]
    reads = torch.arange(rows) if initial_state_indices is None else _ids(initial_state_indices, rows)
    writes = reads if output_state_indices is None else _ids(output_state_indices, rows)
    narrow = pool.dtype == torch.bfloat16
    assert narrow or pool.dtype == torch.float32
    assert initial_state_indices is None or not narrow or initial_state_indices.dtype == torch.int32
    live = (reads >= 0) | narrow
    outs, states = _steps(*operands, pool[reads.clamp(min=0)].float())
    output.copy_(torch.where(live[:, None, None, None], outs, 0))
    if tokens == 1:
        assert intermediate_states_buffer is None
        assert not disable_state_update
        pool[writes.clamp(min=0)[live]] = states[live, 0].to(pool.dtype)
    else:
        _keep(pool, intermediate_states_buffer, states, live, disable_state_update)
    return output, pool


def gated_delta_rule_decode(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    state: Tensor,
    A_log: Tensor,
    a: Tensor,
    dt_bias: Tensor,
    b: Tensor,
    *,
    scale: float | None,
    output: Tensor,
    use_qk_l2norm: bool,
    backend: str,
) -> tuple[Tensor, Tensor]:
    """K-major, float32."""
    assert backend == "flashinfer"
    assert state.dtype == torch.float32
    assert q.shape[1] == 1
    operands = _checked(q, k, v, a, b, A_log, dt_bias, output, scale, use_qk_l2norm)
    outs, states = _steps(*operands, state.transpose(-1, -2))
    state.copy_(states[:, 0].transpose(-1, -2))
    return output.copy_(outs), state


def gated_delta_rule_mtp(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    initial_state: Tensor,
    initial_state_indices: Tensor,
    A_log: Tensor,
    a: Tensor,
    dt_bias: Tensor,
    b: Tensor,
    *,
    scale: float | None,
    output: Tensor,
    use_qk_l2norm: bool,
    disable_state_update: bool,
    intermediate_states_buffer: Tensor | None = None,
    ssm_state_indices: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Drafts on float32 states: a row that reads nowhere is skipped, its output with it."""
    operands = _checked(q, k, v, a, b, A_log, dt_bias, output, scale, use_qk_l2norm)
    assert initial_state.dtype == torch.float32
    rows, tokens = q.shape[:2]
    assert tokens > 1
    reads = _ids(initial_state_indices, rows)
    live = reads >= 0
    outs, states = _steps(*operands, initial_state[reads.clamp(min=0)])
    output[live] = outs[live].to(output.dtype)
    if ssm_state_indices is None:
        _keep(initial_state, intermediate_states_buffer, states, live, disable_state_update)
        return output, initial_state
    assert not disable_state_update
    assert intermediate_states_buffer is None
    assert initial_state.is_contiguous(), "of a pool with holes other places would be written"
    assert ssm_state_indices.dtype == torch.int32
    assert ssm_state_indices.shape == (rows, tokens)
    assert ssm_state_indices.is_contiguous()
    assert (ssm_state_indices[live] >= 0).all(), "ids to write to are not looked at"
    initial_state[ssm_state_indices[live].long()] = states[live]
    return output, initial_state


def chunk_gated_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    *,
    scale: float | None,
    initial_state: Tensor | None,
    output_final_state: bool,
    cu_seqlens: Tensor,
    use_qk_l2norm_in_kernel: bool,
    output: Tensor,
    output_state: Tensor,
    use_cp: bool,
    backend: str,
    state_indices: Tensor | None = None,
    state_checkpoints: Tensor | None = None,
    checkpoint_cu_starts: Tensor | None = None,
    checkpoint_every_n_tokens: int = 0,
    _cp_chunk_len: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Packed prompts from α = e^g; the state of an empty row is handed on."""
    assert backend == "flashinfer"
    assert output_final_state
    assert use_cp or _cp_chunk_len is None
    assert g.dtype == beta.dtype == torch.float32
    assert ((g >= 0) & (g <= 1)).all(), "α is a decay, not its logarithm"
    assert cu_seqlens.dtype in INDICES
    assert len(q) == len(k) == len(v) == len(g) == len(output) == int(cu_seqlens[-1]) > 0
    for tensor in (q, k, v, g, beta, output, cu_seqlens):
        assert tensor.is_contiguous()
    if use_qk_l2norm_in_kernel:
        unit, keys = (x.to(q.dtype).float() for x in qk_norm(q, k, 1.0))
    else:
        unit, keys = q.float(), k.float()
    unit = unit * (HEAD**-0.5 if scale is None else scale)
    before = output_state.new_zeros(output_state.shape) if initial_state is None else initial_state
    starts, slots = cu_seqlens.tolist(), range(len(cu_seqlens) - 1) if state_indices is None else state_indices.tolist()
    counts = [0] if checkpoint_cu_starts is None else checkpoint_cu_starts.tolist()
    for row, slot in enumerate(slots):
        h, first, stop = before[slot : slot + 1].float().clone(), starts[row], starts[row + 1]
        every = checkpoint_every_n_tokens or max(stop - first, 1)
        for number, begin in enumerate(range(first, stop, every)):
            piece = slice(begin, min(begin + every, stop))
            tokens = torch.tensor([0, piece.stop - begin])
            delta_rule(
                unit[piece], keys[piece], v[piece].float(), g[piece].log(), beta[piece], h, torch.tensor([0]), tokens,
                output=output[piece],
            )  # fmt: skip
            if state_checkpoints is not None and piece.stop - begin == every:
                state_checkpoints[counts[row] + number] = h[0].to(state_checkpoints.dtype)
        output_state[slot] = h[0].to(output_state.dtype)
    return output, output_state


def gdn_fused_decode_step(
    *,
    hidden_states: Tensor,
    w_ba: Tensor,
    mixed_qkv: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    conv_state: Tensor,
    A_log: Tensor,
    dt_bias: Tensor,
    scale: float | None,
    ssm_state: Tensor,
    state_indices: Tensor,
    use_qk_l2norm: bool,
    out: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """One token a row, from before the convolution on; β's columns come first in the projection."""
    rows, heads = len(mixed_qkv), len(A_log)
    assert state_indices.dtype == torch.int32
    assert conv_state.shape[-1] == conv_weight.shape[1] - 1
    assert scale != 0.0
    live = state_indices >= 0
    slots = state_indices.long().clamp(min=0)
    b, a = (hidden_states.float() @ w_ba.float()).to(torch.bfloat16)[:, None].split(heads, dim=-1)
    window = torch.cat([conv_state[slots], mixed_qkv[..., None]], dim=-1)
    y = F.silu((window.float() * conv_weight.float()).sum(-1) + conv_bias.float()).to(torch.bfloat16)[:, None]
    keys = (y.shape[-1] - heads * HEAD) // 2
    q, k, v = (x.unflatten(-1, (-1, HEAD)) for x in y.split((keys, keys, heads * HEAD), dim=-1))
    operands = _checked(q, k, v, a, b, A_log, dt_bias, out, scale, use_qk_l2norm)
    outs, states = _steps(*operands, ssm_state[slots])
    assert outs.shape == (rows, 1, heads, HEAD)
    out.copy_(torch.where(live[:, None, None, None], outs, 0))
    conv_state[slots[live]] = window[live, :, 1:]
    ssm_state[slots[live]] = states[live, 0]
    return out, conv_state, ssm_state


def _checked(
    q: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, A_log: Tensor, dt_bias: Tensor, output: Tensor,
    scale: float | None, norm: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    """q and k as they meet the state, v, g and β, [B, T, …] float32; shapes and types as the functions assert them."""
    assert norm
    assert A_log.dtype == dt_bias.dtype == torch.float32
    assert q.shape == k.shape
    assert q.shape[-1] == v.shape[-1] == HEAD
    assert a.shape == b.shape == v.shape[:3]
    assert output.shape == v.shape
    assert output.dtype == torch.bfloat16
    g, beta = gates(a.flatten(0, 1), b.flatten(0, 1), A_log, dt_bias)
    unit, keys = qk_norm(q, k, scale)
    return unit, keys, v.float(), g.view(a.shape), beta.view(a.shape)


def _steps(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """o [B, T, HV, V] and the states after each token [B, T, HV, V, K] of rows that start from h."""
    h, each, starts = h.clone(), torch.arange(len(q)), torch.arange(len(q) + 1)
    outs, states = [], []
    for t in range(q.shape[1]):
        outs.append(delta_rule(*(x[:, t] for x in (q, k, v, g, beta)), h, each, starts))
        states.append(h.clone())
    return torch.stack(outs, 1), torch.stack(states, 1)


def _ids(ids: Tensor, rows: int) -> Tensor:
    assert ids.dtype in INDICES
    assert ids.shape == (rows,)
    assert ids.stride() == (1,), "marked as compact for the compiler, of one row too"
    return ids.long()


def _keep(pool: Tensor, buffer: Tensor | None, states: Tensor, live: Tensor, frozen: bool) -> None:
    """Keep the states in the caller's buffer, as many rows as the batch has, and leave the pool."""
    assert frozen
    assert buffer is not None
    assert buffer.shape == states.shape
    assert buffer.dtype == pool.dtype
    assert buffer.is_contiguous()
    buffer[live] = states[live].to(buffer.dtype)
