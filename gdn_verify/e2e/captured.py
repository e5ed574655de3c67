"""One launch as it ran in the engine: what it found, what it was given and what it left, on a pool of its own.

Only slots that the launch names are kept, and those that its layer has written before. Numbered anew, the launch is a
batch of a `Case`, so that the suite asks its oracle about it as about any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.contract import DType, StateOrder
from gdn_verify.checks.question import Written, ask, double, observed, stored_only, written
from gdn_verify.e2e.oracle import PARAMETERS, Oracle
from gdn_verify.feed import Feed, Pools
from gdn_verify.oracles.compose import Array, Problem, clean, evaluate
from gdn_verify.oracles.noise import Expected
from gdn_verify.oracles.stages import next_conv_state
from gdn_verify.paths.base import Launch, Outputs

if TYPE_CHECKING:
    from torch import Tensor

    from gdn_verify.cases.presentation import Presentation

SPAN = Oracle.capabilities.span


@dataclass
class Captured:
    """A launch: `inputs` by the oracle's names, pools of the named slots before and, once it is finished, after it.

    `others` are slots that this layer has written in earlier launches and that this one does not name.
    """

    case: Case
    presentation: Presentation
    inputs: Mapping[str, Tensor]
    before: Pools
    slots: tuple[int, ...]
    others: tuple[int, ...]
    bystanders: Pools
    out: Tensor | None = None
    after: Pools = field(default_factory=lambda: Pools(None, None))
    disturbed: tuple[int, ...] = ()

    def finish(self, launch: Launch) -> None:
        """The launch has run."""
        self.out = launch["out"].clone()
        self.after = _pools(launch, self.slots)
        now = _pools(launch, self.others)
        assert self.bystanders.ssm is not None
        assert self.bystanders.conv is not None
        assert now.ssm is not None
        assert now.conv is not None
        pairs = zip(self.others, self.bystanders.ssm, now.ssm, self.bystanders.conv, now.conv, strict=True)
        self.disturbed = tuple(slot for slot, a, b, c, d in pairs if not (_same(a, b) and _same(c, d)))
        self.bystanders = Pools(None, None)

    @cached_property
    def _feed(self) -> Feed:
        tensors: dict[str, Any] = {**self.inputs}
        launch = Launch(
            self.case.geometry, self.case.dtypes, self.case.options, self.case.batches[0], self.presentation, tensors
        )
        return Feed(self.case, 0, self.presentation, launch, None, self.inputs, self.before)  # type: ignore[arg-type]

    @cached_property
    def problem(self) -> Problem:
        """The launch as the oracle is asked."""
        return ask(self._feed, SPAN)

    @cached_property
    def stored(self) -> list[Written]:
        """The states that it should have stored."""
        return written(self._feed, self.problem.every_token)

    @cached_property
    def observed(self) -> dict[str, Array]:
        """What it computed and stored, by the oracle's names."""
        assert self.out is not None
        return observed(self._feed, Outputs(o=self.out), self.after.ssm, self.problem.every_token)

    def untouched(self) -> str:
        """What is wrong in memory that must not change, or is a copy; "" if nothing."""
        if self.disturbed:
            return f"slots {list(self.disturbed)} changed, and no row of this launch names them"
        return self._windows() or self._kept()

    def _windows(self) -> str:
        assert self.before.conv is not None
        assert self.after.conv is not None
        g, starts = self.case.geometry, self.case.batches[0].query_start_loc
        x = self.inputs["x"].to(self.before.conv.dtype)
        for number, row in enumerate(self.case.batches[0].rows):
            if (slot := row.slots[0]) is None:
                continue
            old = double(self.before.conv[slot])
            new = next_conv_state(
                old, double(x[starts[number] : starts[number + 1]]), g.W, not row.fresh, row.accepted
            )  # fmt: skip
            got = double(self.after.conv[slot])
            kept = g.W - 1 if row.accepted is None else g.W - 2 + row.tokens
            if not np.array_equal(new[:, :kept], got[:, :kept], equal_nan=True):
                where = np.argwhere(new[:, :kept] != got[:, :kept])[0].tolist()
                return f"the conv window of row {number} is no copy of its inputs: channel and column {where} differ"
        return ""

    def _kept(self) -> str:
        """Columns of a draft's table that it has no token for."""
        assert self.before.ssm is not None
        assert self.after.ssm is not None
        for number, row in enumerate(self.case.batches[0].rows):
            for slot in set(row.slots) - set(row.written):
                if slot is not None and not _same(self.before.ssm[slot], self.after.ssm[slot]):
                    return f"row {number} changed the state in its slot {slot}, which it has no token for"
        return ""

    def suspicious(self, units: Mapping[DType, float]) -> bool:
        """Whether some row is farther from the exact result than so many units of its own type's roundoff."""
        exact = evaluate(self.problem, clean())
        wanted = {name: Expected(exact[name][0], exact[name][0][..., 0]) for name in ("o", "h")}
        kept = stored_only(wanted, self.stored)
        dtypes = {"o": self.case.dtypes.activation, "h": self.case.dtypes.state}
        for name, got in self.observed.items():
            value = kept[name].value
            error = np.sqrt(np.square(got - value).sum(-1))
            size = np.sqrt(np.square(value).sum(-1))
            dtype = dtypes[name]
            if not (error <= units[dtype] * dtype.unit_roundoff * size + dtype.underflow).all():
                return True
        return False

    def arrays(self) -> dict[str, Array]:
        """All of it as float64 arrays, for a file."""
        pools = {"before": self.before, "after": self.after}
        named = {f"{when}/{n}": getattr(pool, n) for when, pool in pools.items() for n in ("ssm", "conv")}
        every = {**self.inputs, "out": self.out, **named}
        return {name: double(value) for name, value in every.items() if value is not None}


def captured(launch: Launch, known: Iterable[int]) -> Captured:
    """The launch before it runs. `known` are slots that its layer has written."""
    named = sorted({s for row in launch.batch.rows for s in (*row.slots, row.read) if s is not None})
    others = tuple(sorted(set(known) - set(named)))
    inputs = {"x": launch["mixed_qkv"].clone(), "a": launch["a"].clone(), "b": launch["b"].clone()}
    inputs |= {name: value for name in PARAMETERS if (value := launch.get(name)) is not None}
    batch = renumbered(launch.batch, named)
    case = Case(launch.geometry, launch.dtypes, max(len(named), 1), (batch,), options=launch.options)
    return Captured(
        case, launch.presentation, inputs, _pools(launch, named), tuple(named), others, _pools(launch, others)
    )


def renumbered(batch: Batch, named: list[int]) -> Batch:
    """The batch with slots named by their place in `named`."""
    place = {slot: number for number, slot in enumerate(named)}

    def row_of(row: Row) -> Row:
        slots = tuple(None if slot is None else place[slot] for slot in row.slots)
        return replace(row, slots=slots, read=None if row.read is None else place[row.read])

    return replace(batch, rows=tuple(row_of(row) for row in batch.rows))


def _pools(launch: Launch, slots: Iterable[int]) -> Pools:
    """Copies of these slots, in the contract's layout."""
    wanted = list(slots)
    ssm, conv = launch["ssm_pool"][wanted], launch["conv_pool"][wanted]
    return Pools(ssm.mT.contiguous() if launch.presentation.state_order is StateOrder.KV else ssm, conv.contiguous())


def _same(a: Tensor, b: Tensor) -> bool:
    """Bit for bit."""
    return torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8))
