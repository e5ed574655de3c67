"""Looks at every launch of a run, in the engine, and stops at the first that is wrong: where a wrong token comes from.

Four questions, in the order in which an error of one would show in the next. Are the rows those that the scheduler
asked for? Does each row find the state that was left for its request, bit for bit? Does the launch compute what the
oracle does from what it found, within its noise? And is every other slot as it was, every conv window an exact copy?
No other run is needed to answer them: a request's state is known by the tokens that it has seen.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from typing import TYPE_CHECKING

import torch

from gdn_verify.cases.case import Batch, Row
from gdn_verify.cases.contract import DType
from gdn_verify.checks.values import HASTY
from gdn_verify.checks.values import judge as judge_values
from gdn_verify.e2e.account import Turn
from gdn_verify.e2e.captured import Captured, captured
from gdn_verify.e2e.cores import TABLES
from gdn_verify.e2e.seam import Call, Core
from gdn_verify.paths.base import Launch, Path

if TYPE_CHECKING:
    from torch import Tensor

    from gdn_verify.hosts import Host

MOST_UNITS = {DType.F32: 256.0, DType.BF16: 4.0, DType.F16: 4.0}
"""A row whose error is below so many units of roundoff of its own size needs no budget to be found right. Of bfloat16
256 of them would be all of it."""


class Tier(StrEnum):
    """Where a launch went wrong."""

    TABLES = "metadata"
    HANDOVER = "handover"
    KERNEL = "kernel"


@dataclass(frozen=True)
class Wrong:
    """The first wrong launch: turn (from 0) and layer, what was found, and the layer's launches up to it."""

    tier: Tier
    turn: int
    layer: str
    message: str
    launch: Captured
    history: tuple[Batch, ...]


@dataclass
class Watch:
    """A watcher of a run (`seam.Watcher`) whose candidate rounds as `path` declares.

    `given` are the tables that the path itself was handed in the last launch, which a defect may have changed on the
    way; empty for an engine's own core. `unknown` counts rows whose state was left before the watch began.
    """

    path: Path
    host: Host
    given: dict[str, Tensor] = field(default_factory=dict)
    wrong: Wrong | None = None
    launches: int = 0
    unknown: int = 0
    _turn: Turn | None = None
    _turns: int = -1
    _history: dict[str, list[Batch]] = field(default_factory=lambda: defaultdict(list))
    _left: dict[tuple[str, tuple[int, ...]], set[bytes]] = field(default_factory=lambda: defaultdict(set))
    _slots: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))

    def __call__(self, call: Call, turn: Turn, core: Core) -> None:
        if self.wrong is not None:
            call.launch["out"].zero_()  # what is said from here on is not asked
            return
        if turn is not self._turn:
            self._turn, self._turns = turn, self._turns + 1
        self.launches += 1
        self._history[call.name].append(call.launch.batch)
        seen = captured(call.launch, self._slots[call.name])
        self.given.clear()
        found = self._misfed(call, turn)
        try:
            core(call)
        except Exception as error:
            found = found or (Tier.KERNEL, f"raised {type(error).__name__}: {error}")
        seen.finish(call.launch)
        found = found or self._misled(call.launch) or self._miscomputed(seen)
        if found:
            self.wrong = Wrong(
                found[0], self._turns, call.name, found[1], seen, tuple(self._history[call.name])
            )  # fmt: skip
            return
        self._leave(call, turn)

    def _misfed(self, call: Call, turn: Turn) -> tuple[Tier, str] | None:
        """Rows against the scheduler's; the bytes that each is to read against those that were left for its request."""
        rows = call.launch.batch.rows
        for number, (row, seat) in enumerate(zip(rows, turn.seats, strict=False)):
            asked = seat.row
            here = (row.tokens, row.fresh, row.accepted)
            if here != (asked.tokens, asked.fresh, asked.accepted):
                wanted = f"tokens={asked.tokens}, fresh={asked.fresh}, accepted={asked.accepted}"
                return Tier.TABLES, f"row {number} is {row}; the scheduler asked for {wanted}"
        if len(rows) != len(turn.seats):
            return Tier.TABLES, f"{len(rows)} rows, and the scheduler asked for {len(turn.seats)}"
        return self._lost(call, turn)

    def _lost(self, call: Call, turn: Turn) -> tuple[Tier, str] | None:
        for number, (row, seat) in enumerate(zip(call.launch.batch.rows, turn.seats, strict=True)):
            if row.fresh or not row.live:
                continue
            known = self._left.get((call.name, seat.tokens[: seat.start]))
            if known is None:
                self.unknown += 1
            elif state_bytes(call.launch, row) not in known:
                found = f"reads in slot {row.read_slot} what no launch left behind its first {seat.start} tokens"
                return Tier.HANDOVER, f"row {number} (request {seat.request}) {found}"
        return None

    def _misled(self, launch: Launch) -> tuple[Tier, str] | None:
        """The tables that reached the path, against those that the engine gave."""
        for name in TABLES if self.given else ():
            want, got = launch.get(name), self.given.get(name)
            if want is None and name == "read_indices" and got is not None:
                want = launch["state_indices"].reshape(len(got), -1)[:, 0]
            if want is not None and (got is None or want.tolist() != got.tolist()):
                return Tier.TABLES, f"{name} is {None if got is None else got.tolist()}, of these rows {want.tolist()}"
        return None

    def _miscomputed(self, seen: Captured) -> tuple[Tier, str] | None:
        if message := seen.untouched():
            return Tier.KERNEL, message
        if not seen.suspicious(MOST_UNITS):
            return None
        rounding = self.path.rounding(seen.case, seen.presentation, self.host.name)
        judged = judge_values(seen.problem, rounding, seen.stored, seen.observed, draws=HASTY)
        return (Tier.KERNEL, judged.findings[0].message) if judged.findings else None

    def _leave(self, call: Call, turn: Turn) -> None:
        """Remember what is behind each prefix now, and which slots this layer has written."""
        for row, seat in zip(call.launch.batch.rows, turn.seats, strict=True):
            self._slots[call.name].update(row.written)
            for token in range(row.tokens) if row.spec else (row.tokens - 1,):
                left = left_bytes(call.launch, row, token)
                self._left[call.name, seat.prefix(token)].add(left)


def state_bytes(launch: Launch, row: Row) -> bytes:
    """A digest of the state and the conv history that a row reads."""
    window = launch["conv_pool"][row.conv_slot]
    width = launch.geometry.W
    history = window[:, (row.accepted or 1) - 1 : (row.accepted or 1) + width - 2]
    return _digest(launch["ssm_pool"][row.read_slot], history)


def left_bytes(launch: Launch, row: Row, token: int) -> bytes:
    """The same of what a row has left behind its token number `token`, as the next launch will read it."""
    width = launch.geometry.W
    slot = row.slots[token] if row.spec else row.slots[0]
    shift = token if row.spec else 0
    history = launch["conv_pool"][row.slots[0]][:, shift : shift + width - 1]
    return _digest(launch["ssm_pool"][slot], history)


def _digest(*tensors: Tensor) -> bytes:
    made = blake2b(digest_size=16)
    for tensor in tensors:
        made.update(tensor.contiguous().view(torch.uint8).cpu().numpy().tobytes())
    return made.digest()
