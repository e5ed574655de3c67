"""SGLang's causal convolutions, as its backend calls them: into a tensor of their own.

Products of taps are taken in the type that an input and its weight have in common, bfloat16 of bfloat16 ones, and are
summed in float32 (`mamba/causal_conv1d_triton.py:381`, :968). A decode multiplies its history in the pool's type
(:719), a prompt casts it to the activations' first (:147).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import DType, DTypes
from gdn_verify.oracles.sites import Site
from gdn_verify.paths.base import Launch
from gdn_verify.paths.engines import conv_parameters, product_type
from gdn_verify.paths.installed import function

if TYPE_CHECKING:
    from torch import Tensor

MODULE = "sglang.kernels.ops.mamba.causal_conv1d_triton"
UPDATE, PREFILL = f"{MODULE}:causal_conv1d_update", f"{MODULE}:causal_conv1d_fn"
ALIKE = frozenset({"activation", "conv_state"})
"""Of one type for a prompt's kernel, which else does not compile: one name holds either of the two (:255, :283)."""
WIDTHS = frozenset({2, 3, 4})
"""Those whose taps are summed; a fifth column is loaded (:165, :733) and left out of the sum."""


def update(launch: Launch, mixed_qkv: Tensor) -> Tensor:
    """The conv of one token a row."""
    weight, bias, activation = conv_parameters(launch)
    out: Tensor = function(UPDATE)(
        mixed_qkv, launch["conv_pool"], weight, bias, activation,
        conv_state_indices=launch["state_indices"][: len(mixed_qkv)],
    )  # fmt: skip
    return out


def prefill(launch: Launch, mixed_qkv: Tensor, states: Tensor, rows: Tensor) -> Tensor:
    """The conv of rows of any length, of states that row n finds at `rows[n]`; ids are read without a stride (:115)."""
    weight, bias, activation = conv_parameters(launch)
    out: Tensor = function(PREFILL)(
        mixed_qkv.transpose(0, 1), weight, bias, activation=activation, conv_states=states,
        has_initial_state=launch["has_initial_state"], cache_indices=rows.contiguous(),
        query_start_loc=launch["query_start_loc"], seq_lens_cpu=[row.tokens for row in launch.batch.rows],
    )  # fmt: skip
    return out.transpose(0, 1)


def sites(types: DTypes) -> dict[Site, tuple[DType, float]]:
    """Taps and outputs; of two types of products, or of a history that is cast first, the coarser one."""
    products = {product_type(kind, types.weights) for kind in (types.activation, types.conv_state)}
    return {Site.CONV_TAP: (max(products, key=lambda kind: kind.unit_roundoff), 1.0)}


def two_kinds(case: Case) -> str | None:
    """Why a decode's history that only moves would lose bits, or None: `tl.where` of both kinds of 16 bits is float16.

    (:774; docs/implementations/sglang.md.)
    """
    of = case.dtypes
    if of.conv_state is DType.BF16 and of.activation is DType.F16:
        return "dtypes.conv_state=bfloat16: of float16 activations, its history passes through float16"
    return None
