"""Launches with their numbers given: what a law lets a path run, and which results stand for which.

A case's recipes give each batch numbers of its own, so a law that cuts, packs or permutes launches takes tokens from
the tensors of one case. Every token of a launch carries a number; results of two launches are compared where the
numbers are equal: outputs of the token, the state stored after it, the convolution's history after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gdn_verify.cases import values as recipe
from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.contract import DTypes
from gdn_verify.cases.presentation import Presentation
from gdn_verify.feed import PARAMETERS, TORCH, Pools, initial_pools, inputs
from gdn_verify.hosts import Host
from gdn_verify.oracles.compose import Problem
from gdn_verify.paths.base import Path

Numbers = NDArray[np.int64]
Rows = Sequence[tuple[Row, Numbers]]
"""Rows of a launch, each with the numbers of its tokens."""
Breaks = Callable[[int, Problem], Problem]
"""What the oracle would be asked if the law were broken, of launch i of a chain: a measure of power."""
NOTHING: Numbers = np.zeros(0, np.int64)
NORMAL = recipe.Values(
    q=recipe.Vectors.NORMAL,
    k=recipe.Vectors.NORMAL,
    v=recipe.Fill.NORMAL,
    gates=recipe.Gates.NORMAL,
    beta=recipe.Betas.NORMAL,
    state=recipe.States.NORMAL,
    z=recipe.Fill.NORMAL,
)
"""Recipes of numbers that stand in for a case's."""


@dataclass(frozen=True)
class Shot:
    """One launch: a case of one batch, its inputs, and the number of each of its tokens, negative for none.

    `path` launches it where that is not the path judged; then, unless `outputs`, its states alone are compared.
    `commits` are spec rows' tables with the counts accepted from them, made plain states before this launch.
    """

    case: Case
    presentation: Presentation
    inputs: Mapping[str, Tensor]
    tokens: Numbers
    path: Path | None = None
    outputs: bool = True
    commits: tuple[tuple[tuple[int, ...], int], ...] = ()

    @property
    def batch(self) -> Batch:
        """The batch that is launched."""
        return self.case.batches[0]

    def numbered(self, mask: NDArray[np.bool_]) -> Shot:
        """Only tokens in `mask` are compared."""
        return replace(self, tokens=np.where(mask, self.tokens, -1))


@dataclass(frozen=True)
class Chain:
    """Launches one after the other, each from the pools as the one before left them."""

    pools: Pools
    shots: tuple[Shot, ...]


@dataclass(frozen=True)
class Setting:
    """One launch that a path takes, with its numbers: what the laws vary."""

    path: Path
    host: Host
    case: Case
    presentation: Presentation
    inputs: Mapping[str, Tensor]
    pools: Pools = field(repr=False)

    @classmethod
    def of(cls, case: Case, presentation: Presentation, path: Path, host: Host) -> Setting:
        """The first launch of `case`."""
        case = replace(case, batches=case.batches[:1])
        made = storable(inputs(case, 0, path.capabilities.span), case.dtypes)
        return cls(path, host, case, presentation, made, initial_pools(case, path, presentation))

    @property
    def batch(self) -> Batch:
        """The batch of the case."""
        return self.case.batches[0]

    @cached_property
    def base(self) -> Chain:
        """The launch as it is."""
        return Chain(self.pools, (self.shot(self.rows, self.padding),))

    @cached_property
    def rows(self) -> list[tuple[Row, Numbers]]:
        """The rows, each with the numbers of its tokens: their places in the launch."""
        starts = self.batch.query_start_loc
        return [(row, np.arange(starts[n], starts[n + 1])) for n, row in enumerate(self.batch.rows)]

    @property
    def live(self) -> list[tuple[Row, Numbers]]:
        """The rows that compute."""
        return [(row, at) for row, at in self.rows if row.live]

    @property
    def padding(self) -> Numbers:
        """The numbers of tokens beyond the last row."""
        return np.arange(self.batch.tokens, self.batch.tokens + self.batch.pad_tokens)

    def shot(self, rows: Rows, padding: Numbers = NOTHING, slots: int | None = None) -> Shot:
        """A launch of these rows over tokens of this one, at wish on a pool of another size."""
        numbers = np.concatenate([NOTHING, *(at for _, at in rows), padding])
        batch = Batch(tuple(row for row, _ in rows), len(padding))
        case = replace(self.case, batches=(batch,), slots=slots or self.case.slots)
        return Shot(case, self._marking(case.slots), taken(self.inputs, numbers), numbers)

    def _marking(self, slots: int) -> Presentation:
        """The presentation with a sentinel that is one in a pool of `slots`: what was none may be a slot of more."""
        ids = self.path.conventions.pad_ids(slots + self.presentation.first_slot)
        shown = self.presentation
        return shown if shown.sentinel in ids or not ids else replace(shown, sentinel=ids[0])

    def bits(self, name: str, count: int) -> list[int]:
        """Numbers that only the case decides, so that a saved one is judged in the same way again."""
        return [int(x) for x in recipe.bits(self.case.values.seed, f"law/{name}", (count,)) >> np.uint64(33)]

    def physical(self, slot: int) -> int:
        """A logical slot's place in the pools."""
        return slot + self.presentation.first_slot

    def foreign(self, where: NDArray[np.bool_]) -> dict[str, Tensor]:
        """The inputs with those of tokens `where` from another draw, of normal recipes."""
        values = replace(NORMAL, seed=(self.case.values.seed + 1) % 2**32)
        other = storable(inputs(replace(self.case, values=values), 0, self.path.capabilities.span), self.case.dtypes)
        mask = torch.from_numpy(where)
        return {
            name: value
            if name in PARAMETERS
            else torch.where(mask.reshape(-1, *[1] * (value.ndim - 1)), other[name], value)
            for name, value in self.inputs.items()
        }


def storable(made: dict[str, Tensor], dtypes: DTypes) -> dict[str, Tensor]:
    """The inputs with x as the conv pool can hold it, so that a history is the tokens that it is made of."""
    if "x" not in made:
        return made
    return {**made, "x": made["x"].to(TORCH[dtypes.conv_state]).to(made["x"].dtype)}


def taken(made: Mapping[str, Tensor], numbers: Numbers) -> dict[str, Tensor]:
    """Inputs of the tokens of these numbers, beside the parameters."""
    index = torch.from_numpy(numbers)
    return {name: value if name in PARAMETERS else value[index] for name, value in made.items()}


def with_states(pools: Pools, places: Sequence[int], ssm: Tensor | float, conv: float | None = None) -> Pools:
    """The pools with other recurrent states, and at wish histories, in these places."""
    made = pools
    if pools.ssm is not None:
        states = pools.ssm.clone()
        states[list(places)] = ssm if isinstance(ssm, float) else ssm.to(states.dtype)
        made = replace(made, ssm=states)
    if conv is not None and pools.conv is not None:
        histories = pools.conv.clone()
        histories[list(places)] = conv
        made = replace(made, conv=histories)
    return made


def extended(pools: Pools, places: Sequence[int]) -> Pools:
    """The pools with more slots at their ends, copies of those in these places."""

    def longer(pool: Tensor | None) -> Tensor | None:
        return None if pool is None else torch.cat([pool, pool[list(places)]])

    return Pools(longer(pools.ssm), longer(pools.conv))
