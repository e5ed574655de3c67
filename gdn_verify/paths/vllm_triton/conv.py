"""vLLM's causal convolutions, as its layer calls them: in place of the projection, and into a tensor of its own.

Products of taps are taken in the type that inputs and weights have in common, bfloat16 of bfloat16 ones, and are summed
in float32 (causal_conv1d.py:357, :920). Inputs are rounded to the conv state's type before they are convolved
(:444, :1012), so a cache narrower than the activations is not taken: the layer's has their type, or is float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import Activation, DType, DTypes
from gdn_verify.oracles.sites import Site
from gdn_verify.paths.base import Launch
from gdn_verify.paths.vllm_triton.base import accepted, function

if TYPE_CHECKING:
    from torch import Tensor

MODULE = "vllm.model_executor.layers.mamba.ops.causal_conv1d"
UPDATE, PREFILL = f"{MODULE}:causal_conv1d_update", f"{MODULE}:causal_conv1d_fn"
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
    out: Tensor = function(UPDATE)(mixed_qkv, launch["conv_pool"], *_parameters(launch), **drafts)
    return out


def prefill(launch: Launch, mixed_qkv: Tensor) -> Tensor:
    """The conv of rows of any length; its programs are counted on the host, as without the builder's metadata."""
    weight, bias, activation = _parameters(launch)
    out: Tensor = function(PREFILL)(
        mixed_qkv.transpose(0, 1), weight, bias, launch["conv_pool"], launch["query_start_loc"],
        cache_indices=launch["state_indices"], has_initial_state=launch["has_initial_state"], activation=activation,
    )  # fmt: skip
    return out.transpose(0, 1)


def _parameters(launch: Launch) -> tuple[Tensor, Tensor | None, str | None]:
    silu = launch.options.conv_activation is Activation.SILU
    return launch["conv_weight"], launch.get("conv_bias"), "silu" if silu else None


def own_copy(x: Tensor, tokens: int) -> Tensor:
    """The first tokens of an input in memory that may be written, as far apart as they were."""
    rows = x.new_empty(tokens, x.stride(0) if len(x) > 1 else x.shape[1])[:, : x.shape[1]]
    return rows.copy_(x[:tokens])


def sites(dtypes: DTypes) -> dict[Site, tuple[DType, float]]:
    """Where the kernels round beside what every conv in float32 does."""
    return {Site.CONV_TAP: (dtypes.conv_state if dtypes.conv_state is dtypes.weights else DType.F32, 1)}


def odd_types(case: Case) -> str | None:
    """Why the types of a case are none that a layer has, or None."""
    activation, types = case.dtypes.activation, case.dtypes
    for name, dtype in (("conv_state", types.conv_state), ("weights", types.weights)):
        if dtype not in (activation, DType.F32):
            return f"dtypes.{name}={dtype}: a layer's is {activation}, as its activations are, or float32"
    return None
