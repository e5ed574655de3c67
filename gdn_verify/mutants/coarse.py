"""Coarse defects, planted to measure rules of comparison: `peers` alone plants them.

Each takes a path and returns a defective `run`. All but the first two are of the fallback's recurrence.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from gdn_verify.mutants.inputs import Run
from gdn_verify.mutants.replaced import Function, replaced
from gdn_verify.paths.base import Launch, Outputs, Path

STEP = "delta._step"
COARSE = (
    "zero_output",
    "zero_state",
    "no_correction",
    "beta_of_one",
    "q_and_k_exchanged",
    "no_initial_state",
    "state_transposed",
    "read_before_write",
)
"""Names of the functions here."""


def zero_output(path: Path) -> Run:
    """Every output is zero; states are right."""

    def run(launch: Launch) -> Outputs:
        outputs = path.run(launch)
        launch["out"].zero_()
        return outputs

    return run


def zero_state(path: Path) -> Run:
    """Every state that is stored is zero; outputs are right."""
    return replaced(path, {"delta._store": lambda right, launch: lambda state, slots, h: right(state, slots, 0 * h)})


def no_correction(path: Path) -> Run:
    """u = β·v: nothing is taken off for what the state holds already."""

    def wrong(right: Function, launch: Launch) -> Function:
        def step(h: Tensor, q: Tensor, k: Tensor, v: Tensor, decay: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
            h = h * decay + (beta * v)[..., None] * k
            return h, (h * q).sum(-1)

        return step

    return replaced(path, {STEP: wrong})


def beta_of_one(path: Path) -> Run:
    """β is 1 throughout."""

    def wrong(right: Function, launch: Launch) -> Function:
        return lambda h, q, k, v, decay, beta: right(h, q, k, v, decay, torch.ones_like(beta))

    return replaced(path, {STEP: wrong})


def q_and_k_exchanged(path: Path) -> Run:
    """q and k change places before they are normalised and q is scaled."""
    return replaced(path, {"fallback.qk_norm": lambda right, launch: lambda q, k, *rest: right(k, q, *rest)})


def no_initial_state(path: Path) -> Run:
    """Every row starts from zeros."""

    def run(launch: Launch) -> Outputs:
        known = torch.zeros_like(launch["has_initial_state"])
        return path.run(replace(launch, tensors={**launch.tensors, "has_initial_state": known}))

    return run


def state_transposed(path: Path) -> Run:
    """A state is read with K and V exchanged."""

    def wrong(right: Function, launch: Launch) -> Function:
        def initial(*args: object) -> Tensor:
            h: Tensor = right(*args)
            return h.transpose(-1, -2).reshape(h.shape).contiguous()

        return initial

    return replaced(path, {"delta._initial": wrong})


def read_before_write(path: Path) -> Run:
    """o is read from the state before its token is written to it."""

    def wrong(right: Function, launch: Launch) -> Function:
        def step(h: Tensor, q: Tensor, k: Tensor, v: Tensor, decay: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
            after, _ = right(h, q, k, v, decay, beta)
            return after, (h * decay * q).sum(-1)

        return step

    return replaced(path, {STEP: wrong})
