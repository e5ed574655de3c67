"""Moves: what an engine does to the pools between two launches. Copies, bit for bit, in the contract's layout."""

from __future__ import annotations

from gdn_verify.cases.case import Batch
from gdn_verify.feed import Pools


def moved(pools: Pools, batch: Batch, first_slot: int, width: int) -> Pools:
    """The pools when the batch's moves are made, one after the other; `width` is the conv's W.

    Of the target's conv slot columns [0, W-1) are written, as by a plain row.
    """
    if not batch.moves:
        return pools
    ssm = None if pools.ssm is None else pools.ssm.clone()
    conv = None if pools.conv is None else pools.conv.clone()
    for move in batch.moves:
        source, conv_source, to = (slot + first_slot for slot in (move.source, move.conv_source, move.to))
        if ssm is not None:
            ssm[to] = ssm[source]
        if conv is not None:
            start = move.accepted - 1
            conv[to, :, : width - 1] = conv[conv_source, :, start : start + width - 1].clone()
    return Pools(ssm, conv)
