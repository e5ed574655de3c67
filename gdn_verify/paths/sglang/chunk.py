"""SGLang's chunked delta rule: chunks of 64 tokens, on a pool in place.

q and k are normalised by a kernel of its own; g and β are float32, as its gates are. The products of the triangular
inverse are TF32 where a card has it (`attention/fla/chunk_fwd.py:18`); all other operands are of the activations' type.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import Capabilities, DTypes, Group, Padding, Span, Stage
from gdn_verify.cases.presentation import Presentation
from gdn_verify.oracles.noise import Rounding
from gdn_verify.oracles.rounding import F32, chunked_tensor_core
from gdn_verify.paths.base import Launch, Outputs
from gdn_verify.paths.engines import filled, row_behind_empty
from gdn_verify.paths.installed import function
from gdn_verify.paths.sglang.base import FLA, NARROW, VK, Sglang, skips

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = f"{FLA}.chunk:chunk_gated_delta_rule"
KERNELS = (
    "l2norm_fwd_kernel",
    "chunk_local_cumsum_scalar_kernel",
    "chunk_gated_delta_rule_fwd_kkt_solve_kernel",
    "recompute_w_u_fwd_kernel",
    "chunk_gated_delta_rule_fwd_kernel_h_blockdim64",
    "chunk_fwd_kernel_o",
)


class Chunk(Sglang):
    """`chunk_gated_delta_rule` on a pool by ids: rows of prompts, and of one token.

    `input_guard` makes the pool contiguous, in a copy that is thrown away if it was not; the backend knows, and gathers
    (`srt/layers/attention/linear/gdn_backend.py:1010`). Slots of rows without initial state are read like others: the
    engine clears them before (`srt/model_executor/model_runner.py:1935`), as is done here.
    """

    name = "sglang-chunk"
    least_reach = 0.002
    kernels = KERNELS
    entries = (CHUNK,)
    conventions = skips(Stage.DELTA)
    capabilities = Capabilities(
        span=Span(Stage.DELTA, Stage.DELTA),
        groups=frozenset({Group.DECODE, Group.PREFILL}),
        min_tokens=1,  # the slot of a row without tokens is written over
        activations=NARROW,
        gates=frozenset({F32}),
        paddings=frozenset({Padding.SENTINEL_ROW, Padding.SENTINEL_EMPTY_ROW, Padding.TOKENS}),
        state_orders=VK,
        strided=False,
        beta_scales=frozenset({1.0, 2.0}),
    )

    def run(self, launch: Launch) -> Outputs:
        if not launch.batch.tokens:  # no engine launches that
            return Outputs(o=launch["out"])
        clear(launch)
        given = {name: launch[name][None] for name in ("q", "k", "v", "g", "beta")}
        return filled(launch, chunks(launch, given, launch["ssm_pool"], launch["state_indices"]))

    def refuses(self, case: Case, presentation: Presentation) -> str | None:
        return row_behind_empty(case)

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        return rounding(case.dtypes, host)


def clear(launch: Launch) -> None:
    """What the engine does of rows without initial state, before it launches anything (`MambaPool.clear_slots`)."""
    slots = launch["state_indices"].long()
    launch["ssm_pool"][slots[~launch["has_initial_state"] & (slots >= 0)]] = 0


def chunks(launch: Launch, given: Mapping[str, Tensor], pool: Tensor, rows: Tensor) -> Tensor:
    """One call as the backend's kernel makes it (`srt/layers/attention/linear/kernels/gdn_triton.py:196`)."""
    o, _, _ = function(CHUNK)(
        **given, scale=launch.options.scale, initial_state=pool, initial_state_indices=rows,
        cu_seqlens=launch["query_start_loc"], head_first=False, use_qk_l2norm_in_kernel=True, inplace_update=True,
    )  # fmt: skip
    out: Tensor = o[0]
    return out


def rounding(dtypes: DTypes, host: str) -> Rounding:
    """As FLA's chunks."""
    return chunked_tensor_core(dtypes, tf32_inverse=host == "cuda")
