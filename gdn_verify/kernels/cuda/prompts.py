"""The layer core over plain rows of any length, with the recurrence in CUDA C++: `chunked_prefill`."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from gdn_verify.kernels.cuda import prefill
from gdn_verify.kernels.cuda.chunks import refused
from gdn_verify.kernels.rows import Tables


def chunked_prefill(*operands: Any, **options: Any) -> Tensor:
    """`triton.prefill.chunked_prefill`, with the same operands, results, conventions and errors.

    Its conv and its norm are Triton's; so is the recurrence where it is asked for what the CUDA kernel has not:
    `exact`, checkpoints, a shape, and the operands that `chunks.refused` names.
    """
    from gdn_verify.kernels.triton.prefill import chunked_prefill as chunked

    return chunked(*operands, **options, recurrence=_recurrence)


def _recurrence(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, pool: Tensor, tables: Tables, *,
    exact: bool, checkpoints: Tensor | None, checkpoint_every: int, shape: Any, **options: Any,
) -> Tensor:  # fmt: skip
    if not exact and checkpoints is None and shape is None and refused(q, k, v) is None:
        return prefill.chunk_delta(q, k, v, g, beta, pool, tables, **options)
    from gdn_verify.kernels.triton.chunk import chunk_delta

    return chunk_delta(
        q, k, v, g, beta, pool, tables, exact=exact, checkpoints=checkpoints, checkpoint_every=checkpoint_every,
        shape=shape, **options,
    )  # fmt: skip
