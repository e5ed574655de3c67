"""Defects of the recurrence and of what it is given, planted in the fallback, each a bug of the catalogue.

Gates and norms are those of `stages`, the steps of a row and where its states go are those of `delta`.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from gdn_verify.kernels.rows import Rows
from gdn_verify.mutants.inputs import Run
from gdn_verify.mutants.replaced import Function, replaced
from gdn_verify.paths.base import Launch, Path

STEP, STORE, ADVANCE, UNIT = "delta._step", "delta._store", "fallback.advance", "stages._unit"


def decay_forgotten(path: Path) -> Run:
    """From token to token the state does not decay."""

    def wrong(right: Function, launch: Launch) -> Function:
        return lambda h, q, k, v, decay, beta: right(h, q, k, v, torch.ones_like(decay), beta)

    return replaced(path, {STEP: wrong})


def new_state_forgotten(path: Path) -> Run:
    """The new state is computed and not kept: the pool has the old one."""
    return replaced(path, {STORE: lambda right, launch: lambda state, slots, h: None})


def state_in_low_precision(path: Path) -> Run:
    """Between tokens the state has the type of the activations."""

    def wrong(right: Function, launch: Launch) -> Function:
        narrow = launch["out"].dtype

        def step(*inputs: Tensor) -> tuple[Tensor, Tensor]:
            h, o = right(*inputs)
            return h.to(narrow).float(), o

        return step

    return replaced(path, {STEP: wrong})


def decay_in_low_precision(path: Path) -> Run:
    """The log decay passes through the type of the activations."""

    def wrong(right: Function, launch: Launch) -> Function:
        def gates(*args: object) -> tuple[Tensor, Tensor]:
            g, beta = right(*args)
            return g.to(launch["out"].dtype).float(), beta

        return gates

    return replaced(path, {"fallback.gates": wrong})


def correction_with_the_decay(path: Path) -> Run:
    """v is corrected where the state is decayed: a token that decays nothing writes v as it is."""

    def wrong(right: Function, launch: Launch) -> Function:
        def step(h: Tensor, q: Tensor, k: Tensor, v: Tensor, decay: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
            old = (h * k).sum(-1)
            idle = decay[..., 0] == 1.0
            result: tuple[Tensor, Tensor] = right(
                h, q, k, torch.where(idle, v + old, v), decay, torch.where(idle, 1.0, beta)
            )
            return result

        return step

    return replaced(path, {STEP: wrong})


def norm_of_the_larger(path: Path) -> Run:
    """q and k are divided by the larger of their norm and ε, which is not added to the square."""

    def wrong(right: Function, launch: Launch) -> Function:
        return lambda x, eps: x.float() / x.float().norm(dim=-1, keepdim=True).clamp(min=eps)

    return replaced(path, {UNIT: wrong})


def eps_on_the_mean(path: Path) -> Run:
    """ε is added to the mean of squares, not to the sum: it is K times as much."""
    return replaced(path, {UNIT: lambda right, launch: lambda x, eps: right(x, eps * x.shape[-1])})


def norm_of_the_mean(path: Path) -> Run:
    """q and k are divided by the root of the mean of squares: their norms are √K."""

    def wrong(right: Function, launch: Launch) -> Function:
        return lambda x, eps: right(x, eps * x.shape[-1]) * x.shape[-1] ** 0.5

    return replaced(path, {UNIT: wrong})


def _tiled(path: Path, names: str) -> Run:
    """Value head j reads the key head j % H for these of q and k."""

    def wrong(right: Function, launch: Launch) -> Function:
        def operands(q: Tensor, k: Tensor, v: Tensor, *gates: Tensor) -> tuple[Tensor, ...]:
            heads = q.shape[1]
            tiled = (torch.arange(v.shape[1]) % heads).view(heads, -1)
            made: tuple[Tensor, ...] = right(q, k, v, *gates)
            keyed = (
                x[:, tiled][..., None, :] if name in names else same
                for name, x, same in zip("qk", (q, k), made[:2], strict=True)
            )
            return (*keyed, *made[2:])

        return operands

    return replaced(path, {"delta._operands": wrong})


def tiled_heads(path: Path) -> Run:
    """Value head j reads the key head j % H: heads repeat one after the other, not each by itself."""
    return _tiled(path, "qk")


def tiled_heads_of_q(path: Path) -> Run:
    """So it does for q alone."""
    return _tiled(path, "q")


def tiled_heads_of_k(path: Path) -> Run:
    """So it does for k alone."""
    return _tiled(path, "k")


def draft_states_transposed(path: Path) -> Run:
    """A draft's states are written with K and V exchanged, into memory that is read the other way."""

    def wrong(right: Function, launch: Launch) -> Function:
        def advance(*args: object) -> Tensor:
            o: Tensor = right(*args)
            *_, pool, rows, _ = args
            assert isinstance(pool, Tensor)
            assert isinstance(rows, Rows)
            slots = rows.slots[:, : int(rows.length.max())] if len(rows.length) else rows.slots
            column = torch.arange(slots.shape[1])
            slots = slots[rows.spec[:, None] & (slots >= 0) & (column < rows.length[:, None])]
            pool[slots] = pool[slots].transpose(-1, -2).reshape(pool[slots].shape)
            return o

        return advance

    return replaced(path, {ADVANCE: wrong})


def draft_taken_for_a_step(path: Path) -> Run:
    """The kernel that verifies a draft is not told so: it moves the state that it began with, and keeps no other."""

    def wrong(right: Function, launch: Launch) -> Function:
        def advance(
            q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, pool: Tensor, rows: Rows, order: str
        ) -> Tensor:
            slots = torch.where(rows.spec, rows.read, rows.slots[:, 0])[:, None]
            plain = replace(rows, spec=torch.zeros_like(rows.spec), slots=slots)
            o: Tensor = right(q, k, v, g, beta, pool, plain, order)
            return o

        return advance

    return replaced(path, {ADVANCE: wrong})
