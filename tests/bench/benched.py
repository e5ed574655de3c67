"""Contenders for tests: the PyTorch fallback as one that is right, and ways of being wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from gdn_verify.bench.contender import Contender, Inputs, Launch, Results, Setting
from gdn_verify.bench.ours import RECURRENCE, UN_NORMED, WHOLE, layer
from gdn_verify.bench.reference import conv_pool_after, evaluate
from gdn_verify.cases.contract import ConvLayout, DType, Geometry, Span, Stage, StateOrder
from gdn_verify.kernels.fallback import gated_delta_net_packed
from gdn_verify.kernels.rows import Tables

TINY = Geometry(2, 4, 8, 16)
DRAFTS = Geometry(2, 4, 8, 16, num_spec=2)


def setting(geometry: Geometry = TINY, rows: int = 3, state: DType = DType.F32) -> Setting:
    """A small one."""
    return Setting(geometry, rows, state)


def fallback(span: Span = WHOLE, **declared: Any) -> Contender:
    """The project's fallback; right, and slow."""
    order = declared.get("state_order", StateOrder.VK)

    def prepare(inputs: Inputs) -> Launch:
        tables = Tables(
            inputs.query_start_loc, inputs.state_indices, num_accepted_tokens=inputs.num_accepted_tokens
        )  # fmt: skip
        operands = (inputs.qkvz, inputs.ba, layer(inputs, norm=span == WHOLE), inputs.conv_pool, inputs.pool, tables)
        return lambda: Results(gated_delta_net_packed(*operands, state_order=order.value, output=inputs.out)[0])

    return Contender("fallback", "1", span, prepare, **declared)


def exact(span: Span, **declared: Any) -> Contender:
    """The float64 equations, rounded once, for spans that the fallback does not have."""
    order = declared.get("state_order", StateOrder.VK)

    def prepare(inputs: Inputs) -> Launch:
        def launch() -> Results:
            out, h = evaluate(inputs, span, order, slice(0, inputs.setting.rows))
            if Stage.CONV in span:
                inputs.conv_pool.copy_(conv_pool_after(inputs))
            states = h.flatten(0, 1) if order is StateOrder.VK else h.flatten(0, 1).transpose(-1, -2)
            inputs.out.copy_(out.flatten(0, 1))
            if not declared.get("in_place", True):
                return Results(inputs.out, states.float())
            inputs.pool[inputs.state_indices.flatten().long()] = states.to(inputs.pool.dtype)
            return Results(inputs.out)

        return launch

    return Contender("exact", "1", span, prepare, **declared)


Spoil = Callable[[Inputs, Results], Results | None]


def spoiled(spoil: Spoil, contender: Contender | None = None) -> Contender:
    """A right contender, after whose launch `spoil` does its damage."""
    right = contender or fallback()

    def prepare(inputs: Inputs) -> Launch:
        launch = right.prepare(inputs)

        def launch_and_spoil() -> Results:
            results = launch()
            return spoil(inputs, results) or results

        return launch_and_spoil

    return replace(right, name="spoiled", prepare=prepare)


def misfed(contender: Contender | None = None, **changed: Callable[[Inputs], torch.Tensor]) -> Contender:
    """A right contender that reads something else in place of an input: the wrong gate, the wrong parameter."""
    right = contender or fallback()

    def prepare(inputs: Inputs) -> Launch:
        return right.prepare(replace(inputs, **{name: make(inputs) for name, make in changed.items()}))

    return replace(right, name="misfed", prepare=prepare)


CORNERS = [(order, layout) for order in StateOrder for layout in ConvLayout]
"""Every layout that a contender may ask for."""

__all__ = ["CORNERS", "DRAFTS", "RECURRENCE", "TINY", "UN_NORMED", "WHOLE"]
