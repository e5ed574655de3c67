"""What an engine hands a layer's core, in the contract's words: rows and tables out of vLLM's metadata.

vLLM splits a batch in two where it verifies drafts, and gives each part tables of its own; a launch has them in one, in
the order in which tokens lie. Nothing is corrected here: an id or a flag that is wrong stays wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from gdn_verify.cases.case import Batch, Row
from gdn_verify.cases.contract import ContractError

if TYPE_CHECKING:
    from torch import Tensor


NOBODY = -1
"""An id of no slot, where a row has fewer than others."""


def rows_of(made: Any, width: int) -> tuple[Row, ...]:
    """The rows of vLLM's `GDNAttentionMetadata`; drafts have `width` slots. Raises ContractError where they overlap."""
    masks = made.spec_sequence_masks_cpu
    if masks is None:
        count = made.num_decodes + made.num_prefills
        return tuple(row for _, row in zip(range(count), _plain(made), strict=False))
    plain, drafts = _plain(made), _drafts(made, width)
    rows = tuple(next(drafts if draft else plain) for draft in masks.tolist())
    _check_order(made, rows)
    return rows


def _plain(made: Any) -> Iterator[Row]:
    starts = made.non_spec_query_start_loc
    if starts is None:
        return
    resumed = made.has_initial_state
    lengths, slots = starts.diff().tolist(), made.non_spec_state_indices_tensor.tolist()
    for number, (length, slot) in enumerate(zip(lengths, slots, strict=False)):
        fresh = resumed is not None and number < len(resumed) and not bool(resumed[number])
        yield Row(length, (slot,), fresh=fresh)


def _drafts(made: Any, width: int) -> Iterator[Row]:
    lengths, slots = made.spec_query_start_loc.diff().tolist(), made.spec_state_indices_tensor.tolist()
    for length, ids, accepted in zip(lengths, slots, made.num_accepted_tokens.tolist(), strict=False):
        yield Row(length, tuple(ids[:width]), accepted=accepted)


def _check_order(made: Any, rows: tuple[Row, ...]) -> None:
    """Raises ContractError where tokens are sorted into drafts and others in another order than they lie in."""
    if made.spec_token_indx is None or not any(not row.spec for row in rows):
        return
    starts = Batch(rows).query_start_loc
    wanted = [t for n, row in enumerate(rows) if row.spec for t in range(starts[n], starts[n + 1])]
    if (found := made.spec_token_indx.tolist()) != wanted:
        raise ContractError(f"spec_token_indx={found}: tokens of drafts lie at {wanted}")


def tables_of(rows: tuple[Row, ...], width: int) -> dict[str, Tensor]:
    """The index tables of a launch by the contract's names, int32."""
    import torch

    drafts = any(row.spec for row in rows)
    ids = [[*row.slots, *[NOBODY] * ((width if drafts else 1) - len(row.slots))] for row in rows]
    table = torch.tensor(ids, dtype=torch.int32).reshape(len(rows), -1)
    made = {
        "query_start_loc": torch.tensor(Batch(rows).query_start_loc, dtype=torch.int32),
        "has_initial_state": torch.tensor([not row.fresh for row in rows], dtype=torch.bool),
        "state_indices": table if drafts else table[:, 0].contiguous(),
    }
    if drafts:
        made["num_accepted_tokens"] = torch.tensor([row.accepted or 1 for row in rows], dtype=torch.int32)
        made["spec_rows"] = torch.tensor([row.spec for row in rows], dtype=torch.bool)
    return made
