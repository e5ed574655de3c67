"""vLLM's causal convolutions, as its layer calls them: in place of the projection, and into a tensor of its own.

Inputs are rounded to the conv state's type before they are convolved (causal_conv1d.py:444, :1012), and so are outputs,
which then get their own. Products of taps are taken in the type that inputs and weights have in common, bfloat16 of
bfloat16 ones, and are summed in float32 (:357, :920).
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from gdn_verify.cases.contract import DType, DTypes
from gdn_verify.oracles.sites import Site
from gdn_verify.paths.base import Launch
from gdn_verify.paths.engines import accepted, conv_parameters, product_type
from gdn_verify.paths.installed import function

if TYPE_CHECKING:
    from torch import Tensor

MODULE = "vllm.model_executor.layers.mamba.ops.causal_conv1d"
UPDATE, PREFILL = f"{MODULE}:causal_conv1d_update", f"{MODULE}:causal_conv1d_fn"
METADATA = "vllm.v1.attention.backends.utils:compute_causal_conv1d_metadata"
LISTS = ("nums_dict", "batch_ptr", "token_chunk_offset_ptr")
UPDATE_WIDTHS, PREFILL_WIDTHS = frozenset(range(2, 7)), frozenset(range(2, 5))
"""Those that the kernels have taps for; others are not refused, and are convolved with what is there."""


def update(launch: Launch, mixed_qkv: Tensor) -> Tensor:
    """The conv of one token a row, or of drafts by the counts that were accepted; `mixed_qkv` may be written over."""
    table = launch["state_indices"]
    drafts: dict[str, Any] = {"conv_state_indices": table[: len(mixed_qkv)]}
    if table.ndim == 2:
        drafts = {
            "conv_state_indices": table[:, 0],
            "num_accepted_tokens": accepted(launch),
            "query_start_loc": launch["query_start_loc"],
            "max_query_len": table.shape[1],
        }
    out: Tensor = function(UPDATE)(mixed_qkv, launch["conv_pool"], *conv_parameters(launch), **drafts)
    return out


def prefill(launch: Launch, mixed_qkv: Tensor) -> Tensor:
    """The conv of rows of any length, its programs listed by the host as the builder does (gdn_attn.py:566)."""
    import torch

    weight, bias, activation = conv_parameters(launch)
    starts = torch.tensor(launch.batch.query_start_loc, dtype=torch.int32)
    listed = dict(zip(LISTS, function(METADATA)(starts, device=mixed_qkv.device), strict=True))
    out: Tensor = function(PREFILL)(
        mixed_qkv.transpose(0, 1), weight, bias, launch["conv_pool"], launch["query_start_loc"],
        cache_indices=launch["state_indices"], has_initial_state=launch["has_initial_state"], activation=activation,
        metadata=SimpleNamespace(**listed),
    )  # fmt: skip
    return out.transpose(0, 1)


def own_copy(x: Tensor, tokens: int) -> Tensor:
    """The first tokens of an input in memory that may be written, as far apart as they were."""
    rows = x.new_empty(tokens, x.stride(0) if len(x) > 1 else x.shape[1])[:, : x.shape[1]]
    return rows.copy_(x[:tokens])


def sites(types: DTypes) -> dict[Site, tuple[DType, float]]:
    """Taps and outputs: products, and what is rounded to a conv state narrower than activations, or of another kind."""
    narrow = tuple({types.conv_state} - {types.activation, DType.F32})
    product = product_type(types.conv_state, types.weights)
    return {Site.CONV_TAP: _rounded(product, *narrow), Site.CONV_OUT: _rounded(types.activation, *narrow)}


def _rounded(*dtypes: DType) -> tuple[DType, float]:
    """To one type after the other, as a factor on the one with the largest of tiny errors."""
    last = max(dtypes, key=lambda dtype: dtype.underflow)
    return last, sum(dtype.unit_roundoff for dtype in dtypes) / last.unit_roundoff
