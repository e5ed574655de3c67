"""A stream of tokens on a few rows, and the chains of launches that advance it, each step of one kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gdn_verify.cases.case import Batch, Row
from gdn_verify.cases.contract import Group
from gdn_verify.cases.narrow import taken_groups
from gdn_verify.cases.presentation import Presentation
from gdn_verify.checks.laws.shots import Chain, Numbers, Setting, Shot
from gdn_verify.paths.base import Path

ROWS = 2
LONGEST = 70
"""The most tokens of a prompt in a stream."""
Commits = tuple[tuple[tuple[int, ...], int], ...]


@dataclass(frozen=True)
class Step:
    """A launch of all rows of a stream: `tokens` each as rows of `group`, the first `accepted` of them the stream's."""

    group: Group
    tokens: int
    accepted: int
    path: Path | None = None


@dataclass(frozen=True)
class Stream:
    """Rows of `length` tokens each, of which `kept` belong to the stream and the rest are drafts to be rejected.

    Row n owns slots n·S … n·S + S - 1, the first of which is that of its plain states.
    """

    setting: Setting
    kept: int
    length: int

    @classmethod
    def of(cls, setting: Setting, kept: int, needs_first_slot: int = 0) -> Stream:
        """A stream with the shape, the recipes and the layout of the setting's case."""
        S = setting.case.geometry.S
        length = kept + S
        rows = tuple(Row(length, (n * S,)) for n in range(ROWS))
        case = replace(setting.case, slots=ROWS * S, batches=(Batch(rows),))
        first = max(setting.presentation.first_slot, needs_first_slot)
        made = Setting.of(case, replace(setting.presentation, first_slot=first), setting.path, setting.host)
        return cls(made, kept, length)

    def chain(self, steps: Sequence[Step]) -> Chain:
        """The launches of these steps, one after the other; a plain step after a draft comes after a commit."""
        shots: list[Shot] = []
        at, before = 0, Step(Group.DECODE, 1, 1)
        for step in steps:
            shots.append(self._shot(step, at, before))
            at, before = at + step.accepted, step
        return Chain(self.setting.pools, tuple(shots))

    def _shot(self, step: Step, at: int, before: Step) -> Shot:
        rows = [self._row(n, step, before) for n in range(ROWS)]
        sources = [self._sources(n, step, at) for n in range(ROWS)]
        shot = self.setting.shot(list(zip(rows, sources, strict=True)))
        spec = step.group is Group.SPEC
        commits: Commits = ()
        if before.group is Group.SPEC and not spec and before.accepted > 1:
            commits = tuple((self._table(n), before.accepted) for n in range(ROWS))
        within = np.concatenate([np.arange(step.tokens) < step.accepted] * ROWS)
        return replace(shot.numbered(within), commits=commits)

    def _table(self, n: int) -> tuple[int, ...]:
        S = self.setting.case.geometry.S
        return tuple(range(n * S, n * S + S))

    def _row(self, n: int, step: Step, before: Step) -> Row:
        if step.group is not Group.SPEC:
            return Row(step.tokens, self._table(n)[:1])
        accepted = before.accepted if before.group is Group.SPEC else 1
        return Row(step.tokens, self._table(n), accepted=accepted)

    def _sources(self, n: int, step: Step, at: int) -> Numbers:
        """The stream's next tokens, then drafts that are none of it."""
        start = n * self.length
        drafts = start + self.kept + np.arange(step.tokens - step.accepted)
        return np.concatenate([start + at + np.arange(step.accepted), drafts])


def plainest(path: Path, kept: int) -> list[Step]:
    """The path's own way through `kept` tokens: one prompt, else decodes, else drafts of one token each."""
    taken = taken_groups(path.capabilities)
    most = path.capabilities.max_tokens
    if Group.PREFILL in taken and kept > 1 and (most is None or kept <= most):
        return [Step(Group.PREFILL, kept, kept)]
    group = Group.DECODE if Group.DECODE in taken else Group.SPEC
    return [Step(group, 1, 1)] * kept


def fitted(shown: Presentation, path: Path) -> Presentation:
    """The presentation as a path takes it: parts that it refuses are those that it takes."""
    c = path.capabilities
    if shown.packing not in c.packings:
        shown = replace(shown, packing=min(c.packings))
    if shown.state_order not in c.state_orders:
        shown = replace(shown, state_order=min(c.state_orders))
    if shown.conv_layout not in c.conv_layouts:
        shown = replace(shown, conv_layout=min(c.conv_layouts))
    if not c.strided or not c.pool:
        shown = replace(shown, slot_pad=0, table_pad=0, row_pad=shown.row_pad if c.strided else 0)
    return shown if c.misaligned else replace(shown, misalign=0)
