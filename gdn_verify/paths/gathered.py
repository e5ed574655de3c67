"""States of rows taken out of pools and put back, as the caller of an implementation does that knows no slots.

Rows that carry no token are not put back: the caller knows that nothing happened to them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gdn_verify.paths.base import Launch

if TYPE_CHECKING:
    from torch import Tensor


def states(launch: Launch) -> Tensor:
    """The recurrent states of a launch's rows, [N, HV, V, K] or [N, HV, K, V] as the pool has them; zeros if fresh."""
    return _taken(launch, launch["ssm_pool"])


def conv_windows(launch: Launch) -> Tensor:
    """The last W inputs of the rows, [N, D, W] oldest first; zeros before a fresh row.

    A slot has W - 1 of them, for the oldest of W meets no other token: it is NaN here, so that it shows if it does.
    """
    import torch

    past = launch.geometry.W - 1
    kept = _taken(launch, launch["conv_pool"][:, :, :past])
    return torch.cat([torch.full_like(kept[:, :, :1], torch.nan), kept], dim=2)


def put_states(launch: Launch, made: Tensor) -> None:
    """Store the rows' new states in their slots."""
    slots, rows = _written(launch)
    launch["ssm_pool"][slots] = made[rows].to(launch["ssm_pool"].dtype)


def put_conv_windows(launch: Launch, made: Tensor) -> None:
    """Store all but the oldest of the rows' last W inputs in their slots' first columns."""
    slots, rows = _written(launch)
    pool, past = launch["conv_pool"], launch.geometry.W - 1
    pool[slots, :, :past] = made[rows, :, 1:].to(pool.dtype)


def _taken(launch: Launch, pool: Tensor) -> Tensor:
    found = pool[launch["state_indices"].long()]
    found[~launch["has_initial_state"]] = 0.0
    return found


def _written(launch: Launch) -> tuple[Tensor, Tensor]:
    """The slots of the rows that have tokens, and their numbers."""
    import torch

    numbers = [number for number, row in enumerate(launch.batch.rows) if row.tokens]
    rows = torch.tensor(numbers, dtype=torch.int64, device=launch["state_indices"].device)
    return launch["state_indices"].long()[rows], rows
