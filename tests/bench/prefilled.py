"""Contenders for tests of prefill: the PyTorch fallback as one that is right, and ways of being wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from gdn_verify.bench.contender import Contender, Launch, PrefillInputs, Results, Setting
from gdn_verify.bench.prefill.reference import evaluate
from gdn_verify.bench.sizes import RECURRENCE
from gdn_verify.cases.contract import DType, Geometry, StateOrder
from gdn_verify.kernels.delta import delta_rule
from gdn_verify.kernels.stages import qk_norm

TINY = Geometry(2, 4, 8, 16)
LENGTHS = (5, 1, 9)


def setting(
    geometry: Geometry = TINY,
    lengths: tuple[int, ...] = LENGTHS,
    state: DType = DType.F32,
    fresh: bool = False,
) -> Setting:
    """A small one."""
    return Setting.prefill(geometry, lengths, state, fresh)


def fallback(**declared: Any) -> Contender:
    """The project's fallback, which updates its pool."""
    order = declared.get("state_order", StateOrder.VK)

    def prepare(inputs: PrefillInputs) -> Launch:
        def launch() -> Results:
            q, k = qk_norm(inputs.q, inputs.k)
            tables = inputs.state_indices, inputs.query_start_loc, inputs.has_initial_state
            operands = q, k, inputs.v, inputs.g, inputs.beta, inputs.pool, *tables
            delta_rule(*operands, output=inputs.out, state_order=order.value)
            return Results(inputs.out)

        return launch

    return Contender("fallback", "1", RECURRENCE, prepare, **declared)


def dense() -> Contender:
    """The float64 equations, rounded once; states are returned."""

    def prepare(inputs: PrefillInputs) -> Launch:
        def launch() -> Results:
            out, h = evaluate(inputs, StateOrder.VK, list(range(inputs.geometry.HV)))
            return Results(inputs.out.copy_(out), h.to(inputs.pool.dtype))

        return launch

    return Contender("dense", "1", RECURRENCE, prepare, in_place=False)


Spoil = Callable[[PrefillInputs, Results], Results | None]


def spoiled(spoil: Spoil, contender: Contender | None = None) -> Contender:
    """A right contender, after whose launch `spoil` does its damage."""
    right = contender or fallback()

    def prepare(inputs: PrefillInputs) -> Launch:
        launch = right.prepare(inputs)

        def launch_and_spoil() -> Results:
            results = launch()
            return spoil(inputs, results) or results

        return launch_and_spoil

    return replace(right, name="spoiled", prepare=prepare)


def misfed(**changed: Callable[[PrefillInputs], torch.Tensor]) -> Contender:
    """A right contender that reads something else in place of an input."""
    right = fallback()

    def prepare(inputs: PrefillInputs) -> Launch:
        return right.prepare(replace(inputs, **{name: make(inputs) for name, make in changed.items()}))

    return replace(right, name="misfed", prepare=prepare)
