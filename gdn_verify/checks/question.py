"""From a launch to the oracle's question and the path's answer, both over live rows and in float64."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gdn_verify.cases.case import Row
from gdn_verify.cases.contract import Span, Stage, StateOrder
from gdn_verify.feed import PARAMETERS, Feed, dense_states
from gdn_verify.oracles.compose import Array, Problem
from gdn_verify.oracles.noise import Expected
from gdn_verify.paths.base import Outputs
from gdn_verify.verdict import Check, Finding


def double(tensor: Tensor) -> Array:
    """A tensor of any storage type as contiguous float64 on the processor; exact."""
    return np.ascontiguousarray(tensor.detach().to("cpu", torch.float64).numpy())


@dataclass(frozen=True)
class Written:
    """A state that the launch stores: whose it is, the slot it goes to, its token among all live ones, and where the
    oracle's h has it."""

    row: int
    token: int
    slot: int
    live_token: int
    index: int


def written(feed: Feed, every_token: bool) -> list[Written]:
    """All states of live rows that have a slot to go to, in order of rows and tokens."""
    found: list[Written] = []
    start = 0
    for live, (number, row) in enumerate(feed.batch.live_rows()):
        tokens = range(row.tokens) if row.spec else (row.tokens - 1,)
        for token in tokens:
            slot = row.slots[token] if row.spec else row.slots[0]
            if slot is not None:
                found.append(Written(number, token, slot, start + token, len(found) if every_token else live))
        start += row.tokens
    return found


def ask(feed: Feed, span: Span) -> Problem:
    """The launch as the oracle sees it: the inputs after rounding, the pools as the launch found them."""
    live = list(feed.batch.live_rows())
    lengths = [row.tokens for _, row in live]
    every_token = any(row.spec for _, row in live)
    tensors = {
        name: double(value if name in PARAMETERS else value[torch.from_numpy(feed.live_tokens)])
        for name, value in feed.rounded.items()
    }
    return Problem(
        geometry=feed.case.geometry,
        options=feed.case.options,
        span=span,
        query_start_loc=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        tensors=tensors,
        state=_states(feed, live) if Stage.DELTA in span else None,
        history=_histories(feed, [row for _, row in live]) if Stage.CONV in span else None,
        every_token=every_token,
        kept=np.array([state.live_token for state in written(feed, True)], np.int64) if every_token else None,
    )


def _states(feed: Feed, live: list[tuple[int, Row]]) -> Array:
    assert feed.before.ssm is not None
    states = dense_states(feed.case, feed.number, feed.presentation, feed.before.ssm)
    return double(states[[number for number, _ in live]])


def history_of(feed: Feed, row: Row) -> Tensor:
    """The W-1 inputs before a row's first token, oldest first, [D, W-1], in the pool's dtype; zeros if fresh."""
    pool, past = feed.before.conv, feed.case.geometry.W - 1
    assert pool is not None
    slot = row.read if row.read is not None else row.conv_slot
    assert slot is not None
    start = (row.accepted or 1) - 1
    columns = pool[feed.physical(slot), :, start : start + past]
    return torch.zeros_like(columns) if row.fresh else columns


def _histories(feed: Feed, live: list[Row]) -> Array:
    g = feed.case.geometry
    found = [double(history_of(feed, row)) for row in live]
    return np.stack(found) if found else np.zeros((0, g.D, g.W - 1))


def malformed(feed: Feed, outputs: Outputs, span: Span) -> Iterator[Finding]:
    """Results that are missing, unknown or of another shape, said before anything is compared: nothing is broadcast."""
    wanted = _result_shapes(feed)
    given = {name: tuple(value.shape) for name, value in outputs.stages.items()}
    o = outputs.o
    given["result"] = tuple(o.reshape(-1, *o.shape[-2:]).shape) if o.ndim > 3 else tuple(o.shape)
    if outputs.final_state is not None:
        given["final_state"] = tuple(outputs.final_state.shape)
    elif Stage.DELTA in span and "initial_state" in feed.launch.tensors:
        yield Finding(Check.VALUES, "final_state is missing", "a path that takes dense states gives new ones back")
    yield from _misplaced(feed, outputs)
    for name, shape in given.items():
        if shape != wanted.get(name):
            message = f"{name} has shape {shape}, expected {wanted.get(name, 'no such result')}"
            yield Finding(Check.VALUES, f"{name} has a wrong shape", message)


def _misplaced(feed: Feed, outputs: Outputs) -> Iterator[Finding]:
    """Results elsewhere than where an engine would look for them."""
    out = feed.launch["out"]
    if outputs.o.data_ptr() != out.data_ptr() or outputs.o.dtype != out.dtype:
        yield Finding(Check.VALUES, "result is not in out", "Outputs.o is not launch['out']: fill it and give it back")
    if outputs.final_state is not None and "ssm_pool" in feed.launch.tensors:
        message = "a path that takes a pool updates it in place; final_state is for dense states"
        yield Finding(Check.VALUES, "final_state beside a pool", message)


def _result_shapes(feed: Feed) -> dict[str, tuple[int, ...]]:
    g, batch = feed.case.geometry, feed.batch
    tokens = batch.tokens + batch.pad_tokens
    values, keys, heads = (tokens, g.HV, g.V), (tokens, g.H, g.K), (tokens, g.HV)
    state = (g.V, g.K) if feed.presentation.state_order is StateOrder.VK else (g.K, g.V)
    stages = {"conv": (tokens, g.D), "g": heads, "beta": heads, "q_hat": keys, "k_hat": keys, "o": values}
    return {**stages, "result": values, "final_state": (len(batch.rows), g.HV, *state)}


def observed(feed: Feed, outputs: Outputs, after: Tensor | None, every_token: bool) -> dict[str, Array]:
    """The path's results for live rows, named as the oracle names them: o or out, and h as stored."""
    name = "out" if "norm_weight" in feed.rounded else "o"
    found = {name: double(outputs.o.reshape(-1, *outputs.o.shape[-2:])[_live(feed, outputs.o.device)])}
    states = _observed_states(feed, outputs, after, every_token)
    return found if states is None else {**found, "h": states}


def _live(feed: Feed, device: torch.device) -> Tensor:
    return torch.from_numpy(feed.live_tokens).to(device)


def _observed_states(feed: Feed, outputs: Outputs, after: Tensor | None, every_token: bool) -> Array | None:
    stored = written(feed, every_token)
    if outputs.final_state is not None:
        final = outputs.final_state
        final = final.transpose(-1, -2) if feed.presentation.state_order is StateOrder.KV else final
        return double(final[[state.row for state in stored]])
    if after is None:
        return None
    return double(after[[feed.physical(state.slot) for state in stored]])


def stored_only(expected: Mapping[str, Expected], stored: list[Written]) -> dict[str, Expected]:
    """The oracle's results with h cut down to the states that are stored, in the order of `stored`."""
    kept = dict(expected)
    if (h := kept.get("h")) is not None:
        kept["h"] = Expected(states_of(h.value, stored), states_of(h.budget, stored))
    return kept


def states_of(h: Array, stored: list[Written]) -> Array:
    """Those of the oracle's states, or of their budgets, that are stored; `h` itself, not a copy, if all are."""
    index = np.array([state.index for state in stored], np.int64)
    return h if np.array_equal(index, np.arange(len(h))) else h[index]
