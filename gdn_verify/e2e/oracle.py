"""The suite's float64 oracle as a path, so that an engine can run on it: conv, gates and recurrence over any launch.

Not registered: a gate that held the oracle to itself would prove nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gdn_verify.cases.case import Case, Row
from gdn_verify.cases.contract import Capabilities, Span, Stage, StateOrder
from gdn_verify.cases.presentation import Presentation
from gdn_verify.checks.question import double
from gdn_verify.oracles.compose import Draw, Problem, clean, evaluate
from gdn_verify.oracles.noise import Rounding
from gdn_verify.oracles.rounding import sequential_float32
from gdn_verify.oracles.stages import conv_history, next_conv_state
from gdn_verify.paths.base import Launch, Missing, Outputs, Path

if TYPE_CHECKING:
    from gdn_verify.oracles.compose import Array

PARAMETERS = ("conv_weight", "conv_bias", "A_log", "dt_bias")


class Oracle(Path):
    """`oracles.compose` on a launch's own tensors; with a `draw`, one run of it under honest noise."""

    name = "oracle"
    hosts = ("cpu", "interpreter", "cuda", "rocm")
    capabilities = Capabilities(Span(Stage.CONV, Stage.DELTA))

    def missing(self, host: str) -> Missing | None:
        return None

    def load(self, host: str) -> str:
        import gdn_verify

        return gdn_verify.__version__

    def run(self, launch: Launch) -> Outputs:
        return self.perturbed(launch, clean())

    def perturbed(self, launch: Launch, draw: Draw) -> Outputs:
        """Run number `draw.first` of that draw."""
        import torch

        live = [row for _, row in launch.batch.live_rows()]
        starts, rows = launch.batch.query_start_loc, launch.batch.rows
        tokens = [t for n, row in enumerate(rows) if row.live for t in range(starts[n], starts[n + 1])]
        problem = _problem(launch, live, tokens)
        made = evaluate(problem, draw)
        launch["out"].zero_()
        launch["out"][tokens] = torch.from_numpy(made["o"][0]).to(launch["out"])
        _store_states(launch, live, made["h"][0], problem.every_token)
        _store_windows(launch, live, tokens)
        return Outputs(o=launch["out"])

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        return sequential_float32(case.dtypes)


def _problem(launch: Launch, live: list[Row], tokens: list[int]) -> Problem:
    g = launch.geometry
    tensors = {name: double(launch[name]) for name in PARAMETERS if launch.get(name) is not None}
    tensors |= {"x": double(launch["mixed_qkv"][tokens]), **{n: double(launch[n][tokens]) for n in ("a", "b")}}
    states = [_state(launch, row) for row in live]
    windows = [_window(launch, row) for row in live]
    return Problem(
        geometry=g,
        options=launch.options,
        span=Oracle.capabilities.span,
        query_start_loc=np.cumsum([0, *(row.tokens for row in live)]).astype(np.int64),
        tensors=tensors,
        state=np.stack(states) if states else np.zeros((0, g.HV, g.V, g.K)),
        history=np.stack(windows) if windows else np.zeros((0, g.D, g.W - 1)),
        every_token=any(row.spec for row in live),
    )


def _slot(launch: Launch, slot: int | None) -> int:
    return launch.presentation.physical(slot)


def _state(launch: Launch, row: Row) -> Array:
    g = launch.geometry
    if row.fresh:
        return np.zeros((g.HV, g.V, g.K))
    state = launch["ssm_pool"][_slot(launch, row.read_slot)]
    return double(state.mT if launch.presentation.state_order is StateOrder.KV else state)


def _window(launch: Launch, row: Row) -> Array:
    slot = row.read if row.read is not None else row.conv_slot
    return conv_history(
        double(launch["conv_pool"][_slot(launch, slot)]), launch.geometry.W, not row.fresh, row.accepted
    )


def _store_states(launch: Launch, live: list[Row], h: Array, every_token: bool) -> None:
    import torch

    pool, start = launch["ssm_pool"], 0
    for number, row in enumerate(live):
        kept = range(row.tokens) if row.spec else (row.tokens - 1,)
        for token in kept:
            state = torch.from_numpy(h[start + token if every_token else number]).to(pool.dtype)
            slot = row.slots[token] if row.spec else row.slots[0]
            if slot is not None:
                pool[_slot(launch, slot)] = state.mT if launch.presentation.state_order is StateOrder.KV else state
        start += row.tokens


def _store_windows(launch: Launch, live: list[Row], tokens: list[int]) -> None:
    """Conv slots after the launch: exact copies in the pool's type, by way of float64."""
    import torch

    pool, start = launch["conv_pool"], 0
    x = double(launch["mixed_qkv"][tokens].to(pool.dtype))
    for row in live:
        slot = pool[_slot(launch, row.conv_slot)]
        read = slot if row.read is None else pool[_slot(launch, row.read)]
        new = _next_window(double(slot), double(read), x[start : start + row.tokens], launch.geometry.W, row)
        slot.copy_(torch.from_numpy(new).to(pool.dtype))
        start += row.tokens


def _next_window(slot: Array, read: Array, x: Array, width: int, row: Row) -> Array:
    new = next_conv_state(read, x, width, not row.fresh, row.accepted)
    if row.read is not None:
        new[:, width - 1 :] = slot[:, width - 1 :]
    return new
